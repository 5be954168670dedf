"""Loop devices: block devices of the host that a test may fill and lose. Runs in pytest, as root."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from framework.bundle import Spec
from framework.fixtures import unavailable


class Loop(NamedTuple):
    """A device with `file` behind it."""

    path: str
    file: Path

    def node(self, path: str) -> Spec:
        """An entry of linux.devices."""
        return {"path": path, "type": "b", "major": self._numbers[0], "minor": self._numbers[1], "fileMode": 0o660}

    def rule(self, access: str) -> Spec:
        """An entry of linux.resources.devices that allows this one."""
        major, minor = self._numbers
        return {"allow": True, "type": "b", "major": major, "minor": minor, "access": access}

    @property
    def _numbers(self) -> tuple[int, int]:
        number = os.stat(self.path).st_rdev
        return os.major(number), os.minor(number)

    def read(self, offset: int, size: int) -> bytes:
        """What the device holds."""
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(fd, size, offset)
        finally:
            os.close(fd)


@contextlib.contextmanager
def loop_device(file: Path, size: int, *format: str) -> Iterator[Loop]:
    """`file`, made with that size (in bytes) and formatted by that command, as a loop device."""
    with file.open("xb") as made:
        made.truncate(size)
    if format:
        subprocess.run([*format, file], check=True, capture_output=True)
    done = subprocess.run(["losetup", "--find", "--show", file], capture_output=True, text=True, check=False)
    if done.returncode:
        unavailable(f"no loop devices here: {done.stderr.strip()}")
    path = done.stdout.strip()
    try:
        yield Loop(path, file)
    finally:
        subprocess.run(["losetup", "--detach", path], check=True)
