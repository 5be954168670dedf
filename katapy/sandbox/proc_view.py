"""The /proc that engines find in the stand-in's mount namespace: the guest's processes, for `podman top`.

A directory of small files that is filled anew whenever somebody opens it, before he sees it (linux/fanotify). It has
what tools for processes read of each: stat, status, cmdline, ns/pid. Numbers and texts are the guest's word, bounded
here. Runs in the supervisor; the CLI makes the empty directory.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence

from katapy.agent_client.text import printable
from katapy.errors import KatapyError, errno_text
from katapy.linux.fanotify import OpenWatch
from katapy.protocol import agent_pb2 as pb

log = logging.getLogger(__name__)

_REFRESH_S = 2.0
"""Then whoever opens it sees what was there before: a guest must not hold a tool of the host up."""
_MAX_PROCESSES = 1024
_MAX_COMMAND = 1024
_MAX_NAME = 15
_STATES = frozenset("RSDTtXZI")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_STAT_FIELDS = 52
"""Of Linux 3.5 and newer; tools count them."""


class ProcView:
    """Serves `directory` with what `processes()` answers, in the running loop.

    Raises OSError where fanotify is refused.
    """

    def __init__(self, directory: str, processes: Callable[[], Awaitable[Sequence[pb.Process]]]) -> None:
        self._directory = directory
        self._processes = processes
        self._watch = OpenWatch(directory)
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._complaint = ""
        asyncio.get_running_loop().add_reader(self._watch.fd, self._opened)

    def close(self) -> None:
        """Idempotent. Who waits goes on."""
        if self._watch.fd >= 0:
            asyncio.get_running_loop().remove_reader(self._watch.fd)
            self._watch.close()

    def _opened(self) -> None:
        for descriptor in self._watch.waiting():
            task = asyncio.create_task(self._answer(descriptor))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, descriptor: int) -> None:
        try:
            async with self._turn:
                await self._refresh()
        finally:
            if self._watch.fd >= 0:
                self._watch.allow(descriptor)
            else:
                os.close(descriptor)

    async def _refresh(self) -> None:
        """Never raises: the old view is better than none."""
        try:
            found = await asyncio.wait_for(self._processes(), _REFRESH_S)
            await asyncio.to_thread(fill, self._directory, found)
            self._complaint = ""
        except (KatapyError, TimeoutError):
            return
        except OSError as e:
            self._complain(f"{e.filename or self._directory}: {errno_text(e)}")

    def _complain(self, complaint: str) -> None:
        """Once for the same reason: tools look every second."""
        if complaint != self._complaint:
            log.warning("the processes shown in the stand-in's /proc are old ones: %s", complaint)
        self._complaint = complaint


def fill(directory: str, processes: Sequence[pb.Process]) -> None:
    """Makes `directory` show these processes. It must not be opened here: that would wait for itself."""
    shown = {p.pid: p for p in processes[:_MAX_PROCESSES] if p.pid > 0}
    boot = min((p.start_unix_seconds for p in shown.values()), default=0)
    _write(f"{directory}/stat", f"btime {boot}\n")
    known = _known(directory)
    _note(directory, known | shown.keys())  # before: a disk that is full now must not leave what nobody knows of
    for pid in known - shown.keys():
        _remove(f"{directory}/{pid}")
    for pid, process in shown.items():
        folder = f"{directory}/{pid}"
        if not os.path.lexists(f"{folder}/ns/pid"):
            _make(folder)
        for name, text in files(process, boot).items():
            _write(f"{folder}/{name}", text)
    _note(directory, shown)


def _make(folder: str) -> None:
    """Its last piece is the link."""
    os.makedirs(f"{folder}/ns", 0o700, exist_ok=True)
    os.symlink("pid:[1]", f"{folder}/ns/pid")


def _note(directory: str, pids: Iterable[int]) -> None:
    _write(f"{directory}/.shown", " ".join(map(str, pids)))


def _known(directory: str) -> set[int]:
    try:
        with open(f"{directory}/.shown", encoding="ascii") as f:
            return {int(word) for word in f.read().split()}
    except FileNotFoundError:
        return set()


def _remove(folder: str) -> None:
    """What `fill` made. Not shutil: it brings three libraries of compression into every supervisor."""
    for path, folders, names in os.walk(folder, topdown=False):
        for name in names:
            os.unlink(f"{path}/{name}")
        for name in folders:
            os.rmdir(f"{path}/{name}")
    with contextlib.suppress(FileNotFoundError):  # noted, and never made
        os.rmdir(folder)


def files(process: pb.Process, boot_unix_seconds: int) -> dict[str, str]:
    """Name -> content of a process's files, as proc(5) has them. Pure."""
    command = printable(process.command, _MAX_COMMAND)
    name = printable(process.name, _MAX_NAME).translate({ord(c): None for c in "()"}) or "?"
    state = process.state if process.state in _STATES else "S"
    ticks = os.sysconf("SC_CLK_TCK")
    started = (process.start_unix_seconds - boot_unix_seconds) * ticks
    fields = ["0"] * _STAT_FIELDS
    fields[:4] = [str(process.pid), f"({name})", state, str(process.ppid)]
    fields[13] = str(int(min(max(0.0, process.cpu_seconds), 1e9) * ticks))
    fields[21:24] = [str(started), str(process.virtual_bytes), str(process.resident_bytes // _PAGE)]
    ids = "\t".join([str(process.uid)] * 4)
    status = f"Name:\t{name}\nState:\t{state}\nTgid:\t{process.pid}\nPid:\t{process.pid}\nPPid:\t{process.ppid}\n"
    return {
        "stat": " ".join(fields) + "\n",
        "status": f"{status}Uid:\t{ids}\nGid:\t{ids}\n",
        "cmdline": command.replace(" ", "\0") + "\0",
    }


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8", errors="replace") as f:
        f.write(text)
