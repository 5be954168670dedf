"""Real children, reaped."""

import asyncio
import os
import signal

import pytest

from katapy.agent.reaper import Reaper, exit_status


def child(script: str) -> int:
    return os.posix_spawn("/bin/sh", ["sh", "-c", script], {})


def test_status_of_children_watched_before_and_after_their_end() -> None:
    async def run() -> list[int]:
        reaper = Reaper()
        reaper.install(asyncio.get_running_loop())
        early = reaper.watch(child("exit 3"))
        killed = reaper.watch(child("kill -TERM $$"))
        with reaper.adopting():
            pid = child("exit 5")
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            reaper.reap()
            late = reaper.watch(pid)
        return [await early, await killed, await late]

    assert asyncio.run(run()) == [3, 128 + signal.SIGTERM, 5]


def test_orphans_are_reaped_and_forgotten() -> None:
    async def run() -> Reaper:
        reaper = Reaper()
        reaper.install(asyncio.get_running_loop())
        pid = child("exit 0")
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        reaper.reap()
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        return reaper

    assert asyncio.run(run())._unclaimed == {}


def test_exit_status() -> None:
    assert [exit_status(status) for status in (0, 7 << 8, 9, 9 | 0x80)] == [0, 7, 137, 137]
