"""The stand-in: the host process whose pid stands for a process in the guest. Forked by the CLI (create, run, exec).

It is a shell that waits on descriptor 3, one end of a socket pair whose other end the supervisor holds: signals it
receives go out as decimal lines, the exit status comes in as one, and it exits with that. End of file means that the
supervisor is gone: exit 137. Killing the stand-in closes the pair, by which the supervisor knows to kill the guest's
process. A shell is a twentieth of a forked Python: 0.2 MB against 4 (docs/decisions/0002-stand-in.md).

Its namespaces stand for the container's: engines read /proc/<pid>/ns/net, `podman cp` enters /proc/<pid>/ns/mnt and
takes its root for the container's. The root file system is mounted *over* the root of that namespace, so whoever
enters sees it as /, while the shell itself still runs from the host's file system: nothing of the container's is ever
executed here.
"""

import errno
import os
import signal
import socket
import stat

TYPE_CHECKING = False  # typing's own constant costs typing
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CHANNEL_FD = 3
KILLED_STATUS = 128 + signal.SIGKILL
_READY = b"ready"
_DASH = "/bin/dash"
"""Debian's /bin/sh, and there also where that is bash, whose `read` is not cut short by SIGWINCH (SA_RESTART in its
sig.c): the guest would not be told of a terminal's new size."""
_SHELL = "/bin/sh"

_UNTRAPPED = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE}
_FORWARDED = sorted(s for s in signal.valid_signals() if s not in _UNTRAPPED)
# SIGPIPE is ignored: with the supervisor gone, its trap would write to the same closed pair for ever.
# `read` fails alike at end of file and when a trapped signal cuts it short: `t` tells one from the other.
SCRIPT = (
    "trap '' PIPE; for s in "
    + " ".join(str(int(s)) for s in _FORWARDED)
    + '; do trap "echo $s >&3; t=1" $s; done\n'
    + f'while :; do t=; read -r c <&3 && exit "$c"; [ "$t" ] || exit {KILLED_STATUS}; done'
)


class StandinSpec:
    """What the stand-in shows of the container. A plain class: `exec` is called often, and dataclasses cost 7 ms.

    name: argv[0], for `ps` on the host. namespaces: (type, path or None for a new one). mounts: the mount namespace
    it starts in, None for a copy of the caller's. rootfs: host path or None. proc: directory that is shown as its
    /proc. terminal: descriptor of the terminal that becomes its controlling one, or None.
    """

    def __init__(
        self,
        name: str,
        namespaces: tuple[tuple[str, str | None], ...] = (),
        mounts: str | None = None,
        rootfs: str | None = None,
        proc: str | None = None,
        hostname: str = "",
        terminal: int | None = None,
    ) -> None:
        self.name = name
        self.namespaces = namespaces
        self.mounts = mounts
        self.rootfs = rootfs
        self.proc = proc
        self.hostname = hostname
        self.terminal = terminal


class Standin:
    """A stand-in that is held until `release`: it has its namespaces, hooks may work in them, nothing is hidden yet.

    `channel` is the end for the supervisor; the owner sends it on and closes it.
    """

    def __init__(self, pid: int, channel: socket.socket, control: socket.socket) -> None:
        self.pid = pid
        self.channel = channel
        self._control = control
        self._await(_READY)

    def release(self) -> None:
        """Lets it put the root file system over its own and become the shell.

        Raises OSError of the step that failed.
        """
        self._control.send(b"go")
        self._await(b"")
        self._control.close()

    def kill(self) -> None:
        """Ends and reaps it. Only for the process that forked it."""
        self.channel.close()
        self._control.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def _await(self, expected: bytes) -> None:
        """The child's next word; end of file (exec has closed it) is the empty one. Anything else is `errno text`."""
        said = self._control.recv(4096)
        if said == expected:
            return
        self.channel.close()
        self._control.close()
        os.waitpid(self.pid, 0)
        number, _, text = said.decode(errors="replace").partition(" ")
        raise OSError(int(number or errno.EIO), text or "it ended")


