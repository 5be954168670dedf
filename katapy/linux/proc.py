"""/proc/<pid>/stat: whether a process is stopped. Standard library only: hot verbs import it."""

import os


def is_stopped(pid: int) -> bool:
    """Stopped by a signal or a debugger: it will not answer until somebody continues it. False if there is none."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return False
    try:
        stat = os.read(fd, 4096)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return stat[stat.rindex(b")") + 2 :][:1] in (b"T", b"t")  # the name may hold spaces and brackets
