"""Being asked before somebody opens a directory, for real."""

import os
import select
from pathlib import Path

from katapy.linux.fanotify import OpenWatch


def test_who_opens_sees_what_was_done_before_he_was_let_in(tmp_path: Path) -> None:
    watch = OpenWatch(str(tmp_path))
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, ",".join(os.listdir(tmp_path)).encode())
        os._exit(0)
    select.select([watch.fd], [], [], 10)
    (descriptor,) = watch.waiting()
    (tmp_path / "new").touch()
    watch.allow(descriptor)
    os.waitpid(pid, 0)
    assert os.read(reading, 100) == b"new"
    watch.close()
    os.close(reading)
    os.close(writing)
