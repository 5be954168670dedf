"""`katapy check`: is this host ready to run containers, and if not, why not. Exit status 1 if something is missing.

Each check is a function that returns a Finding; it may raise KatapyError, which is a failure with that text. None
of them starts a machine or changes anything.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass

from katapy import config
from katapy.cgroups.hierarchies import mounted
from katapy.cli.log import write_output
from katapy.cli.parse import Args
from katapy.errors import HostError, KatapyError, errno_text
from katapy.factory.store import Store
from katapy.hypervisor.qemu import probe
from katapy.hypervisor.vm import Accelerator
from katapy.linux import proc
from katapy.network import probe as network_probe
from katapy.sandbox import template
from katapy.sandbox.facts import choose_share, choose_transport, host_facts
from katapy.sandbox.machine import load_image
from katapy.storage.probe import descriptor_warning

OK, WARNING, FAILURE = "ok", "warning", "failure"
_SPARE_MIB = 256
"""What QEMU, virtiofsd and the supervisor need beside the guest's memory."""
_LEAST_FREE_MIB = 64
_DEVICES = ("/dev/net/tun", "/dev/null", "/dev/ptmx")


@dataclass(frozen=True, slots=True)
class Finding:
    level: str
    text: str


Check = Callable[[config.Config, str], Finding]


def run(args: Args) -> int:
    try:
        conf = config.load(args.configuration or None)
    except KatapyError as e:
        write_output(_line("configuration", Finding(FAILURE, str(e))))
        return 1
    source = config.config_path(args.configuration or None) or "defaults (no file)"
    findings = [("configuration", Finding(OK, source))]
    findings += [(name, _try(check, conf, args.root)) for name, check in CHECKS.items()]
    write_output("".join(_line(name, finding) for name, finding in findings))
    failed = [name for name, finding in findings if finding.level == FAILURE]
    write_output(f"not ready: {', '.join(failed)}\n" if failed else "ready\n")
    return 1 if failed else 0


def _line(name: str, finding: Finding) -> str:
    return f"{finding.level:<8} {name:<14} {finding.text}\n"


def _try(check: Check, conf: config.Config, root: str) -> Finding:
    try:
        return check(conf, root)
    except KatapyError as e:
        return Finding(FAILURE, str(e))
    except OSError as e:
        return Finding(FAILURE, f"{e.filename or 'host'}: {errno_text(e)}")


def check_user(conf: config.Config, root: str) -> Finding:
    return Finding(OK, "root") if os.geteuid() == 0 else Finding(FAILURE, f"katapy runs as root, not as {os.geteuid()}")


def check_qemu(conf: config.Config, root: str) -> Finding:
    qemu = probe.find_qemu(conf.hypervisor.binary, probe.host_arch())
    return Finding(OK, f"{qemu.path} {'.'.join(map(str, qemu.version))}")


def check_accelerator(conf: config.Config, root: str) -> Finding:
    qemu = probe.find_qemu(conf.hypervisor.binary, probe.host_arch())
    choice = probe.choose_accelerator(conf.hypervisor.accelerator, qemu)
    if choice.accelerator is Accelerator.KVM:
        probe.device_groups(choice.accelerator)
        return Finding(OK, f"kvm: {choice.reason}")
    price = f"; {choice.warning}" if choice.warning else ""
    return Finding(WARNING, f"tcg, emulation, about ten times slower: {choice.reason}{price}")


def check_transport(conf: config.Config, root: str) -> Finding:
    transport = choose_transport(conf)
    vsock = probe.vsock_availability()
    return Finding(OK, f"{transport.value}: {'by configuration' if conf.transport != 'auto' else vsock.reason}")


def check_share(conf: config.Config, root: str) -> Finding:
    share, daemon = choose_share(conf)
    if daemon is not None:
        text = f"{share.value}: {daemon.path} {'.'.join(map(str, daemon.version))}"
        few = descriptor_warning()
        return Finding(WARNING, f"{text}; {few}") if few else Finding(OK, text)
    if conf.share.type == "9p":
        return Finding(OK, "9p: by configuration")
    return Finding(WARNING, "9p: no virtiofsd found, small files will be slow: install virtiofsd")


