"""Framing: any chunking gives the same messages, garbage gives one error class."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katapy.control import messages
from katapy.control.messages import Lines, MessageError
from katapy.errors import KatapyError, NotFound, WrongStatus

objects = st.dictionaries(st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5))


@given(st.lists(objects, max_size=5), st.data())
def test_any_chunking_gives_the_same_messages(sent: list[dict[str, object]], data: st.DataObject) -> None:
    stream = b"".join(messages.encode(message) for message in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    lines, received = Lines(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        lines.feed(stream[start:end])
        while (line := lines.next()) is not None:
            received.append(messages.decode(line))
    assert received == sent
    assert lines.rest() == b""


@given(st.binary())
def test_garbage_is_a_message_error(garbage: bytes) -> None:
    for parse in (messages.decode, messages.decode_request, messages.decode_answer):
        try:
            parse(garbage)
        except KatapyError as e:
            # an answer may carry any error of the tree
            allowed = KatapyError if parse is messages.decode_answer else MessageError
            if not isinstance(e, allowed):
                raise


def test_lines_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "MAX_LINE", 100)
    lines = Lines()
    lines.feed(b"x" * 100)
    assert lines.next() is None
    lines.feed(b"x")
    with pytest.raises(MessageError, match="longer than 100"):
        lines.next()
    with pytest.raises(MessageError, match="at most 100"):
        messages.encode({"a": "x" * 100})
    with pytest.raises(MessageError, match="longer than 100"):
        messages.decode(b"x" * 101)


def test_requests() -> None:
    line = messages.encode_request("kill", {"id": "c1", "signal": 9})
    assert line == b'{"v":1,"op":"kill","id":"c1","signal":9}\n'
    assert messages.decode_request(line) == ("kill", {"id": "c1", "signal": 9})
    with pytest.raises(MessageError, match="CLI and supervisor differ"):
        messages.decode_request(b'{"v":2,"op":"kill"}')
    with pytest.raises(MessageError, match="no op"):
        messages.decode_request(b'{"v":1}')


def test_errors_keep_class_and_text() -> None:
    with pytest.raises(WrongStatus, match="container not running"):
        messages.decode_answer(messages.encode_error(WrongStatus("container not running")))
    with pytest.raises(KatapyError, match="x") as caught:
        messages.decode_answer(b'{"error":{"kind":"SystemExit","message":"x"}}')
    assert type(caught.value) is KatapyError
    assert messages.decode_answer(b'{"ok":{"pid":1}}') == {"pid": 1}
    assert messages.decode_answer(b'{"end":{}}') is None
    with pytest.raises(NotFound):
        messages.decode_answer(b'{"error":{"kind":"NotFound"}}')
