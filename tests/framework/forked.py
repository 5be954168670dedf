"""Work in a forked child of pytest, for what a test must not do to pytest itself: mounts, threads, namespaces."""

import os
import traceback
from collections.abc import Callable

import pytest

from katapy.storage.shared_directory import enter_private_mounts

_MAX_WORDS = 8000


def in_child(work: Callable[[], None]) -> None:
    """Runs `work`; its traceback is the test's failure."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:  # a forked pytest must not go on
            os.write(write, traceback.format_exc().encode()[-_MAX_WORDS:])
        finally:
            os._exit(0)
    os.close(write)
    with open(read) as f:
        failure = f.read()
    os.waitpid(pid, 0)
    if failure:
        pytest.fail(failure)


def isolated(work: Callable[[], None]) -> None:
    """`in_child`, with a mount namespace of its own."""

    def run() -> None:
        enter_private_mounts()
        work()

    in_child(run)
