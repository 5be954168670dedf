"""`katapy env`: versions, paths and settings in effect, for bug reports and scripts."""

import json
import os
import platform

import msgspec

from katapy import __version__, config, quickjson
from katapy.cli.log import write_output
from katapy.cli.parse import Args
from katapy.errors import KatapyError
from katapy.hypervisor.qemu import probe
from katapy.oci import SPEC_VERSION
from katapy.sandbox.facts import host_facts
from katapy.sandbox.machine import load_image


def run(args: Args) -> int:
    found = environment(args.root, args.configuration or None)
    if args.json:
        write_output(quickjson.dumps(found, indent=2) + "\n")
    else:
        write_output("".join(f"{key}: {_shown(value)}".rstrip() + "\n" for key, value in _flat("", found)))
    return 0


def environment(root: str, path: str | None) -> dict[str, object]:
    """What can't be found out says why. Raises ConfigError."""
    conf = config.load(path)
    return {
        "katapy": {"version": __version__, "spec": SPEC_VERSION, "python": platform.python_version(), "root": root},
        "host": {"kernel": os.uname().release, "architecture": os.uname().machine, "cpus": os.cpu_count() or 1},
        "machine": _machine(conf),
        "image": _image(conf.image.dir),
        "configuration": {"file": config.config_path(path), **msgspec.to_builtins(conf)},
    }


def _machine(conf: config.Config) -> dict[str, object]:
    try:
        facts = host_facts(conf)
        qemu = probe.find_qemu(conf.hypervisor.binary, facts.arch)
    except KatapyError as e:
        return {"error": str(e)}
    return {
        "qemu": qemu.path,
        "qemu_version": ".".join(map(str, qemu.version)),
        "accelerator": facts.accelerator.value,
        "cpu": facts.cpu_model,
        "transport": facts.transport.value,
        "share": facts.share.value,
        "virtiofsd": facts.virtiofsd.path if facts.virtiofsd else "",
        "warning": facts.warning,
    }


def _image(directory: str) -> dict[str, object]:
    try:
        described = json.loads(load_image(directory).description)
    except KatapyError as e:
        return {"error": str(e)}
    return {"directory": os.path.realpath(directory), **{k: described.get(k) for k in ("version", "kernel_release")}}


def _shown(value: object) -> str:
    """As katapy.yaml has it, without brackets and quotation marks."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _flat(prefix: str, value: object) -> list[tuple[str, object]]:
    if not isinstance(value, dict):
        return [(prefix, value)]
    return [pair for key, inner in value.items() for pair in _flat(f"{prefix}.{key}" if prefix else key, inner)]
