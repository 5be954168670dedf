"""What `create` and `exec` share: the caller's descriptors, the end of a stand-in, the pid file. CLI only.

`exec` is called often (health checks), so little is imported here.
"""

import contextlib
import os

from katapy.errors import HostError, errno_text

TYPE_CHECKING = False  # typing's own constant costs typing
if TYPE_CHECKING:
    from collections.abc import Callable

    from katapy.standin import Standin


def end_standin(standin: "Standin") -> None:
    with contextlib.suppress(ProcessLookupError, ChildProcessError):  # it may have ended with the supervisor
        standin.kill()


def stdio(
    console_socket: str, size: tuple[int, int] | None, undo: contextlib.ExitStack
) -> tuple[tuple[int, int, int], int | None]:
    """Descriptors for stdin, stdout, stderr, and the terminal that becomes the stand-in's controlling one."""
    if not console_socket:
        return _standard_descriptors(undo), None
    from katapy.cli.terminal import open_console

    slave = open_console(console_socket, size)
    undo.callback(os.close, slave)
    return (slave, slave, slave), slave


def _standard_descriptors(undo: contextlib.ExitStack) -> tuple[int, int, int]:
    """0, 1, 2; /dev/null for those that the caller closed."""
    found = []
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            undo.callback(os.close, null)
            found.append(null)
        else:
            found.append(fd)
    return found[0], found[1], found[2]


def write_pid_file(path: str, pid: int) -> None:
    """Decimal, no newline, by rename: whoever sees the file sees a pid. Raises HostError."""
    path = os.path.abspath(path)
    temporary = f"{os.path.dirname(path)}/.{os.path.basename(path)}.{os.getpid()}"
    try:
        with open(temporary, "x", encoding="ascii") as f:
            f.write(str(pid))
        os.rename(temporary, path)
    except OSError as e:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise HostError(f"pid file {path}: {errno_text(e)}") from e


def publish_pid(pid_file: str) -> "Callable[[int], None]":
    """What to do with the stand-in's pid once all is done. Raises HostError now if that can't be: a boot takes long."""
    folder = os.path.dirname(os.path.abspath(pid_file))
    if pid_file and os.path.isdir(pid_file):
        raise HostError(f"pid file {pid_file}: is a directory")
    if pid_file and not os.path.isdir(folder):
        raise HostError(f"pid file {pid_file}: no such file or directory")
    if pid_file and not os.access(folder, os.W_OK):
        raise HostError(f"pid file {pid_file}: permission denied")

    def publish(pid: int) -> None:
        if pid_file:
            write_pid_file(pid_file, pid)

    return publish
