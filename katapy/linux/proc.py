"""What /proc tells of processes, and what is written there. Standard library only, little of it: for hot verbs too."""

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


def family(pid: int) -> list[int]:
    """That process and all its descendants, parents first."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                parents[int(entry)] = int(read_file(f"/proc/{entry}/stat").rpartition(")")[2].split()[1])
            except OSError:
                continue  # has ended meanwhile
    found = [pid]
    for member in found:
        found += [child for child, parent in parents.items() if parent == member]
    return found


def pss_kib(pid: int) -> int:
    """Its proportional set size; 0 if it has ended."""
    try:
        text = read_file(f"/proc/{pid}/smaps_rollup")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)


def memory_kib(name: str) -> int:
    """A line of /proc/meminfo, such as MemAvailable."""
    return next(int(line.split()[1]) for line in read_file("/proc/meminfo").splitlines() if line.startswith(f"{name}:"))


def read_file(path: str) -> str:
    """A file of /proc or of a cgroup. Raises OSError."""
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


def write_file(path: str, text: str) -> None:
    """Into a file of /proc or of a cgroup: in one write, as the kernel wants it. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
