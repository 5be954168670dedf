"""Which block devices of the host a container gets, and how its document names them in the guest."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from katapy.config import Devices
from katapy.errors import Unsupported
from katapy.sandbox.blocks import BlockPlan, plan_blocks
from katapy.sandbox.disk_numbers import numbers_of, place_disks, renumber
from katapy.sandbox.disks import GuestDisk, key_of
from katapy.sandbox.sources import Source, SourceKind

DENY = {"allow": False, "access": "rwm"}
ALL = {"allow": True, "access": "rwm"}
NODE = {"path": "/dev/xvda", "type": "b", "major": 7, "minor": 0}
DISK = Source(SourceKind.BLOCK, "/dev/loop0", device=os.makedev(7, 0))
MOUNT = {"destination": "/d", "type": "bind", "source": "/dev/loop0", "options": ["bind"]}


def rule(access: str = "rwm") -> dict[str, Any]:
    return {"allow": True, "type": "b", "major": 7, "minor": 0, "access": access}


def spec(*rules: dict[str, Any], devices: tuple[dict[str, Any], ...] = (NODE,), **top: Any) -> dict[str, Any]:
    return {"linux": {"devices": list(devices), "resources": {"devices": list(rules)}}, **top}


@pytest.fixture
def sysfs(tmp_path: Path) -> str:
    (tmp_path / "7:0").mkdir()
    (tmp_path / "7:0/uevent").write_text("MAJOR=7\nMINOR=0\nDEVNAME=loop0\nDEVTYPE=disk\n")
    return str(tmp_path)


def planned(sysfs: str, document: dict[str, Any], settings: Devices | None = None, **sources: Any) -> Any:
    return plan_blocks(document, sources.get("sources", {}), settings or Devices(), sysfs)


def test_a_device_with_a_rule_of_its_own(sysfs: str) -> None:
    assert planned(sysfs, spec(DENY, rule())) == (BlockPlan("/dev/loop0", 7, 0, False, "rwm"),)
    assert planned(sysfs, spec(DENY, rule("r"))) == (BlockPlan("/dev/loop0", 7, 0, True, "r"),)


def test_what_no_rule_allows_has_nothing_behind(sysfs: str) -> None:
    for rules in ([], [DENY], [DENY, rule("m")], [rule(), DENY]):
        assert planned(sysfs, spec(*rules)) == ()


def test_numbers_of_no_device_and_character_devices_have_nothing_behind(sysfs: str) -> None:
    other = {**NODE, "minor": 1}
    assert planned(sysfs, spec(ALL, {**rule(), "minor": 1}, devices=(other,))) == ()
    assert planned(sysfs, spec(ALL, rule(), devices=({**NODE, "type": "c"},))) == ()


def test_any_number_of_devices_and_rules_is_planned_soon(sysfs: str) -> None:
    """Each device against each rule takes minutes: only those that the host has are held against them."""
    devices = tuple({**NODE, "major": 8 + n} for n in range(5_000))
    document = spec(*[rule("m")] * 5_000, devices=devices)
    started = time.monotonic()
    assert planned(sysfs, document) == ()
    assert time.monotonic() - started < 5


def test_a_privileged_container_gets_what_the_administrator_lists(sysfs: str) -> None:
    assert planned(sysfs, spec(ALL)) == ()
    found = planned(sysfs, spec(ALL), Devices(block_if_privileged=("/dev/loop*",)))
    assert found == (BlockPlan("/dev/loop0", 7, 0, False, "rwm"),)
    assert planned(sysfs, spec(ALL), Devices(block_if_privileged=("/dev/sd*",))) == ()


def test_what_the_administrator_keeps_is_refused(sysfs: str) -> None:
    for document, sources in ((spec(DENY, rule()), {}), (spec(mounts=[MOUNT], devices=()), {0: DISK})):
        with pytest.raises(Unsupported, match="/dev/loop0 is not for containers"):
            planned(sysfs, document, Devices(block=("/dev/sd*",)), sources=sources)


def test_a_bind_of_a_device_takes_a_rule(sysfs: str) -> None:
    (found,) = planned(sysfs, spec(DENY, rule("rw"), mounts=[MOUNT], devices=()), sources={0: DISK})
    assert (found.access, found.mount) == ("rw", 0)
    with pytest.raises(Unsupported, match="no rule allows"):
        planned(sysfs, spec(DENY, mounts=[MOUNT], devices=()), sources={0: DISK})


def test_a_bind_of_a_node_that_a_container_made_is_refused(tmp_path: Path, sysfs: str) -> None:
    """Or of a link to the host's: both lie in a volume of the pod's. For want of a disk the device is /dev/null."""
    (tmp_path / "7:0/uevent").write_text("DEVNAME=null\n")
    (tmp_path / "node").touch()
    (tmp_path / "link").symlink_to("/dev/null")
    (tmp_path / "dev").symlink_to("/dev")
    for name in ("node", "link", "dev/null", "gone"):
        disk = Source(SourceKind.BLOCK, str(tmp_path / name), device=os.makedev(7, 0))
        with pytest.raises(Unsupported, match=f"{name} is not supported: it is not the host's own /dev/null"):
            planned(sysfs, spec(ALL, mounts=[MOUNT], devices=()), sources={0: disk})
    for name in ("/dev/null", "/dev//null"):
        disk = Source(SourceKind.BLOCK, name, device=os.makedev(7, 0))
        assert planned(sysfs, spec(ALL, mounts=[MOUNT], devices=()), sources={0: disk})[0].path == "/dev/null"


def test_the_document_has_the_guests_numbers(sysfs: str) -> None:
    limit = {"major": 7, "minor": 0, "rate": 1000}
    document = spec(DENY, rule("rw"), mounts=[MOUNT])
    document["linux"]["resources"]["blockIO"] = {"weight": 10, "throttleReadBpsDevice": [limit]}
    blocks = planned(sysfs, document, sources={0: DISK})
    disks = {key_of(block): GuestDisk("vdb", 254, 16) for block in blocks}
    placed = json.loads(place_disks(json.dumps(document).encode(), blocks, disks))
    assert placed["linux"]["devices"] == [{**NODE, "major": 254, "minor": 16}]
    own = {"allow": True, "type": "b", "major": 254, "minor": 16, "access": "rw"}
    assert placed["linux"]["resources"]["devices"] == [DENY, own]
    limits = placed["linux"]["resources"]["blockIO"]
    assert limits["throttleReadBpsDevice"] == [{**limit, "major": 254, "minor": 16}]
    assert placed["mounts"][0]["source"] == "/dev/vdb"


def test_a_limit_of_what_the_container_has_not_got_is_refused(sysfs: str) -> None:
    """Its number may be that of another disk in the guest, such as the one the guest's own files are on."""
    document = spec(DENY, rule("rw"))
    limits = {"throttleWriteIOPSDevice": [{"major": 254, "minor": 0, "rate": 1}]}
    document["linux"]["resources"]["blockIO"] = limits
    with pytest.raises(Unsupported, match="limit of device 254:0 is not supported"):
        planned(sysfs, document)
    with pytest.raises(Unsupported, match="limit of device 254:0 is not supported"):
        renumber({"blockIO": limits}, {(7, 0): (254, 0)})


def test_a_document_without_disks_stays_as_it_is() -> None:
    assert place_disks(b"{}", (), {}) == b"{}"
    assert renumber({"blockIO": {"weight": 5}}, {}) == {"blockIO": {"weight": 5}}


def test_of_two_disks_of_one_device_the_writable_one_is_limited() -> None:
    disks = {(7, 0, False): GuestDisk("vdb", 254, 16), (7, 0, True): GuestDisk("vdc", 254, 32)}
    assert numbers_of(disks) == {(7, 0): (254, 16)}
