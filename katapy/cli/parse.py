"""argv -> Args, with the manners of Go's flag package: engines and scripts written for runc rely on them. Pure.

`-x` and `--x` are the same, `--x=v` and `--x v` too; a bool takes a value only after `=`; `-` is an argument, `--` ends
the flags. No abbreviations, no joined short flags.
"""

from katapy.cli.table import BOOL, DURATION, GLOBAL_FLAGS, LIST, NUMBER, VERBS, Flag, Verb
from katapy.errors import UsageError

TYPE_CHECKING = False  # typing's own constant costs typing
if TYPE_CHECKING:
    from typing import Any

_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")


class Args:
    """What was asked for. Flags are attributes by their long name (`args.console_socket`), set or default.

    verb: name, "" for none. id: first argument ("" if none). command: the arguments after it. given: names of the flags
    that were set.
    """

    def __init__(self) -> None:
        self.verb = ""
        self.id = ""
        self.command: list[str] = []
        self.given: set[str] = set()

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...


class BadUsage(UsageError):
    """`verb`: whose help goes to standard output, "" for the program's. `detail`: what goes before it."""

    exit_status = 1

    def __init__(self, message: str, verb: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.verb = verb
        self.detail = detail


class UnknownVerb(UsageError):
    """runc exits with 3 then."""

    exit_status = 3


def parse(argv: list[str], args: Args) -> Args:
    """Fills `args`, global flags first, so that they hold even for errors in the rest. Raises BadUsage, UnknownVerb."""
    try:
        rest = _parse_flags(argv, GLOBAL_FLAGS, args, interleaved=False)
    except UsageError as e:
        raise BadUsage(str(e), "", f". {e}") from e
    if not rest:
        return args
    name, *rest = rest
    verb = VERBS.get(name)
    if verb is None:
        if name in ("help", "h"):
            return _help(rest, args)
        raise UnknownVerb(f"No help topic for '{name}'")
    args.verb = name
    flags = (*verb.flags, _HELP)
    try:
        operands = _parse_flags(rest, flags, args, verb.interleaved)
    except UsageError as e:
        raise BadUsage(str(e), name, f": {e}") from e
    if not args.help:
        _check_count(name, verb, len(operands))
    args.id, args.command = (operands[0], operands[1:]) if operands else ("", [])
    return args


_HELP = Flag("help h", BOOL, "show help")


def _help(topics: list[str], args: Args) -> Args:
    if topics and topics[0] not in VERBS:
        raise UnknownVerb(f"No help topic for '{topics[0]}'")
    args.verb = topics[0] if topics else ""
    args.help = True
    return args


def _check_count(name: str, verb: Verb, count: int) -> None:
    problem = ""
    if verb.least == verb.most and count != verb.least:
        problem = f"exactly {verb.least}"
    elif count < verb.least:
        problem = f"a minimum of {verb.least}"
    elif verb.most is not None and count > verb.most:
        problem = f"a maximum of {verb.most}"
    if problem:
        raise BadUsage(f'katapy: "{name}" requires {problem} argument(s)', name, ".")


def _parse_flags(argv: list[str], flags: tuple[Flag, ...], args: Args, interleaved: bool) -> list[str]:
    """Sets the attributes of `flags`; returns what is left over. Raises UsageError."""
    known = {name: flag for flag in flags for name in flag.names}
    for flag in flags:
        default: Any = flag.default
        setattr(args, flag.attribute, list(default) if flag.kind == LIST else default)
    operands: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--":
            return operands + list(words)
        if len(word) < 2 or word[0] != "-":
            operands.append(word)
            if not interleaved:
                return operands + list(words)
            continue
        name, equals, value = word[2 if word[1] == "-" else 1 :].partition("=")
        if not name or name[0] == "-":
            raise UsageError(f"bad flag syntax: {word}")
        found = known.get(name)
        if found is None:
            raise UsageError(f"flag provided but not defined: -{name}")
        if found.kind != BOOL and not equals:
            following = next(words, None)
            if following is None:
                raise UsageError(f"flag needs an argument: -{name}")
            value = following
        _set(args, found, name, value if equals or found.kind != BOOL else "true")
    return operands


def _set(args: Args, flag: Flag, name: str, text: str) -> None:
    value: object = text
    if flag.kind == BOOL:
        if text not in _TRUE and text not in _FALSE:
            raise UsageError(f'invalid boolean value "{text}" for -{name}: parse error')
        value = text in _TRUE
    elif flag.kind == NUMBER:
        digits = text[1:] if text[:1] in ("-", "+") else text
        if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
            raise UsageError(f'invalid value "{text}" for flag -{name}: parse error')
        value = int(text)
    elif flag.kind == DURATION:
        _check_duration(name, text)
    elif flag.kind == LIST:
        value = [*getattr(args, flag.attribute), text]
    setattr(args, flag.attribute, value)
    args.given.add(flag.names[0])


def _check_duration(name: str, text: str) -> None:
    from katapy.oci.sizes import parse_duration

    try:
        parse_duration(text)
    except UsageError as e:
        raise UsageError(f'invalid value "{text}" for flag -{name}: parse error') from e
