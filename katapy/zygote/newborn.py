"""The first steps of what the zygote forks: nothing of the zygote stays but its imports. Runs in the forked process."""

import os
import signal
import socket
from collections.abc import Callable, Collection

from katapy.errors import KatapyError
from katapy.storage.shared_directory import enter_private_mounts
from katapy.supervisor.launch import detach, live, move_in
from katapy.zygote import caller
from katapy.zygote.caller import Standing
from katapy.zygote.order import Caller, live_as

_PYTHON_IGNORES = (signal.SIGPIPE, signal.SIGXFSZ)
"""As every Python does, that of `create` too."""


def fork(life: Callable[[], None], kept: Collection[int]) -> int:
    """The pid of a child that lives `life` with these descriptors. From one thread only."""
    threads = os.listdir("/proc/self/task")
    assert len(threads) == 1, "a supervisor must be forked before any thread exists"
    pid = os.fork()
    if pid == 0:
        live(lambda: _begin(life, kept))
    return pid


def _begin(life: Callable[[], None], kept: Collection[int]) -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, *_PYTHON_IGNORES}:
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    detach(kept)
    life()


def supervise(connection: socket.socket, size: int, standing: Standing) -> None:
    """The life of a supervisor that starts its machine itself."""
    who = Caller(connection, size)
    try:
        caller.take_on(standing)
        task = live_as(who.order())
        move_in(task, (os.getpid(),))
        enter_private_mounts()
        listener, lifeline = who.accept(warm=False)
    except (OSError, ValueError, KatapyError) as e:
        who.refuse(e)
        raise
    from katapy.supervisor.main import serve

    serve(task, listener, lifeline)
