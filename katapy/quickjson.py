"""JSON for the hot verbs (state, kill, list ...): the C scanner of the standard library's json, without its `re`.

`import json` costs as much as a whole interpreter start (it needs re, enum, functools, collections), `_json` nothing.
It is CPython's own and undocumented: a Python without it gets `json`, and a property test holds both to the same
answers. For bounded input (state.json, control socket).
"""

TYPE_CHECKING = False  # typing's own constant costs typing
if TYPE_CHECKING:
    from collections.abc import Callable

    Quote = Callable[[str], str]

try:
    import _json
except ImportError:  # another Python: slower, and the same
    _json = None  # type: ignore[assignment]  # a module, to mypy

_SPACE = " \t\n\r"
_MAX_DEPTH = 200


class _Context:
    """What the C scanner asks of a JSONDecoder."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int

    @staticmethod
    def parse_constant(name: str) -> object:
        raise ValueError(f"{name} is not JSON")

    def __init__(self) -> None:
        self.memo: dict[str, str] = {}


def loads(text: str) -> object:
    """The value of `text`. Raises ValueError for anything that is not one JSON document."""
    if _json is None:
        import json

        return json.loads(text, parse_constant=_Context.parse_constant)
    stripped = text.strip(_SPACE)
    try:
        value, end = _json.make_scanner(_Context())(stripped, 0)  # type: ignore[arg-type]  # what it reads of a JSONDecoder
    except StopIteration as e:
        raise ValueError(f"not JSON at character {e.value}") from e
    except SystemError:  # CPython 3.11: what is malformed is an error of json.decoder's, which nobody has imported
        import json

        return json.loads(stripped)
    except RecursionError as e:
        raise ValueError("JSON is nested too deeply") from e
    if end != len(stripped):
        raise ValueError(f"text behind the JSON document at character {end}")
    return value


def dumps(value: object, indent: int = 0, ascii_only: bool = True) -> str:
    """`value` (dict, list, str, int, float, bool, None) as JSON: one line, or broken as json.dumps(indent=...) does."""
    if _json is None:
        import json

        separators = None if indent else (",", ":")
        return json.dumps(value, indent=indent or None, separators=separators, ensure_ascii=ascii_only, allow_nan=False)
    quote = _json.encode_basestring_ascii if ascii_only else _json.encode_basestring
    return _dump(value, indent, 0, quote)


def _dump(value: object, indent: int, depth: int, quote: "Quote") -> str:
    if isinstance(value, str):
        return quote(value)
    if value is None or value is True or value is False:
        return "null" if value is None else "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        if value - value != 0:
            raise ValueError(f"{value} is not JSON")
        return float.__repr__(value)
    if depth >= _MAX_DEPTH:
        raise ValueError("value is nested too deeply for JSON")
    if isinstance(value, dict):
        colon = ": " if indent else ":"
        items = [_key(k, quote) + colon + _dump(v, indent, depth + 1, quote) for k, v in value.items()]
        return _bracket("{", items, "}", indent, depth)
    if isinstance(value, (list, tuple)):
        return _bracket("[", [_dump(v, indent, depth + 1, quote) for v in value], "]", indent, depth)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _key(key: object, quote: "Quote") -> str:
    if not isinstance(key, str):
        raise TypeError(f"a JSON key is a string, not {type(key).__name__}")
    return quote(key)


def _bracket(opening: str, items: list[str], closing: str, indent: int, depth: int) -> str:
    if not items:
        return opening + closing
    if not indent:
        return opening + ",".join(items) + closing
    inner = "\n" + " " * (indent * (depth + 1))
    return opening + inner + ("," + inner).join(items) + "\n" + " " * (indent * depth) + closing
