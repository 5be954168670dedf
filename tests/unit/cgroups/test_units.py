"""What cgroupsPath means under systemd's driver."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katapy.cgroups.units import parse_unit, slice_folders
from katapy.errors import SpecError


@pytest.mark.parametrize(
    "path, slice_name, unit, folder",
    [
        ("", "system.slice", "katapy-web.scope", "system.slice/katapy-web.scope"),
        (":libpod:abc", "system.slice", "libpod-abc.scope", "system.slice/libpod-abc.scope"),
        ("machine.slice::abc", "machine.slice", "abc.scope", "machine.slice/abc.scope"),
        ("-.slice:crio:abc", "-.slice", "crio-abc.scope", "crio-abc.scope"),
        (
            "kubepods-besteffort-pod1_2.slice:cri-containerd:abc",
            "kubepods-besteffort-pod1_2.slice",
            "cri-containerd-abc.scope",
            "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice/cri-containerd-abc.scope",
        ),
    ],
)
def test_names(path: str, slice_name: str, unit: str, folder: str) -> None:
    found = parse_unit(path, "web")
    assert (found.slice, found.name, found.path) == (slice_name, unit, folder)
    assert parse_unit(found.cgroups_path, "other").path == folder, "state.json keeps it in this form"


@pytest.mark.parametrize(
    "path, reason",
    [
        ("/a/b", "slice:prefix:name"),
        ("a.slice:b", "slice:prefix:name"),
        ("a.slice:b:c:d", "slice:prefix:name"),
        ("a.slice:b:", "does not name a unit"),
        ("a.slice:b:../c", "does not name a unit"),
        ("a.slice:b/c:d", "does not name a unit"),
        ("a.slice:b:c\0", "does not name a unit"),
        ("a:b:c", "not the name of a slice"),
        ("a/b.slice:b:c", "not the name of a slice"),
        ("a--b.slice:b:c", "not the name of a slice"),
        ("-a.slice:b:c", "not the name of a slice"),
        (".slice:b:c", "not the name of a slice"),
        ("a.slice:b:" + "c" * 250, "more than 255"),
    ],
)
def test_what_names_none_is_refused(path: str, reason: str) -> None:
    with pytest.raises(SpecError, match=reason) as error:
        parse_unit(path, "web")
    assert error.value.path == "$.linux.cgroupsPath"


@given(st.text(alphabet="a-./:\0"))
def test_no_slice_leads_out(name: str) -> None:
    try:
        folders = slice_folders(name)
    except SpecError:
        return
    assert all(folder.endswith(".slice") and "/" not in folder and not folder.startswith(".") for folder in folders)
