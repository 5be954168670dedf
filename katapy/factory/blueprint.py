"""What a template is made of. Its key is a hash of all that: a template that does not fit is never found. CLI.

Pure but for looking at files: QEMU's binary, and under KVM the CPU.
"""

import json
import os
from _blake2 import blake2b  # `hashlib` would bring OpenSSL into every supervisor (katapy/supervisor/unneeded.py)
from collections.abc import Mapping
from dataclasses import dataclass

from katapy.errors import HostError, errno_text
from katapy.hypervisor.vm import Accelerator, VmSpec
from katapy.protocol import names

FORMAT = "1"
"""Of the files of a template, and of what is assumed about them."""


@dataclass(frozen=True, slots=True)
class Blueprint:
    """`spec`: of the machine that is booted to be saved (role TEMPLATE). `ingredients`: what the key is the hash of."""

    spec: VmSpec
    ingredients: Mapping[str, str]

    @property
    def key(self) -> str:
        return _digest(json.dumps(dict(self.ingredients), sort_keys=True))


def make_blueprint(spec: VmSpec, command_line: list[str], image: str) -> Blueprint:
    """`command_line`: the driver's fingerprint of `spec`; `image`: its image.json. Raises HostError."""
    return Blueprint(
        spec,
        {
            "format": FORMAT,
            "protocol": str(names.PROTOCOL_VERSION),
            "command line": " ".join(command_line),
            "qemu": file_identity(spec.binary),
            "image": _digest(image),
            "cpu": _cpu() if spec.accelerator is Accelerator.KVM else "emulated",
        },
    )


def files(spec: VmSpec) -> dict[str, str]:
    """What a template was made from, as it was then: if one of them changes, it is stale. Raises HostError."""
    return {path: file_identity(path) for path in (spec.binary, spec.kernel, spec.initrd, spec.image)}


def is_stale(description: Mapping[str, object]) -> bool:
    """Whether a template (its template.json) was made from files that are no longer there, or in another format."""
    ingredients, made_from = description.get("ingredients"), description.get("files")
    if not isinstance(ingredients, dict) or not isinstance(made_from, dict) or ingredients.get("format") != FORMAT:
        return True
    try:
        return any(file_identity(path) != identity for path, identity in made_from.items())
    except HostError:
        return True


def file_identity(path: str) -> str:
    """Changes whenever the file is replaced. Raises HostError."""
    try:
        status = os.stat(path)
    except OSError as e:
        raise HostError(f"can't stat {path}: {errno_text(e)}") from e
    return f"{path} {status.st_ino} {status.st_size} {status.st_mtime_ns}"


def _cpu() -> str:
    """Under KVM the guest sees this CPU by way of this kernel. Clock rates change, and don't matter."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
        first = f.read().split("\n\n", 1)[0]
    wanted = ("vendor_id", "cpu family", "model", "stepping", "microcode", "flags", "Features", "CPU part")
    lines = [line for line in first.splitlines() if line.split("\t")[0].strip() in wanted]
    return _digest("\n".join([os.uname().release, *lines]))


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=8).hexdigest()
