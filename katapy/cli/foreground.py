"""Waits for a stand-in in the foreground and hands signals on to it: `run` and `exec` without --detach. CLI only."""

import os
import signal

_NOT_FORWARDED = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGURG}


def wait_for(pid: int) -> int:
    """The exit status of the stand-in `pid`, a child of the caller; signals that arrive meanwhile go to it.

    Those that come later do nothing: what is left is to clean up, and to end.
    """

    def forward(signum: int, _: object) -> None:
        os.kill(pid, signum)

    forwarded = [s for s in signal.valid_signals() - _NOT_FORWARDED if signal.getsignal(s) is not signal.SIG_IGN]
    for signum in forwarded:
        signal.signal(signum, forward)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    for signum in forwarded:  # before the pid may become another's
        signal.signal(signum, _too_late)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _too_late(_signum: int, _: object) -> None:
    """A handler, not SIG_IGN: hooks must not inherit that."""
