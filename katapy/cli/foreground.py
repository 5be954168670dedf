"""Waits for a stand-in in the foreground and hands signals on to it: `run` and `exec` without --detach. CLI only."""

import os
import signal

_NOT_FORWARDED = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGURG}


def wait_for(pid: int) -> int:
    """The exit status of the stand-in `pid`, a child of the caller; signals that arrive meanwhile go to it."""

    def forward(signum: int, _: object) -> None:
        os.kill(pid, signum)

    for signum in signal.valid_signals() - _NOT_FORWARDED:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, forward)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
