"""Forks the supervisor out of `katapy create`. Runs in the CLI (parent) and is the supervisor's first step (child).

Forked, not spawned: the imports and the plan come along, which saves a second interpreter's start. That is safe as
long as there is one thread: asserted here. The child keeps the listening control socket, the lifeline and nothing
else.

The lifeline is a pipe whose writing end only the CLI holds: its end of file before the container exists means that
`create` was killed, and the supervisor unwinds.
"""

import contextlib
import os
import signal
import sys
import threading
from dataclasses import dataclass

from katapy import cgroups
from katapy.config import Config
from katapy.factory.maker import Obtained
from katapy.sandbox import store
from katapy.sandbox.plan import SandboxPlan
from katapy.storage.shared_directory import enter_private_mounts

LOG_FILE = "supervisor.log"


@dataclass(frozen=True, slots=True)
class Task:
    """What a supervisor is forked for.

    `origin`: time.monotonic() when `create` was called. `root`: `--root`. `template`: what its machine is cloned from.
    """

    plan: SandboxPlan
    config: Config
    root: str
    cgroup_procs: tuple[str, ...]
    origin: float
    template: Obtained

    @property
    def directory(self) -> str:
        return store.directory(self.root, self.plan.id)


@dataclass(frozen=True, slots=True)
class Launched:
    """The caller owns `lifeline`: closing it before the container is created ends the supervisor."""

    pid: int
    lifeline: int


def launch(task: Task, listener: int) -> Launched:
    """Forks; returns when the child has its own mount namespace. `listener` stays the caller's, who closes it.

    A child that fails before that says why in its log, and is found gone by whoever asks it for something.
    """
    assert threading.active_count() == 1, "a supervisor must be forked before any thread exists"
    reading, writing = os.pipe2(os.O_CLOEXEC)
    ready_r, ready_w = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _child(task, listener, reading, ready_w)
    os.close(reading)
    os.close(ready_w)
    with open(ready_r, "rb") as ready:
        ready.read()
    return Launched(pid, writing)


def _child(task: Task, listener: int, lifeline: int, ready: int) -> None:
    status = 70
    try:
        _detach(task, {listener, lifeline, ready})
        enter_private_mounts()
        os.close(ready)
        from katapy.supervisor.main import serve

        serve(task, listener, lifeline)
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(status)


def _detach(task: Task, kept: set[int]) -> None:
    """Own session, own descriptors, own cgroup: whoever called `create` must see end of file on its pipes."""
    os.setsid()
    os.umask(0o077)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(signum, signal.SIG_IGN)  # ends when its last container ends, or by SIGKILL
    log = os.open(f"{task.directory}/{LOG_FILE}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open("/dev/null", os.O_RDWR)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    for entry in os.listdir("/proc/self/fd"):
        fd = int(entry)
        if fd > 2 and fd not in kept:
            with contextlib.suppress(OSError):  # the listing's own
                os.close(fd)
    os.chdir("/")
    cgroups.join(task.cgroup_procs, os.getpid())
