"""The supervisor as a process, for `delete`: is it frozen, wait for its end, kill it. By pidfd: pids are reused."""

import os
import select

from katapy.errors import HostError, Timeout, errno_text
from katapy.linux import proc
from katapy.sandbox import store


def check_not_frozen(state: store.State) -> None:
    """Raises Timeout at once for a supervisor that is stopped: waiting for its answer would be in vain."""
    if state.supervisor_pid and proc.is_stopped(state.supervisor_pid):
        raise Timeout(
            f"the supervisor of {state.id} (pid {state.supervisor_pid}) is frozen: send it SIGCONT, or delete --force"
        )


def wait_end(state: store.State, deadline_s: float) -> bool:
    """Whether the supervisor has ended within `deadline_s`."""
    fd = _open(state)
    if fd < 0:
        return True
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(int(deadline_s * 1000)))
    finally:
        os.close(fd)


def kill(state: store.State) -> None:
    """SIGKILL; nothing if it has ended. Raises HostError."""
    import signal  # needs enum; only the unhappy path pays

    fd = _open(state)
    if fd < 0:
        return
    try:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    except OSError as e:
        raise HostError(f"kill supervisor {state.supervisor_pid}: {errno_text(e)}") from e
    finally:
        os.close(fd)


def _open(state: store.State) -> int:
    """A pidfd (the caller closes it), or -1 if the supervisor has ended. The start time is checked after opening."""
    try:
        fd = os.pidfd_open(state.supervisor_pid)
    except ProcessLookupError:
        return -1
    if store.supervisor_alive(state):
        return fd
    os.close(fd)
    return -1
