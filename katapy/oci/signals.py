"""Names and numbers of Linux signals as on x86 and arm. Pure; not the module `signal`: that one needs enum."""

from katapy.errors import UsageError

# fmt: off
_NAMES = (
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
)
# fmt: on
RTMIN, RTMAX = 34, 64
"""As the C library counts: it keeps 32 and 33 for itself."""
NUMBERS = {name: number for number, name in enumerate(_NAMES, 1)}
NUMBERS |= {"IOT": 6, "CLD": 17, "POLL": 29, "RTMIN": RTMIN, "RTMAX": RTMAX}


def signal_number(text: str) -> int:
    """TERM, SIGTERM, sigterm, RTMIN+3, RTMAX-1 or a number from 0 to 64. Raises UsageError: `unknown signal "FOO"`."""
    if text.isascii() and text.isdigit() and len(text) <= 3:
        number = int(text)
    else:
        number = _named(text.upper().removeprefix("SIG"))
    if not 0 <= number <= RTMAX:
        raise UsageError(f'unknown signal "{text}"')
    return number


def _named(name: str) -> int:
    if name in NUMBERS:
        return NUMBERS[name]
    for base, sign in (("RTMIN+", 1), ("RTMAX-", -1)):
        offset = name.removeprefix(base)
        if offset != name and offset.isascii() and offset.isdigit() and int(offset[:3]) <= RTMAX - RTMIN:
            return NUMBERS[base[:-1]] + sign * int(offset)
    return -1
