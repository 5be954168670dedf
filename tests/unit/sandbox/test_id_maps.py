"""Idmapped mounts: whose mappings count, and what is refused."""

from typing import Any

import pytest

from katapy.errors import KatapyError
from katapy.sandbox.id_maps import plan_id_maps
from katapy.sandbox.sources import Source, SourceKind
from katapy.storage.shared_directory import IdMap

OWN = [{"containerID": 0, "hostID": 7, "size": 1}]
CONTAINERS = [{"containerID": 0, "hostID": 100_000, "size": 9}, {"containerID": 9, "hostID": 1, "size": 2}]
SOURCES = {0: Source(SourceKind.DIRECTORY, "/d")}


def planned(mount: dict[str, Any], mappings: list[dict[str, int]]) -> dict[int, IdMap]:
    linux = {"uidMappings": mappings, "gidMappings": mappings}
    return plan_id_maps({"mounts": [{"destination": "/x", **mount}], "linux": linux}, SOURCES)


@pytest.mark.parametrize(
    "mount, ranges, recursive",
    [
        ({"uidMappings": OWN, "gidMappings": OWN}, ((0, 7, 1),), False),
        ({"uidMappings": OWN, "gidMappings": OWN, "options": ["rbind", "ridmap"]}, ((0, 7, 1),), True),
        ({"options": ["idmap"]}, ((0, 100_000, 9), (9, 1, 2)), False),
        ({"options": ["ridmap"]}, ((0, 100_000, 9), (9, 1, 2)), True),
    ],
)
def test_a_mounts_own_mappings_or_the_containers(
    mount: dict[str, Any], ranges: tuple[tuple[int, int, int], ...], recursive: bool
) -> None:
    assert planned(mount, CONTAINERS) == {0: IdMap(ranges, ranges, recursive)}


def test_mappings_of_the_container_alone_map_no_mount() -> None:
    assert planned({"options": ["rbind"]}, CONTAINERS) == {}


@pytest.mark.parametrize(
    "source, mappings, words",
    [
        (None, CONTAINERS, r"only supported for bind-mounts - at `\$.mounts\[0\]`"),
        (Source(SourceKind.DEVICE, "/dev/null"), CONTAINERS, "mapped ids of /dev/null are not supported"),
        (Source(SourceKind.DIRECTORY, "/d"), [], "without mappings"),
    ],
)
def test_what_cant_be_mapped_is_refused(source: Source | None, mappings: list[dict[str, int]], words: str) -> None:
    spec = {"mounts": [{"options": ["idmap"]}], "linux": {"uidMappings": mappings, "gidMappings": mappings}}
    with pytest.raises(KatapyError, match=words):
        plan_id_maps(spec, {} if source is None else {0: source})
