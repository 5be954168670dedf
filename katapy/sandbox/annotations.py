"""What a pod's author may ask for by annotations: nothing, unless the configuration lists that very annotation. Pure;
runs in the CLI.

Annotations come from pod authors, not from administrators (docs/threat-model.md).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from katapy.errors import SpecError, Unsupported

PREFIX = "io.katapy."
VCPUS = "io.katapy.vcpus"
MEMORY_MIB = "io.katapy.memory-mib"
KNOWN = {VCPUS: (1, 240), MEMORY_MIB: (128, 1024 * 1024)}
"""Name -> least and greatest value. All are decimal numbers: no annotation is a path or an argument."""


@dataclass(frozen=True, slots=True)
class Sizing:
    vcpus: int
    memory_mib: int


def sizing(annotations: Mapping[str, str], allowed: Collection[str], default: Sizing) -> Sizing:
    """`default`, changed by the annotations that are allowed.

    Raises Unsupported (not allowed or not known), SpecError (value).
    """
    asked = {k: v for k, v in annotations.items() if k.startswith(PREFIX)}
    for name in asked:
        if name not in KNOWN:
            raise Unsupported(f"annotation {name} is not known to katapy")
        if name not in allowed:
            raise Unsupported(f"annotation {name} is not allowed: list it under annotations.allowed in katapy.yaml")
    values = {name: _number(name, value) for name, value in asked.items()}
    return Sizing(values.get(VCPUS, default.vcpus), values.get(MEMORY_MIB, default.memory_mib))


def _number(name: str, value: str) -> int:
    least, greatest = KNOWN[name]
    if not (value.isascii() and value.isdigit() and len(value) <= 9 and least <= int(value) <= greatest):
        raise SpecError(
            f"annotation {name}: {value[:40]!r} is not a number from {least} to {greatest}", "$.annotations"
        )
    return int(value)
