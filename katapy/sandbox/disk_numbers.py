"""From the host's device numbers to the guest's, in what crun and the agent get. Pure; runs in the supervisor."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from katapy.oci import device_rules
from katapy.sandbox.blocks import PER_DEVICE, BlockPlan, check_limited
from katapy.sandbox.disks import Disks, GuestDisk, key_of

Json = dict[str, Any]
Number = tuple[int, int]
Numbers = Mapping[Number, Number]
"""Major and minor, the host's -> the guest's."""


def numbers_of(disks: Disks) -> dict[Number, Number]:
    """A device that is in the guest twice, once for reading only, is the writable one here."""
    ordered = sorted(disks.items(), key=lambda item: item[0], reverse=True)
    return {(major, minor): (disk.major, disk.minor) for (major, minor, _), disk in ordered}


def place_disks(spec_json: bytes, blocks: Sequence[BlockPlan], disks: Disks) -> bytes:
    """The document with the guest's numbers: nodes, what the container may do with them, limits; sources of mounts."""
    if not blocks:
        return spec_json
    document: Json = json.loads(spec_json)
    linux = document["linux"]
    nodes = {(b.major, b.minor): disks[key_of(b)] for b in blocks if b.mount < 0}
    linux["devices"] = [_node(device, nodes) for device in linux.get("devices") or []]
    resources = renumber(linux.get("resources") or {}, numbers_of(disks))
    resources["devices"] = _rules(resources.get("devices") or [], blocks, disks)
    linux["resources"] = resources
    for block in blocks:
        if block.mount >= 0:
            document["mounts"][block.mount]["source"] = f"/dev/{disks[key_of(block)].name}"
    return json.dumps(document, separators=(",", ":")).encode()


def renumber(resources: Mapping[str, Any], numbers: Numbers) -> Json:
    """linux.resources with the guest's numbers where a limit is that of a device; the argument stays as it is.

    Raises Unsupported for a device that is not in the guest.
    """
    limits = resources.get("blockIO")
    if not isinstance(limits, dict):
        return dict(resources)
    changed = {name: [_limit(entry, numbers) for entry in limits.get(name) or []] for name in PER_DEVICE}
    return {**resources, "blockIO": {**limits, **{name: entries for name, entries in changed.items() if entries}}}


def _node(device: Json, nodes: Mapping[Number, GuestDisk]) -> Json:
    disk = nodes.get((device.get("major") or 0, device.get("minor") or 0)) if device.get("type") == "b" else None
    return device if disk is None else {**device, "major": disk.major, "minor": disk.minor}


def _rules(rules: Sequence[Json], blocks: Sequence[BlockPlan], disks: Disks) -> list[Json]:
    """A rule for the host's number would open another device in the guest: each becomes one for the guest's."""
    kept = [r for r in rules if not any(device_rules.is_exactly(r, "b", b.major, b.minor) for b in blocks)]
    own: dict[Number, str] = {}
    for block in blocks:
        disk = disks[key_of(block)]
        own[disk.major, disk.minor] = own.get((disk.major, disk.minor), "") + block.access
    added = [
        {"allow": True, "type": "b", "major": major, "minor": minor, "access": "".join(sorted(set(access)))}
        for (major, minor), access in own.items()
    ]
    return [*kept, *added]


def _limit(entry: Json, numbers: Numbers) -> Json:
    host = entry["major"], entry["minor"]
    check_limited(*host, numbers)
    major, minor = numbers[host]
    return {**entry, "major": major, "minor": minor}
