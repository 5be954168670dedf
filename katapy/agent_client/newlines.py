"""Lines of a terminal for a reader that is none. Pure; runs in the supervisor.

A terminal sends carriage return and newline where its program has written a newline. The guest's terminal does so,
since the caller's is raw. In a file or a pipe, runc's lines end with a newline alone, and so do these.
"""


class PlainNewlines:
    """Takes carriage returns before newlines out of a stream. One at the end of a piece waits for the next piece."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        whole = self._held + data
        self._held = b"\r" if whole.endswith(b"\r") else b""
        return whole[: len(whole) - len(self._held)].replace(b"\r\n", b"\n")

    def rest(self) -> bytes:
        """What is held, at the end."""
        held, self._held = self._held, b""
        return held
