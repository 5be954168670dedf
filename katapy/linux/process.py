"""Start a helper (QEMU, virtiofsd) with as little as it needs: descriptors, user, capabilities, limits. Host only.

fork and exec by hand, from a process with one thread: `subprocess` costs 20 ms to import and can't do half of this. The
child has its own session, umask 077, /dev/null as stdin and only the descriptors it is given; it dies with the thread
that forked it.
"""

import fcntl
import gc
import os
import resource
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from katapy.errors import HostError, errno_text
from katapy.linux import capabilities, namespaces

_PR_SET_KEEPCAPS = 8
_PR_SET_NO_NEW_PRIVS = 38
_SPARE = 512
"""Descriptors are first copied above this number, so that no target overwrites a source. The usual limit is 1024."""

_MAX_FD = 0x7FFFFFFF

_DEFAULT_ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


@dataclass(frozen=True, slots=True)
class Confinement:
    """Who the child is and what it may do.

    `capabilities` are kept (effective, and ambient for users other than root), all others leave the bounding set too.
    `namespaces` (names of the runtime-spec) are left for new ones. `nofile` is the soft and hard limit, or what comes
    near it where the hard limit can't be raised; None leaves it.
    """

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    capabilities: frozenset[str] = frozenset()
    namespaces: tuple[str, ...] = ()
    nofile: int | None = None


@dataclass(frozen=True, slots=True)
class Spawned:
    """A child that was exec'ed. The caller owns `pidfd`, and must reap the child."""

    pid: int
    pidfd: int


def spawn_confined(
    argv: Sequence[str],
    confinement: Confinement | None,
    *,
    descriptors: Mapping[int, int] | None = None,
    stderr: int | None = None,
    env: Mapping[str, str] | None = None,
    prepare: Callable[[], None] | None = None,
) -> Spawned:
    """Starts argv[0] (an absolute path); returns when exec has succeeded. No confinement: the caller's user and rights.

    `descriptors`: number in the child -> descriptor of the caller, who keeps it. `stderr`: for stdout too; None is
    /dev/null. `prepare` runs in the child as root, after the new namespaces exist: private mounts. Raises HostError
    that names the binary.
    """
    report, failed = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _child(argv, confinement, dict(descriptors or {}), stderr, env, prepare, failed, parent)
    os.close(failed)
    with open(report, "rb") as f:
        error = f.read().decode(errors="replace")
    if error:
        os.waitpid(pid, 0)
        raise HostError(f"can't start {argv[0]}: {error}")
    try:
        return Spawned(pid, os.pidfd_open(pid))
    except OSError as e:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise HostError(f"can't start {argv[0]}: pidfd_open: {errno_text(e)}") from e


def _child(
    argv: Sequence[str],
    confinement: Confinement | None,
    descriptors: dict[int, int],
    stderr: int | None,
    env: Mapping[str, str] | None,
    prepare: Callable[[], None] | None,
    failed: int,
    parent: int,
) -> NoReturn:
    """Whatever goes wrong is one line on `failed`; success closes it by exec."""
    step = "session"
    try:
        gc.disable()  # a collection would copy every page of the heap
        os.setsid()
        os.umask(0o077)
        _reset_signals()
        step = "descriptors"
        failed = _arrange_descriptors(descriptors, stderr, failed)
        if confinement is not None:
            step = "namespaces"
            namespaces.unshare(list(confinement.namespaces))
        if prepare is not None:
            step = "private mounts"
            prepare()
        if confinement is not None:
            step = "limits"
            _limit(confinement)
            step = "user and capabilities"
            _become(confinement)
        # Not sooner: the kernel clears it whenever credentials change. A parent that died before is not noticed by it.
        capabilities.die_with_parent()
        if os.getppid() != parent:
            os._exit(1)
        step = "exec"
        # PR_SET_DUMPABLE would not survive exec; the limit on core files does.
        os.execve(argv[0], list(argv), dict(_DEFAULT_ENV if env is None else env))
    except BaseException as e:  # the child of a fork has nobody to raise to
        reason = os.strerror(e.errno) if isinstance(e, OSError) and e.errno else str(e) or type(e).__name__
        os.write(failed, f"{step}: {reason[:1].lower()}{reason[1:]}".encode()[:1000])
    finally:
        os._exit(127)


def _reset_signals() -> None:
    """Python ignores SIGPIPE, callers block and ignore others; exec would pass that on."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def _arrange_descriptors(wanted: dict[int, int], stderr: int | None, failed: int) -> int:
    """Puts every descriptor at its number, closes all others, returns the new number of `failed`."""
    null = os.open("/dev/null", os.O_RDWR)
    output = null if stderr is None else stderr
    sources = {0: null, 1: output, 2: output, **wanted, max(wanted, default=2) + 1: failed}
    copies = {target: _copy_up(source) for target, source in sources.items()}
    last = -1
    for target, copy in sorted(copies.items()):
        if target > last + 1:  # an empty range would mean all of them
            os.closerange(last + 1, target)
        os.dup2(copy, target, inheritable=True)
        last = target
    os.set_inheritable(last, False)
    os.closerange(last + 1, _MAX_FD)
    return last


def _copy_up(source: int) -> int:
    return fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, _SPARE)


def _limit(confinement: Confinement) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if confinement.nofile is not None:
        wanted, hard = confinement.nofile, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
        except (ValueError, OSError):  # raising the hard limit takes CAP_SYS_RESOURCE
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _become(confinement: Confinement) -> None:
    """Changes user and capabilities, for good."""
    keep = capabilities.mask(confinement.capabilities)
    capabilities.limit_bounding_set(keep)
    os.setgroups(list(confinement.groups))
    os.setresgid(confinement.gid, confinement.gid, confinement.gid)
    if confinement.uid != 0:
        capabilities.prctl(_PR_SET_KEEPCAPS, 1)
        os.setresuid(confinement.uid, confinement.uid, confinement.uid)
    capabilities.set_capabilities(keep)
    if confinement.uid != 0:
        capabilities.set_ambient(keep)
    capabilities.prctl(_PR_SET_NO_NEW_PRIVS, 1)
