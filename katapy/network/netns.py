"""What is in a network namespace of the host. CLI, before anything is created.

Joining interfaces to the guest is not there yet, so a namespace that has any is refused instead of being ignored.
"""

import os

from katapy.errors import HostError, Unsupported, errno_text
from katapy.linux import namespaces

_MAX_OUTPUT = 65536


def refuse_interfaces(path: str) -> None:
    """Raises Unsupported if the namespace at `path` has interfaces but `lo`, HostError if it can't be entered."""
    found = [name for name in interfaces(path) if name != "lo"]
    if found:
        raise Unsupported(
            f"network interface {found[0]} of {path} can't be joined to a guest yet: use a namespace without interfaces"
            " (podman: --network none)"
        )


def interfaces(path: str) -> list[str]:
    """Names of the namespace's interfaces.

    Looked up by a child, so that the caller stays where it is. Raises HostError.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _report(path, writing)
    os.close(writing)
    with open(reading, "rb") as pipe:
        answer = pipe.read(_MAX_OUTPUT)
    _, status = os.waitpid(pid, 0)
    if status != 0:
        raise HostError(f"network namespace {path}: {answer.decode(errors='replace') or 'cannot be entered'}")
    lines = answer.decode(errors="replace").splitlines()[2:]  # two lines of headings
    return [line.partition(":")[0].strip() for line in lines]


def _report(path: str, writing: int) -> None:
    """In the fork. Never returns."""
    status = 1
    try:
        namespaces.join("network", path)
        with open("/proc/thread-self/net/dev", "rb") as f:
            os.write(writing, f.read(_MAX_OUTPUT))
        status = 0
    except OSError as e:
        os.write(writing, errno_text(e).encode())
    finally:
        os._exit(status)