def check_image(conf: config.Config, root: str) -> Finding:
    """Version and every hash: a damaged image boots to something nobody wants to debug."""
    described = json.loads(load_image(conf.image.dir).description)
    directory = os.path.realpath(conf.image.dir)
    for name, expected in described["sha256"].items():
        with open(f"{directory}/{name}", "rb") as part:
            if hashlib.file_digest(part, "sha256").hexdigest() != expected:
                raise HostError(f"{directory}/{name} is not what image.json describes: build it with `make image`")
    return Finding(OK, f"{directory}: version {described.get('version')}, kernel {described.get('kernel_release')}")


def check_templates(conf: config.Config, root: str) -> Finding:
    """Without templates everything works, more slowly."""
    if reason := template.reason_against(conf, host_facts(conf)):
        return Finding(OK if conf.factory.templates == "off" else WARNING, f"none, every sandbox boots: {reason}")
    templates = Store(conf.factory.dir)
    for key, failure in templates.failures().items():
        return Finding(WARNING, f"{key} could not be made, such sandboxes boot: {failure:.200}")
    return Finding(OK, f"{conf.factory.dir}: {len(templates.templates())} there, {conf.factory.keep} at most")


def check_users(conf: config.Config, root: str) -> Finding:
    """Nobody else may have the user ids that machines run under."""
    first = conf.users.first_uid
    with open("/etc/passwd", encoding="utf-8", errors="replace") as f:
        fields = [line.split(":") for line in f]
    taken = [line[0] for line in fields if len(line) > 2 and line[2].isdigit() and int(line[2]) >= first]
    if taken:
        return Finding(WARNING, f"users.first_uid is {first}, but {taken[0]} has an id at or above it")
    return Finding(OK, f"machines run under ids from {first} on")


def check_cgroups(conf: config.Config, root: str) -> Finding:
    hierarchies = mounted()
    if not hierarchies:
        raise HostError("no cgroup hierarchy is mounted: mount cgroup2 on /sys/fs/cgroup")
    version = {True: "v2", False: "v1"}
    kinds = sorted({version[h.unified] for h in hierarchies})
    readonly = [h.mountpoint for h in hierarchies if not os.access(h.mountpoint, os.W_OK)]
    if readonly:
        raise HostError(f"{readonly[0]} is read-only: mount it read-write")
    return Finding(OK, f"{' and '.join(kinds)}, {len(hierarchies)} hierarchies")


def check_memory(conf: config.Config, root: str) -> Finding:
    available = proc.memory_kib("MemAvailable") // 1024
    needed = conf.hypervisor.memory_mib + _SPARE_MIB
    text = f"{available} MiB available, a machine needs {needed}"
    return Finding(OK if available >= needed else FAILURE, text)


def check_state_root(conf: config.Config, root: str) -> Finding:
    existing = root
    while not os.path.exists(existing):
        existing = os.path.dirname(existing)
    free = os.statvfs(existing)
    mib = free.f_bavail * free.f_frsize // 2**20
    if not os.access(existing, os.W_OK):
        raise HostError(f"{existing} can't be written: choose another --root")
    text = f"{root}: {mib} MiB free"
    return Finding(OK if mib >= _LEAST_FREE_MIB else FAILURE, text)


def check_devices(conf: config.Config, root: str) -> Finding:
    for path in _DEVICES:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY))
    return Finding(OK, " ".join(_DEVICES))


def check_network(conf: config.Config, root: str) -> Finding:
    joining, carrying = network_probe.missing()
    if joining:
        raise HostError(f"network interfaces can't be joined to a guest: {joining}")
    if carrying:
        return Finding(WARNING, f"127.0.0.1 of a pod can't lead to its guest: {carrying}")
    return Finding(OK, "interfaces are joined by tc, 127.0.0.1 of a pod by nf_tables")


CHECKS: dict[str, Check] = {
    "user": check_user,
    "qemu": check_qemu,
    "accelerator": check_accelerator,
    "transport": check_transport,
    "share": check_share,
    "image": check_image,
    "templates": check_templates,
    "user ids": check_users,
    "cgroups": check_cgroups,
    "memory": check_memory,
    "state root": check_state_root,
    "devices": check_devices,
    "network": check_network,
}
