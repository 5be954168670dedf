"""What goes over the test host's virtio-serial port: frames of a kind, a length and bytes. Host and test host.

    owner -> test host   RUN    {"argv": [...], "cwd": path, "env": {...}, "input": base64}
                         KILL   {}            SIGKILL to the command's process group
    test host -> owner   READY  {}            once, when commands can be run
                         OUT, ERR             bytes of the command's stdout, stderr
                         EXIT   {"status": n} 0 to 255; 128 + n if signal n ended it

One command at a time. Standard library only.
"""

import struct

RUN, KILL, READY, OUT, ERR, EXIT = b"r", b"k", b"b", b"o", b"e", b"x"
HEADER = struct.Struct(">cI")
PORT = "katapy.testhost"
"""Name of the virtio-serial port."""


def frame(kind: bytes, content: bytes = b"{}") -> bytes:
    return HEADER.pack(kind, len(content)) + content


class Reader:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """(kind, content) of every frame that is complete now."""
        self._held += data
        found = []
        while len(self._held) >= HEADER.size:
            kind, length = HEADER.unpack_from(self._held)
            end = HEADER.size + length
            if len(self._held) < end:
                break
            found.append((kind, bytes(self._held[HEADER.size : end])))
            del self._held[:end]
        return found
