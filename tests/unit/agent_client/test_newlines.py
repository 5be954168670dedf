"""Lines of a terminal for a reader that is none."""

from hypothesis import given
from hypothesis import strategies as st

from katapy.agent_client.newlines import PlainNewlines


@given(st.lists(st.text("a\r\n", max_size=4).map(str.encode), max_size=6))
def test_pieces_make_no_difference(pieces: list[bytes]) -> None:
    plain = PlainNewlines()
    got = b"".join(plain.feed(piece) for piece in pieces) + plain.rest()
    assert got == b"".join(pieces).replace(b"\r\n", b"\n")
    assert plain.rest() == b""


def test_text_without_an_open_end_does_not_wait() -> None:
    plain = PlainNewlines()
    assert plain.feed(b"50 %\rdone\r\n$ ") == b"50 %\rdone\n$ "
