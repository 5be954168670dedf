"""The test host's QEMU: command line, process, sockets. Runs in whoever owns the test host; it dies with its owner.

Nothing of it is on disk: sockets are pairs, and what the machine writes to its disks goes to files without a name.
"""

import contextlib
import os
import signal
import socket
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from katapy.linux.process import spawn_confined
from testhost.description import Description
from testhost.frames import PORT

QEMU = "/usr/bin/qemu-system-x86_64"
_READ = 64 * 1024
_LINES = 30
_CHARDEVS = ("qmp", "port", "console")


@dataclass(frozen=True, slots=True)
class Disks:
    """Files: the folder of the image (kernel, initrd), the root file system, the guest image's, the memory."""

    image: Path
    root: Path
    guest: Path
    memory: Path


def argv(what: Description, disks: Disks, clone: bool, fds: dict[str, int]) -> list[str]:
    """Pure. `fds`: the numbers that the sockets `qmp`, `port` and `console` have in QEMU.

    A clone waits to be told where from it is resumed; it changes neither memory nor root file system on disk.
    """
    machine = what.machine
    memory = f"memory-backend-file,id=memory,mem-path={disks.memory},size={machine.memory_mib}M"
    return [
        QEMU,
        "-name", "guest=katapy-testhost",
        "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-machine", "q35,vmport=off,smm=off,hpet=off,sata=off,smbus=off,i8042=off,usb=off,graphics=off",
        "-accel", "tcg,thread=multi", "-cpu", "max",
        "-smp", str(machine.cpus), "-m", f"{machine.memory_mib}M",
        "-object", f"{memory},share={'off' if clone else 'on'}", "-machine", "memory-backend=memory",
        "-kernel", str(disks.image / "vmlinux"), "-initrd", str(disks.image / "initrd"),
        "-append", " ".join(["console=hvc0", *what.kernel_parameters]),
        *(part for name in _CHARDEVS for part in ("-chardev", f"socket,id={name},fd={fds[name]}")),
        "-mon", "chardev=qmp,mode=control",
        *_disk("root", disks.root, f"snapshot={'on' if clone else 'off'}"),
        *_disk("guest", disks.guest, "readonly=on"),
        "-device", "virtio-serial-pci", "-device", "virtconsole,chardev=console",
        "-device", f"virtserialport,chardev=port,name={PORT}",
        "-object", "rng-builtin,id=rng", "-device", "virtio-rng-pci,rng=rng",
        "-device", "vmgenid,guid=auto",
        *(("-incoming", "defer") if clone else ()),
    ]  # fmt: skip


def _disk(name: str, path: Path, option: str) -> list[str]:
    """`snapshot=on`: what is written goes to a temporary file that has no name. Full host: an I/O error in there."""
    drive = f"if=none,id={name},format=raw,cache=unsafe,werror=report,file={path},{option}"
    return ["-drive", drive, "-device", f"virtio-blk-pci,drive={name},serial={name}"]


class Process:
    """QEMU, and our ends of its sockets. `close` ends it; so does the end of this process."""

    def __init__(self, what: Description, disks: Disks, clone: bool) -> None:
        """Raises HostError if QEMU can't be started."""
        ours: dict[str, socket.socket] = {}
        with contextlib.ExitStack() as theirs:
            fds = {}
            for name in _CHARDEVS:
                ours[name], other = socket.socketpair()
                fds[name] = theirs.enter_context(other).fileno()
            self._stderr, stderr = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            theirs.callback(os.close, stderr)
            numbers = {name: 3 + n for n, name in enumerate(_CHARDEVS)}
            environment = {"PATH": "/usr/sbin:/usr/bin", "TMPDIR": os.environ.get("TMPDIR", "/var/tmp")}
            child = spawn_confined(
                argv(what, disks, clone, numbers),
                None,
                descriptors={numbers[name]: fd for name, fd in fds.items()},
                stderr=stderr,
                env=environment,
            )
        self.pid, self._pidfd = child.pid, child.pidfd
        self.qmp, self.port, self._console = (ours[name] for name in _CHARDEVS)
        self._console.setblocking(False)
        self._said: deque[bytes] = deque(maxlen=_LINES)

    def words(self) -> list[int]:
        """Descriptors that become readable when the machine says something to `listen` to."""
        return [self._console.fileno(), self._stderr]

    def listen(self) -> None:
        """Takes in what the console and QEMU's stderr have said. Never blocks."""
        for fd in self.words():
            with contextlib.suppress(BlockingIOError, ConnectionError):
                while data := os.read(fd, _READ):
                    self._said.extend(line for line in data.splitlines() if line.strip())

    def tail(self) -> str:
        """What was said last."""
        self.listen()
        text = b"\n".join(self._said).decode(errors="replace")
        return "".join(c for c in text if c.isprintable() or c == "\n")

    def close(self) -> None:
        """SIGKILL, and everything is closed. Idempotent."""
        if self._pidfd < 0:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # somebody else in our process reaps whatever has ended
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        for fd in (self._pidfd, self._stderr):
            os.close(fd)
        self._pidfd = -1
        for end in (self.qmp, self.port, self._console):
            end.close()
