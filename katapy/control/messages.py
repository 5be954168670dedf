"""The control protocol between CLI and supervisor, without any I/O: bytes in, dictionaries out.

One JSON object a line, at most MAX_LINE bytes. A request is {"v": 1, "op": name, ...fields}; an answer is {"ok": {...}}
or {"error": {"kind", "message"}}; a stream is many "ok" lines and one {"end": {}}. Both sides use it, hot verbs too.
"""

from katapy import quickjson
from katapy.errors import KatapyError, from_wire

VERSION = 1
MAX_LINE = 16 * 1024 * 1024
"""As large as the largest config.json: an exec's process object must fit."""
MAX_DESCRIPTORS = 253
"""What one message of the kernel carries: stdio, the stand-in's channel, and a container's bind mounts."""

Fields = dict[str, object]


class MessageError(KatapyError):
    """The peer sent something that is not a message of this protocol."""


def encode(message: Fields) -> bytes:
    """`message` as a line. Raises MessageError if it is too long."""
    line = quickjson.dumps(message).encode("ascii") + b"\n"
    if len(line) > MAX_LINE:
        raise MessageError(f"control message has {len(line)} bytes, at most {MAX_LINE} are allowed")
    return line


def decode(line: bytes) -> Fields:
    """The object in `line` (with or without its newline). Raises MessageError and nothing else."""
    if len(line) > MAX_LINE:
        raise MessageError(f"control message is longer than {MAX_LINE} bytes")
    try:
        message = quickjson.loads(line.decode())
    except ValueError as e:
        raise MessageError(f"control message is not JSON: {e}") from e
    if not isinstance(message, dict):
        raise MessageError("control message is not an object")
    return message


def encode_request(op: str, fields: Fields) -> bytes:
    return encode({"v": VERSION, "op": op, **fields})


def decode_request(line: bytes) -> tuple[str, Fields]:
    """(op, remaining fields). Raises MessageError."""
    fields = decode(line)
    version, op = fields.pop("v", None), fields.pop("op", None)
    if version != VERSION:
        raise MessageError(f"control protocol version {version!r} is not {VERSION}: CLI and supervisor differ")
    if not isinstance(op, str):
        raise MessageError("control request has no op")
    return op, fields


def encode_error(error: KatapyError) -> bytes:
    return encode({"error": {"kind": error.kind, "message": str(error)[:65536]}})


def decode_answer(line: bytes) -> Fields | None:
    """What follows "ok"; None for the end of a stream. Raises the error that the answer carries, or MessageError."""
    answer = decode(line)
    error, ok = answer.get("error"), answer.get("ok")
    if isinstance(error, dict):
        raise from_wire(str(error.get("kind")), str(error.get("message")))
    if isinstance(ok, dict):
        return ok
    if "end" in answer:
        return None
    raise MessageError("control answer has neither ok nor error")


class Lines:
    """Cuts a byte stream into lines, however it was chunked."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0

    def feed(self, data: bytes) -> None:
        """Takes any number of bytes in. Call `next` until None before feeding more: it watches the length."""
        self._buffer += data

    def next(self) -> bytes | None:
        """The next whole line without its newline, or None. Raises MessageError."""
        end = self._buffer.find(b"\n", self._searched)
        if (len(self._buffer) if end < 0 else end) > MAX_LINE:
            raise MessageError(f"control message is longer than {MAX_LINE} bytes")
        if end < 0:
            self._searched = len(self._buffer)
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return line

    def rest(self) -> bytes:
        """What came after the last line."""
        return bytes(self._buffer)
