"""Processes as /proc tells them. Runs in the agent; the text of a process is its own choice, so it is bounded."""

import contextlib
import os

from katapy.protocol import agent_pb2 as pb

COMMAND_LIMIT = 4096
"""Characters of one command."""
TOTAL_LIMIT = 2 * 1024 * 1024
"""Characters of all commands together: an answer has to fit in one message."""
ENTRY_COST = 128
"""What a process costs besides its command: the host takes no more than 20000 in one answer."""
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PAGES = os.sysconf("SC_PHYS_PAGES")
_NAME_LIMIT = 64


def list_processes(pids: list[int], proc: str = "/proc") -> list[pb.Process]:
    """Those of `pids` that are still there, by pid."""
    boot_time = _boot_time(proc)
    found = []
    room = TOTAL_LIMIT
    for pid in sorted(pids):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            process = _describe(f"{proc}/{pid}", pid, boot_time)
            room -= len(process.command) + ENTRY_COST
            if room < 0:
                break
            found.append(process)
    return found


def _describe(directory: str, pid: int, boot_time: int) -> pb.Process:
    name, fields = parse_stat(_read(f"{directory}/stat"))
    arguments = _read(f"{directory}/cmdline", COMMAND_LIMIT + 1).rstrip("\0").replace("\0", " ")
    uid = parse_uid(_read(f"{directory}/status"))
    return pb.Process(
        pid=pid,
        ppid=int(fields[1]),
        uid=uid,
        user="root" if uid == 0 else str(uid),
        start_unix_seconds=boot_time + int(fields[19]) // _TICKS,
        cpu_seconds=(int(fields[11]) + int(fields[12])) / _TICKS,
        tty=tty_name(int(fields[4])),
        command=(arguments or f"[{name}]")[:COMMAND_LIMIT],
        name=name[:_NAME_LIMIT],
        state=fields[0],
        virtual_bytes=int(fields[20]),
        resident_bytes=int(fields[21]) * _PAGE,
        resident_share=int(fields[21]) / _PAGES,
    )


def parse_stat(text: str) -> tuple[str, list[str]]:
    """The name and the fields after it (state first). A name may hold blanks and parentheses."""
    start, end = text.index("("), text.rindex(")")
    return text[start + 1 : end], text[end + 1 :].split()


def parse_uid(status: str) -> int:
    """The effective user id in /proc/<pid>/status. The directory's owner is root for whoever can't be dumped."""
    for line in status.splitlines():
        if line.startswith("Uid:"):
            return int(line.split()[2])
    raise ProcessLookupError("no Uid line")


def tty_name(number: int) -> str:
    """A device number of /proc/<pid>/stat as ps shows it."""
    major = number >> 8 & 0xFFF
    minor = number & 0xFF | number >> 12 & 0xFFF00
    if 136 <= major <= 143:
        return f"pts/{minor + ((major - 136) << 20)}"
    return {4: f"tty{minor}", 5: "console", 229: f"hvc{minor}"}.get(major, "?")


def _boot_time(proc: str) -> int:
    for line in _read(f"{proc}/stat", 1 << 20).splitlines():
        if line.startswith("btime "):
            return int(line.split()[1])
    return 0


def _read(path: str, size: int = 65536) -> str:
    with open(path, "rb") as file:
        return file.read(size).decode("utf-8", "replace")