def spawn(spec: StandinSpec, join_cgroup: "Callable[[int], None] | None" = None) -> Standin:
    """Forks a stand-in; returns when it has its namespaces. Raises OSError of the step that failed."""
    ours, theirs = socket.socketpair()
    our_control, their_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        ours.close()
        our_control.close()
        _child(spec, theirs.fileno(), their_control, join_cgroup)
    theirs.close()
    their_control.close()
    return Standin(pid, ours, our_control)


def _child(
    spec: StandinSpec, channel: int, control: socket.socket, join_cgroup: "Callable[[int], None] | None"
) -> None:
    """In the fork: becomes the shell, or reports `errno text` and ends. Never returns."""
    try:
        if join_cgroup is not None:
            join_cgroup(os.getpid())
        os.setsid()
        if spec.terminal is not None:
            from katapy.linux import namespaces

            namespaces.set_controlling_terminal(spec.terminal)
        if spec.mounts is not None or spec.rootfs is not None or spec.namespaces:
            _enter(spec)
        control.send(_READY)
        if control.recv(16):
            if spec.rootfs is not None:
                _cover_root(spec.rootfs, spec.proc)
            _exec_shell(spec.name, channel, control.fileno())
    except OSError as e:
        control.send(f"{e.errno or errno.EIO} {e.strerror}{': ' + str(e.filename) if e.filename else ''}".encode())
    finally:
        os._exit(KILLED_STATUS)


def _enter(spec: StandinSpec) -> None:
    from katapy.linux import namespaces

    if spec.mounts is not None:
        namespaces.join("mount", spec.mounts)
    elif spec.rootfs is not None:
        _leave_mounts()
    kinds = dict(spec.namespaces)
    for kind, path in kinds.items():
        if path is not None and kind in namespaces.SHOWN:
            namespaces.join(kind, path)
    namespaces.unshare([k for k, p in kinds.items() if p is None and k in namespaces.SHOWN])
    if "uts" in kinds and kinds["uts"] is None and spec.hostname:
        namespaces.set_hostname(spec.hostname)


def _leave_mounts() -> None:
    """A copy of the mount namespace that follows the old one and shows it nothing."""
    from katapy.linux import mount, namespaces

    namespaces.unshare(["mount"])
    mount.mount("", "/", "", mount.MS_REC | mount.MS_SLAVE)


def _cover_root(rootfs: str, proc: str | None) -> None:
    from katapy.linux import mount

    _leave_mounts()
    if proc is not None:
        _cover_proc(rootfs, proc)
    mount.mount(rootfs, "/", "", mount.MS_BIND | mount.MS_REC)


def _cover_proc(rootfs: str, proc: str) -> None:
    """An image may have anything at /proc: a link is not followed, and without a directory there is nothing to show."""
    from katapy.linux import mount, mount_tree

    try:
        place = mount_tree.open_without_links(os.path.join(os.path.realpath(rootfs), "proc"))
    except OSError:
        return
    if stat.S_ISDIR(os.fstat(place).st_mode):
        mount.mount(proc, f"/proc/self/fd/{place}", "", mount.MS_BIND)
    os.close(place)


def _exec_shell(name: str, channel: int, report: int) -> None:
    """Descriptors 0 to 2 are /dev/null, 3 the channel, nothing else; `report` closes itself on success."""
    null = os.open("/dev/null", os.O_RDWR)
    high = [os.dup2(fd, 60 + i, inheritable=False) for i, fd in enumerate((report, channel, null))]
    for target in (0, 1, 2):
        os.dup2(high[2], target)
    os.dup2(high[1], CHANNEL_FD)
    for fd in sorted(os.listdir("/proc/self/fd"), key=int):
        if int(fd) > CHANNEL_FD and int(fd) != high[0]:
            _close_quietly(int(fd))
    for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    shown = name.lstrip("-") or "container"  # a leading dash makes a login shell, which reads the host's profile
    shell = _DASH if os.path.exists(_DASH) else _SHELL
    _execve(shell, [shown, "-c", SCRIPT], {"PATH": "/usr/bin:/bin"})


def _close_quietly(fd: int) -> None:
    """The descriptor of the listing itself is gone by now: EBADF is no failure."""
    import contextlib

    with contextlib.suppress(OSError):
        os.close(fd)


def _execve(path: str, argv: "Sequence[str]", env: dict[str, str]) -> None:
    os.execve(path, list(argv), env)
