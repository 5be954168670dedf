"""The gRPC channel to the agent: its bounds. Supervisor only; imported after QEMU has been spawned (grpc costs 100 ms).

Both transports end in a unix socket on the host (docs/design.md, Channel): QEMU's own chardev, or the vsock relay's.
"""

import grpc.aio

from katapy.protocol import names

_MAX_METADATA = 8192
_NO_REDIAL_MS = 3_600_000
"""Also what grpc grants a connection until the peer's first word: a slow guest may need minutes from its open port to
that. Deadlines are those of the calls."""

_MAX_FRAME = 1024 * 1024
"""Of HTTP/2: the most that the agent may send in one; with the default of 16 KiB a message of output is 16 of them."""

_OPTIONS = (
    ("grpc.max_receive_message_length", names.MAX_MESSAGE),
    ("grpc.max_send_message_length", names.MAX_MESSAGE),
    ("grpc.max_metadata_size", _MAX_METADATA),
    ("grpc.http2.max_frame_size", _MAX_FRAME),
    ("grpc.http2.lookahead_bytes", names.MAX_MESSAGE),
    ("grpc.enable_http_proxy", 0),
    # A virtio-serial port has one reader: a second connection beside a slow first one would only confuse both.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.min_reconnect_backoff_ms", _NO_REDIAL_MS),
    ("grpc.initial_reconnect_backoff_ms", _NO_REDIAL_MS),
)


def open_channel(socket_path: str) -> grpc.aio.Channel:
    """A channel to the agent behind `socket_path`; the caller closes it. Dials once, when the first call is made."""
    return grpc.aio.insecure_channel(f"unix:{socket_path}", options=_OPTIONS)
