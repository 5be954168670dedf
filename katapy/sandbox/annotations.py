"""What annotations say about the size of a machine. Pure; runs in the CLI.

Those of katapy's own come from pod authors, not from administrators (docs/threat-model.md): they have no effect, unless
the configuration lists that very annotation. Those of the engines say what the kubelet has granted to the whole pod.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any

from katapy.errors import SpecError, Unsupported
from katapy.hypervisor.vm import Size

PREFIX = "io.katapy."
VCPUS = "io.katapy.vcpus"
MEMORY_MIB = "io.katapy.memory-mib"
KNOWN = {VCPUS: (1, 240), MEMORY_MIB: (128, 1024 * 1024)}
"""Name -> least and greatest value: decimal numbers. No annotation is a path or an argument."""
GUEST_WRITES = "io.katapy.guest-writes"
"""`true` or `false`."""


_CRI = "io.kubernetes.cri.sandbox-"
_CRIO = ("pod-linux-resources.crio.io", "io.kubernetes.cri-o.PodLinuxResources")
"""JSON of the CRI's LinuxContainerResources: the newer name first."""
_GRANTED = (
    ("cpu", "period", "cpu-period", "cpu_period"),
    ("cpu", "quota", "cpu-quota", "cpu_quota"),
    ("cpu", "shares", "cpu-shares", "cpu_shares"),
    ("memory", "limit", "memory", "memory_limit_in_bytes"),
)
"""Member of linux.resources, its member, and what containerd and CRI-O call it."""
_MAX_GRANTED = 2**63


_NOT_ALLOWED = "annotation {} is not allowed: list it under annotations.allowed in katapy.yaml"


def sizing(annotations: Mapping[str, str], allowed: Collection[str], default: Size) -> Size:
    """`default`, changed by the annotations that are allowed.

    Raises Unsupported (not allowed or not known), SpecError (value).
    """
    asked = {k: v for k, v in annotations.items() if k.startswith(PREFIX)}
    for name in asked:
        if name not in KNOWN and name != GUEST_WRITES:
            raise Unsupported(f"annotation {name} is not known to katapy")
        if name not in allowed:
            raise Unsupported(_NOT_ALLOWED.format(name))
    values = {name: _number(name, value) for name, value in asked.items() if name in KNOWN}
    return Size(values.get(VCPUS, default.vcpus), values.get(MEMORY_MIB, default.memory_mib))


def guest_writes(annotations: Mapping[str, str], allowed: Collection[str], default: bool) -> bool:
    """Whether what a container changes in its root file system stays in the guest. Raises Unsupported, SpecError."""
    value = annotations.get(GUEST_WRITES)
    if value is not None and GUEST_WRITES not in allowed:
        raise Unsupported(_NOT_ALLOWED.format(GUEST_WRITES))
    if value not in (None, "true", "false"):
        raise SpecError(f"annotation {GUEST_WRITES}: {value[:40]!r} is neither true nor false", "$.annotations")
    return default if value is None else value == "true"


def _number(name: str, value: str) -> int:
    least, greatest = KNOWN[name]
    if not (value.isascii() and value.isdigit() and len(value) <= 9 and least <= int(value) <= greatest):
        raise SpecError(
            f"annotation {name}: {value[:40]!r} is not a number from {least} to {greatest}", "$.annotations"
        )
    return int(value)


def granted(annotations: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """What the pod's containers may use together, in the shape of linux.resources; empty if the engine says nothing.

    Raises SpecError.
    """
    document = _crio(annotations)
    found: dict[str, dict[str, int]] = {}
    for part, member, containerd, crio in _GRANTED:
        value = annotations.get(_CRI + containerd, document.get(crio, 0))
        if number := _whole(value, _CRI + containerd if _CRI + containerd in annotations else crio):
            found.setdefault(part, {})[member] = number
    return found


def _crio(annotations: Mapping[str, str]) -> dict[str, Any]:
    text = next((annotations[name] for name in _CRIO if annotations.get(name)), "{}")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise SpecError(f"the annotation of the pod's resources is not JSON: {e}", "$.annotations") from e
    if not isinstance(document, dict):
        raise SpecError("the annotation of the pod's resources is not an object", "$.annotations")
    return document


def _whole(value: object, name: str) -> int:
    """0 for what is not limited."""
    try:
        number = int(value) if isinstance(value, (int, str)) and len(str(value)) <= 20 else None
    except ValueError:
        number = None
    if number is None or number >= _MAX_GRANTED:
        raise SpecError(f"{name}: {str(value)[:40]!r} is not a number", "$.annotations")
    return max(number, 0)
