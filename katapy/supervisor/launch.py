"""Forks the supervisor out of `katapy create`. Runs in the CLI (parent) and is the supervisor's first step (child).

Forked, not spawned: the imports and the plan come along, which saves a second interpreter's start. That is safe as
long as there is one thread: asserted here. The child keeps the listening control socket, the lifeline and nothing
else. Where a zygote serves (katapy/zygote), it forks the supervisor instead, by the same steps.

The lifeline is a pipe whose writing end only the CLI holds: its end of file before the container exists means that
`create` was killed, and the supervisor unwinds.
"""

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NoReturn

from katapy import cgroups
from katapy.config import Config
from katapy.factory.maker import Obtained
from katapy.sandbox import store
from katapy.sandbox.plan import SandboxPlan
from katapy.storage.shared_directory import enter_private_mounts

LOG_FILE = "supervisor.log"
_END_S = 10.0
"""What the kernel may take to end a process that was killed."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a supervisor is forked for.

    `origin`: time.monotonic() when `create` was called. `root`: `--root`. `template`: what its machine is cloned from.
    `warning`: a sentence for the log, or empty.
    """

    plan: SandboxPlan
    config: Config
    root: str
    cgroup_procs: tuple[str, ...]
    origin: float
    template: Obtained
    warning: str = ""

    @property
    def directory(self) -> str:
        return store.directory(self.root, self.plan.id)


@dataclass(frozen=True, slots=True)
class Launched:
    """The caller owns `lifeline`: closing it before the container is created ends the supervisor. And `pidfd`.

    `warm`: it has lived for a while, and sees what was mounted since only where the host's mounts are shared.
    """

    pid: int
    pidfd: int
    lifeline: int
    warm: bool = False

    def end(self) -> None:
        """SIGKILL: QEMU and virtiofsd die with it, mounts too. Returns when it has ended, reaped if it is a child."""
        os.close(self.lifeline)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        ended = select.poll()
        ended.register(self.pidfd, select.POLLIN)
        ended.poll(_END_S * 1000)
        with contextlib.suppress(ChildProcessError):  # the zygote's
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG)
        os.close(self.pidfd)

    def let_go(self) -> None:
        """The container is created: from here on the supervisor lives as long as its sandbox."""
        os.close(self.lifeline)
        os.close(self.pidfd)


def launch(task: Task, listener: int) -> Launched:
    """Forks; returns when the child has its own mount namespace. `listener` stays the caller's, who closes it.

    A child that fails before that says why in its log, and is found gone by whoever asks it for something.
    """
    assert threading.active_count() == 1, "a supervisor must be forked before any thread exists"
    reading, writing = os.pipe2(os.O_CLOEXEC)
    ready_r, ready_w = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        live(lambda: _child(task, listener, reading, ready_w))
    os.close(reading)
    os.close(ready_w)
    with open(ready_r, "rb") as ready:
        ready.read()
    return Launched(pid, os.pidfd_open(pid), writing)


def _child(task: Task, listener: int, lifeline: int, ready: int) -> None:
    move_in(task, (os.getpid(),))
    detach({listener, lifeline, ready})
    enter_private_mounts()
    os.close(ready)
    from katapy.supervisor.main import serve

    serve(task, listener, lifeline)


def live(life: Callable[[], None]) -> NoReturn:
    """The whole life of a forked process: nothing of the parent's goes on in it, whatever happens."""
    status = 70
    try:
        life()
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(status)


def detach(kept: Collection[int]) -> None:
    """Own session, own descriptors (stdout and stderr stay what they are): whoever called `create` must see end of file
    on its pipes."""
    os.setsid()
    os.umask(0o077)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(signum, signal.SIG_IGN)  # ends when its last container ends, or by SIGKILL
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    for entry in os.listdir("/proc/self/fd"):
        fd = int(entry)
        if fd > 2 and fd not in kept:
            with contextlib.suppress(OSError):  # the listing's own
                os.close(fd)
    os.chdir("/")


def move_in(task: Task, pids: Collection[int]) -> None:
    """Into the sandbox's folder and cgroup: the log, and these processes. Raises OSError."""
    log = os.open(f"{task.directory}/{LOG_FILE}", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    for target in (1, 2):
        os.dup2(log, target)
    os.close(log)
    for pid in pids:
        cgroups.join(task.cgroup_procs, pid)
