"""quickjson says what json says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katapy import quickjson

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(values, st.sampled_from([0, 2, 4]), st.booleans())
def test_dumps_is_json(value: object, indent: int, ascii_only: bool) -> None:
    separators = None if indent else (",", ":")
    expected = json.dumps(value, indent=indent or None, separators=separators, ensure_ascii=ascii_only)
    assert quickjson.dumps(value, indent, ascii_only) == expected


@given(values)
def test_round_trip(value: object) -> None:
    assert quickjson.loads(quickjson.dumps(value)) == value


@given(st.text(alphabet='{}[]",:0123456789.eE+-truefalsn\\u \n\0'))
def test_loads_agrees_with_json(text: str) -> None:
    try:
        expected = json.loads(text, parse_constant=quickjson._Context.parse_constant)
    except ValueError:
        with pytest.raises(ValueError, match=r"."):
            quickjson.loads(text)
    else:
        assert quickjson.loads(text) == expected


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "", "nul", "1 2", "NaN", '"\n"'])
def test_garbage_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        quickjson.loads(text)


def test_garbage_is_a_value_error_where_nobody_has_imported_json() -> None:
    """CPython 3.11's scanner fails there in a way of its own."""
    katapy = Path(quickjson.__file__).parents[1]
    words = f"import sys; sys.path.append({str(katapy)!r}); from katapy import quickjson; quickjson.loads(sys.argv[1])"
    for text in ('{"a": "b', '{"a" 1}', "[1 2]", '["\\x"]', "{"):
        said = subprocess.run([sys.executable, "-IS", "-c", words, text], capture_output=True, text=True).stderr
        last = said.splitlines()[-1]
        assert last.startswith(("ValueError", "json.decoder.JSONDecodeError")), (text, last)


@pytest.mark.parametrize("value", [object(), {1: 2}, b"x"])
def test_dumps_refuses_what_json_has_not(value: object) -> None:
    with pytest.raises(TypeError):
        quickjson.dumps(value)


def test_dumps_refuses_nan_and_endless_nesting() -> None:
    with pytest.raises(ValueError, match="nan"):
        quickjson.dumps(float("nan"))
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="deeply"):
        quickjson.dumps(endless)
