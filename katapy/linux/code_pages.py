"""Gives back the pages of programs' code that only the start needed: they are read again from the page cache if not.

Any process of the host. A supervisor's libraries map 15 MB of code, most of it touched once, while they initialise.
"""

import ctypes

_MADV_DONTNEED = 4
_libc = ctypes.CDLL(None, use_errno=True)


def forget(least_bytes: int) -> None:
    """Unmaps the pages of every executable, unwritable, private mapping of a file of at least `least_bytes`.

    They hold nothing but the file's bytes: code that is position-independent has no relocations in it.
    """
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        mappings = [line.split(None, 5) for line in maps]
    for span, permissions, _, _, inode, *_ in mappings:
        start, end = (int(n, 16) for n in span.split("-"))
        if permissions == "r-xp" and inode != "0" and end - start >= least_bytes:
            _libc.madvise(
                ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED
            )  # a refusal costs nothing
