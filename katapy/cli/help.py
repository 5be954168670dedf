"""Help texts out of table.py, in the shape that runc's have (suites look for NAME:, USAGE:, COMMANDS:). Pure."""

from katapy import __version__
from katapy.cli.table import BOOL, GLOBAL_FLAGS, LIST, VERBS, Flag

_HEAD = """NAME:
   katapy - OCI containers, each pod in its own virtual machine

USAGE:
   katapy [global options] command [command options] [arguments...]

VERSION:
   {version}

COMMANDS:
{commands}
   help, h     show this text, or a command's

GLOBAL OPTIONS:
{flags}
"""
_VERB = """NAME:
   katapy {name} - {summary}

USAGE:
   katapy {name} {options}{operands}
"""


def text(verb: str) -> str:
    """The help of a verb, of the program for ""."""
    if verb:
        return _verb_text(verb)
    shown = {name: v for name, v in VERBS.items() if not v.hidden}
    commands = "\n".join(f"   {name:<11} {v.summary}" for name, v in sorted(shown.items()))
    return _HEAD.format(version=__version__, commands=commands, flags=_flags(GLOBAL_FLAGS))


def _verb_text(name: str) -> str:
    verb = VERBS[name]
    options = "[command options] " if verb.flags else ""
    shown = _VERB.format(name=name, summary=verb.summary, options=options, operands=verb.operands)
    return shown + (f"\nOPTIONS:\n{_flags(verb.flags)}\n" if verb.flags else "")


def _flags(flags: tuple[Flag, ...]) -> str:
    rows = [(_names(flag), flag.help + _default(flag)) for flag in flags]
    width = max(len(left) for left, _ in rows)
    return "\n".join(f"   {left:<{width}}  {right}" for left, right in rows)


def _names(flag: Flag) -> str:
    value = "" if flag.kind == BOOL else " value"
    return ", ".join(("--" if len(name) > 1 else "-") + name + value for name in flag.names)


def _default(flag: Flag) -> str:
    return f' (default: "{flag.default}")' if flag.default and flag.kind != LIST else ""
