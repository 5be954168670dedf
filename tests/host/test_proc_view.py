"""The view of a guest's processes where its files can't be written."""

import asyncio
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from katapy.protocol import agent_pb2 as pb
from katapy.sandbox.proc_view import ProcView, fill


def test_a_full_file_system_is_one_line_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """tmpfs counts inodes: there is one, for the directory itself."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=1", tmp_path.name, tmp_path], check=True)
    try:
        shown = asyncio.run(_look_twice(tmp_path))
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert shown == [[], []]
    (line,) = caplog.messages
    assert line.endswith(f"{tmp_path}/stat: no space left on device")


def test_a_file_system_that_was_full_shows_all_when_it_has_room_again(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=20", tmp_path.name, tmp_path], check=True)
    try:
        with pytest.raises(OSError, match="No space left"):
            fill(str(tmp_path), [pb.Process(pid=pid, command="sleep 9") for pid in range(1, 9)])
        subprocess.run(["mount", "-o", "remount,nr_inodes=99", tmp_path], check=True)
        for pids in ([4, 5, 6], [8]):
            fill(str(tmp_path), [pb.Process(pid=pid, command="sleep 9") for pid in pids])
            assert sorted(os.listdir(tmp_path)) == [".shown", *map(str, pids), "stat"]
            assert all((tmp_path / str(pid) / "cmdline").exists() for pid in pids)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


async def _look_twice(directory: Path) -> list[list[str]]:
    async def processes() -> Sequence[pb.Process]:
        return [pb.Process(pid=7, ppid=1, command="sleep 9")]

    view = ProcView(str(directory), processes)
    try:
        return [await asyncio.to_thread(os.listdir, directory) for _ in range(2)]
    finally:
        view.close()
