"""What `katapy ps` shows for the arguments that people give ps(1): columns, and how a process fills them. Pure.

runc filters the host's ps by pid; there the container's processes are the guest's, so their columns are made here. All
of them are shown whatever is selected. Of ps's options, those for formats are known: -f, x, u, -o LIST.
"""

import time

from katapy.errors import Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Process = Mapping[str, object]

_DAY_S = 86400
_LETTERS = frozenset("eAadxwfu")


class Column:
    """`value(process, now)`; `right`: aligned to the right; `width`: at least, as procps has it."""

    __slots__ = ("header", "right", "value", "width")

    def __init__(
        self, header: str, value: "Callable[[Process, float], str]", right: bool = False, width: int = 0
    ) -> None:
        self.header = header
        self.value = value
        self.right = right
        self.width = width

    def named(self, header: str) -> "Column":
        return Column(header, self.value, self.right, self.width)


def number(process: "Process", key: str) -> float:
    """A guest may claim anything; what can't be shown is 0."""
    value = process.get(key)
    return float(value) if isinstance(value, (int, float)) and 0 <= value < 2**50 else 0.0


def _text(key: str) -> "Callable[[Process, float], str]":
    return lambda process, now: str(process.get(key))


def _user(process: "Process", now: float) -> str:
    return str(process.get("user") or process.get("uid"))


def _kib(key: str) -> "Callable[[Process, float], str]":
    return lambda process, now: str(int(number(process, key)) // 1024)


def _age(process: "Process", now: float) -> float:
    return max(1.0, now - _start(process))


def _start(process: "Process") -> float:
    return min(number(process, "start"), 2.0**35)  # strftime takes no later year


def _cpu_percent(process: "Process", now: float) -> float:
    return min(999.0, 100 * number(process, "cpu_seconds") / _age(process, now))


def _started(process: "Process", now: float) -> str:
    start = _start(process)
    return time.strftime("%H:%M" if now - start < _DAY_S else "%b%d", time.localtime(start))


def _cpu_time(process: "Process", now: float) -> str:
    seconds = int(number(process, "cpu_seconds"))
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _short_cpu_time(process: "Process", now: float) -> str:
    seconds = int(number(process, "cpu_seconds"))
    return f"{seconds // 60}:{seconds % 60:02}"


def _elapsed(process: "Process", now: float) -> str:
    seconds = int(max(0.0, now - _start(process)))
    days, clock = seconds // _DAY_S, f"{seconds // 60 % 60:02}:{seconds % 60:02}"
    hours = seconds // 3600 % 24
    return (f"{days}-" if days else "") + (f"{hours:02}:" if days or hours else "") + clock


def _name_of_state(process: "Process", now: float) -> str:
    return str(process.get("state") or "?")


_PID = Column("PID", _text("pid"), True, 7)
_TTY = Column("TTY", lambda process, now: str(process.get("tty") or "?"), width=8)
_TIME = Column("TIME", _cpu_time, True, 8)
_COMMAND = Column("COMMAND", _text("command"))
_STAT = Column("STAT", _name_of_state, width=4)
_USER = Column("USER", _user, width=8)
_VSZ = Column("VSZ", _kib("virtual_bytes"), True, 6)
_RSS = Column("RSS", _kib("resident_bytes"), True, 5)
_CPU = Column("%CPU", lambda process, now: f"{_cpu_percent(process, now):.1f}", True)
_MEM = Column("%MEM", lambda process, now: f"{min(100.0, 100 * number(process, 'resident_share')):.1f}", True)
_PPID = Column("PPID", _text("ppid"), True, 7)
_C = Column("C", lambda process, now: str(int(min(99.0, _cpu_percent(process, now)))), True, 2)

SHORT = (_PID, _TTY, _TIME, Column("CMD", _text("name")))
FULL = (_USER.named("UID"), _PID, _PPID, _C, Column("STIME", _started, width=5), _TTY, _TIME, _COMMAND.named("CMD"))
BSD = (_PID, _TTY, _STAT, Column("TIME", _short_cpu_time, True, 6), _COMMAND)
BSD_USER = (_USER, _PID, _CPU, _MEM, _VSZ, _RSS, _TTY, _STAT, Column("START", _started, width=5), *BSD[3:])

_BY_NAME = {
    **dict.fromkeys(("args", "command"), _COMMAND),
    **dict.fromkeys(("comm", "ucmd", "ucomm"), Column("COMMAND", _text("name"))),
    **dict.fromkeys(("cmd",), _COMMAND.named("CMD")),
    **dict.fromkeys(("pcpu", "%cpu"), _CPU),
    **dict.fromkeys(("pmem", "%mem"), _MEM),
    **dict.fromkeys(("rss", "rssize", "rsz"), _RSS),
    **dict.fromkeys(("s", "state"), _STAT.named("S")),
    **dict.fromkeys(("time", "cputime"), _TIME),
    **dict.fromkeys(("tname",), _TTY),
    **dict.fromkeys(("tty", "tt"), _TTY.named("TT")),
    **dict.fromkeys(("uid", "euid"), Column("UID", _text("uid"), True)),
    **dict.fromkeys(("user", "euser", "uname"), _USER),
    **dict.fromkeys(("vsz", "vsize"), _VSZ),
    "c": _C,
    "etime": Column("ELAPSED", _elapsed, True),
    "pid": _PID,
    "ppid": _PPID,
    "stat": _STAT,
    "start_time": Column("START", _started),
    "stime": Column("STIME", _started),
}
NAMES = tuple(sorted(_BY_NAME))
"""What -o takes."""


def layout(words: "Iterable[str]") -> "tuple[Column, ...]":
    """The columns that these arguments of ps ask for; none: runc's `-ef`. Raises Unsupported for what ps alone has."""
    words = list(words)
    letters: set[str] = set()
    chosen: list[Column] = []
    rest = iter(words)
    for word in rest:
        flags, o, columns = word.removeprefix("-").partition("o")
        if not word or not _LETTERS.issuperset(flags):
            raise Unsupported(f"ps options {' '.join(words)!r} are not supported: only -e, -f, a, x, u and -o LIST are")
        letters.update(flags)
        if o:
            chosen += _columns(columns or next(rest, ""))
        if not word.startswith("-") and "a" in flags:
            letters.add("x")  # ps ax, ps a: the format of BSD
    if chosen:
        return tuple(chosen)
    if "u" in letters:
        return BSD_USER
    if "f" in letters or not words:
        return FULL
    return BSD if "x" in letters else SHORT


def _columns(text: str) -> list[Column]:
    """Of `pid,user=NAME`: a header that is given goes to the end of the list, as with ps."""
    found = []
    name, equals, header = text.partition("=")
    for key in name.replace(" ", ",").split(","):
        column = _BY_NAME.get(key.lower())
        if column is None:
            raise Unsupported(f"the column {key[:40]!r} of ps is not supported: there are {' '.join(NAMES)}")
        found.append(column)
    if equals:
        found[-1] = found[-1].named(header)
    return found


def rows(columns: "Sequence[Column]", processes: "Iterable[Process]", now: float) -> list[tuple[str, ...]]:
    return [tuple(c.value(process, now) for c in columns) for process in processes]
