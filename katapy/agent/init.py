"""What PID 1 does to a bare kernel before anything can run: mounts, cgroups, loopback, limits. Runs in the agent.

Everything is a table or a short function, in the order of `prepare`.
"""

import ctypes
import fcntl
import os
import resource
import signal
import socket
import struct
import time

from katapy.linux.mount import MS_NODEV, MS_NOEXEC, MS_NOSUID, mount
from katapy.protocol import names

CGROUP = "/sys/fs/cgroup"
AGENT_CGROUP = "agent"
OPEN_FILES = 1024 * 1024

PR_SET_DUMPABLE = 4
RNDADDENTROPY = 0x40085203
RNDRESEEDCRNG = 0x5207
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1
MALLOC = (
    (-3, 16 * 1024 * 1024),  # M_MMAP_THRESHOLD
    (-1, 32 * 1024 * 1024),  # M_TRIM_THRESHOLD
    (-8, 2),  # M_ARENA_MAX
)
RB_POWER_OFF = 0x4321FEDC

_QUIET = MS_NOSUID | MS_NODEV | MS_NOEXEC
MOUNTS = (
    ("proc", "/proc", "proc", _QUIET, ""),
    ("sysfs", "/sys", "sysfs", _QUIET, ""),
    ("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755"),
    ("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "mode=0620,gid=5,ptmxmode=0666"),
    ("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777"),
    ("mqueue", "/dev/mqueue", "mqueue", _QUIET, ""),
    ("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755"),
    ("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777"),
    ("cgroup2", CGROUP, "cgroup2", _QUIET, ""),
)
LINKS = (
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
)


def prepare() -> None:
    """From the kernel's hand-over to a machine that containers can run in. Raises OSError."""
    os.umask(0o022)
    tune_malloc()
    mount_early()
    protect()
    enable_cgroups()
    raise_loopback()


def mount_early() -> None:
    """Mounts what the initrd has not mounted already."""
    for source, target, fstype, flags, data in MOUNTS:
        if not os.path.ismount(target):
            os.makedirs(target, exist_ok=True)
            mount(source, target, fstype, flags, data)
    for source, link in LINKS:
        if not os.path.lexists(link):
            os.symlink(source, link)
    for directory in (names.GUEST_RUN, names.GUEST_CONTAINERS, names.GUEST_NAMESPACES, names.GUEST_SHARED):
        os.makedirs(directory, mode=0o711, exist_ok=True)


def protect() -> None:
    """Keeps the agent alive and its memory to itself; signals that would end it are ignored."""
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    set_oom_score(-1000)


def tune_malloc() -> None:
    """Keeps freed blocks of message size in the heap: to get them from the kernel each time halves the throughput."""
    libc = ctypes.CDLL(None)
    for parameter, value in MALLOC:
        libc.mallopt(parameter, value)


def set_oom_score(score: int) -> None:
    """-1000 for the agent itself; 0 for the moment in which a child is made, which inherits it."""
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(str(score))


def enable_cgroups(root: str = CGROUP) -> None:
    """Agent in a leaf, all controllers for the containers: a cgroup with processes can't hand controllers down."""
    leaf = f"{root}/{AGENT_CGROUP}"
    os.makedirs(leaf, exist_ok=True)
    _write(f"{leaf}/cgroup.procs", "1")
    enable_controllers(root)
    parent = root + names.GUEST_CGROUP_ROOT
    os.makedirs(parent, exist_ok=True)
    enable_controllers(parent)


def enable_controllers(cgroup: str) -> None:
    """Hands every controller the cgroup has to its children."""
    with open(f"{cgroup}/cgroup.controllers", encoding="ascii") as file:
        controllers = file.read().split()
    _write(f"{cgroup}/cgroup.subtree_control", " ".join(f"+{name}" for name in controllers))


def raise_loopback() -> None:
    """`ip link set lo up`; the kernel adds 127.0.0.1 and ::1 by itself."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack_from("16sH", fcntl.ioctl(control, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def seed_random(entropy: bytes) -> None:
    """Mixes the host's bytes into the kernel's generator, so that no two machines agree. Raises OSError."""
    if not entropy:
        return
    with open("/dev/urandom", "wb", buffering=0) as device:
        # struct rand_pool_info: entropy_count in bits, buf_size in bytes, buf
        fcntl.ioctl(device, RNDADDENTROPY, struct.pack("ii", len(entropy) * 8, len(entropy)) + entropy)
        fcntl.ioctl(device, RNDRESEEDCRNG, 0)


def set_clock(unix_nanoseconds: int) -> None:
    """Sets the machine's clock; 0 leaves it. Raises OSError."""
    if unix_nanoseconds > 0:
        time.clock_settime_ns(time.CLOCK_REALTIME, unix_nanoseconds)


def power_off() -> None:
    """Ends the machine. Does not return if the kernel obeys."""
    os.sync()
    ctypes.CDLL(None).reboot(RB_POWER_OFF)


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
