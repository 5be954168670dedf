"""What programs expect of a file system. Runs in the guest of tests/vm/test_share.py; says `RESULT name outcome`."""

import fcntl
import mmap
import os
import socket
import time
from collections.abc import Callable

HERE = "/run/katapy/shared/test/mounts/1"
CHECKS: list[Callable[[], object]] = []


def check(function: Callable[[], object]) -> Callable[[], object]:
    CHECKS.append(function)
    return function


def write(name: str, data: bytes) -> None:
    with open(name, "wb") as f:
        f.write(data)


def read(name: str) -> bytes:
    with open(name, "rb") as f:
        return f.read()


def ask_host(command: str) -> None:
    """The host does it as soon as it reads the line on the console."""
    print(f"HOST {command}", flush=True)


def until(condition: Callable[[], bool], seconds: float = 5) -> float:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "never"
    return time.monotonic() - start


@check
def shared_mapping() -> None:
    write("mapped", bytes(8192))
    with open("mapped", "r+b") as f, mmap.mmap(f.fileno(), 8192) as m:
        m[4096:4101] = b"hello"
        m.flush()
    assert read("mapped")[4096:4101] == b"hello"


@check
def executable_mapping() -> None:
    with open("mapped", "rb") as f:
        mmap.mmap(f.fileno(), 8192, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC).close()


@check
def links() -> None:
    write("one", b"1")
    os.link("one", "two")
    os.symlink("one", "three")
    assert os.stat("two").st_nlink == 2
    assert read("three") == b"1"
    os.rename("two", "four")
    os.unlink("four")


@check
def unlinked_file_is_still_there() -> None:
    with open("gone", "w+b") as f:
        os.unlink("gone")
        f.write(b"abc")
        f.seek(0)
        assert f.read() == b"abc"
        assert os.fstat(f.fileno()).st_size == 3


@check
def owners_and_modes() -> None:
    write("owned", b"")
    os.chown("owned", 1234, 5678)
    os.chmod("owned", 0o4755)
    found = os.stat("owned")
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (1234, 5678, 0o4755)


@check
def special_files() -> None:
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind("socket")


@check
def device_nodes() -> None:
    os.mknod("null", 0o20666, os.makedev(1, 3))


@check
def extended_attributes() -> None:
    os.setxattr("owned", "user.katapy", b"1")
    assert os.getxattr("owned", "user.katapy") == b"1"


@check
def file_capabilities() -> None:
    os.setxattr("owned", "security.capability", bytes.fromhex("0100000200040000" + "00" * 12))


@check
def locks() -> None:
    with open("owned", "r+b") as one, open("mapped", "r+b") as other:  # 9p takes both kinds for one
        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@check
def times_in_nanoseconds() -> None:
    os.utime("owned", ns=(1_000_000_001, 2_000_000_002))
    assert os.stat("owned").st_mtime_ns == 2_000_000_002


@check
def allocation_and_long_names() -> None:
    with open("n" * 255, "wb") as f:
        os.posix_fallocate(f.fileno(), 0, 100_000)


@check
def the_share_itself_is_out_of_reach() -> None:
    for path in ("/run/katapy/shared/evil", "/run/katapy/shared/test/evil", "/run/katapy/shared/test/mounts/0/evil"):
        try:
            os.mkdir(path)
        except OSError:
            continue
        raise AssertionError(f"made {path}")


@check
def mounts_have_device_numbers_of_their_own() -> None:
    assert os.stat(HERE).st_dev != os.stat("/run/katapy/shared/test/mounts/0").st_dev


@check
def many_files() -> None:
    os.mkdir("many")
    for i in range(1000):
        write(f"many/{i}", b"x")
    assert len(os.listdir("many")) == 1000
    assert sum(entry.stat().st_size for entry in os.scandir("many")) == 1000


@check
def coherence() -> str:
    write("from-guest", b"guest")
    ask_host("check")
    until(lambda: os.path.exists("from-host") and os.stat("from-host").st_size == 5)
    assert read("from-host") == b"host1"
    ask_host("append")
    seen = until(lambda: read("from-host") == b"host1+more")
    ask_host("remove")
    until(lambda: not os.path.exists("from-host"))
    ask_host("mount")
    until(lambda: os.path.exists("/run/katapy/shared/later/mounts/0/from-guest"))
    return f"{seen:.3f}"


os.chdir(HERE)
for function in CHECKS:
    try:
        outcome = function() or "ok"
    except Exception as e:
        outcome = f"{type(e).__name__}: {e}"
    print(f"RESULT {function.__name__} {outcome}", flush=True)
print("END", flush=True)
