"""What a pod's author can put into config.json never becomes a part of a command line: annotations, names, paths."""

import dataclasses
import json
from typing import Any

import pytest
from framework.besieged import make_plan
from hypothesis import given
from hypothesis import strategies as st

from katapy.config import Config, Hypervisor
from katapy.errors import KatapyError, SpecError, Unsupported
from katapy.hypervisor.qemu.cmdline import build_argv
from katapy.hypervisor.qemu.jail import jail_entries
from katapy.hypervisor.vm import ShareSpec, ShareType, Size, VmDescriptors, VmSpec
from katapy.oci.ids import check_id
from katapy.sandbox.annotations import KNOWN, PREFIX, sizing
from katapy.sandbox.machine import Image, boot_message, machine_spec, new_secret
from katapy.sandbox.plan import plan_container, plan_sandbox
from katapy.storage import virtiofsd
from katapy.storage.virtiofsd import Flavour, Virtiofsd

DEFAULT = Size(1, 512)
IMAGE = Image("/images/vmlinux", "/images/initrd", "/images/rootfs.erofs", ("quiet",))
NUMBERS = VmDescriptors(3, 4, 5, agent=6, virtiofs=7)
KATA = (
    "config.hypervisor.path", "config.hypervisor.kernel", "config.hypervisor.image", "config.hypervisor.initrd",
    "config.hypervisor.kernel_params", "config.hypervisor.virtio_fs_daemon", "config.hypervisor.virtio_fs_extra_args",
    "config.hypervisor.shared_fs", "config.hypervisor.file_mem_backend", "config.hypervisor.entropy_source",
    "config.hypervisor.machine_accelerators", "config.hypervisor.cpu_features", "config.hypervisor.firmware",
    "config.hypervisor.guest_hook_path", "config.hypervisor.jailer_path", "config.hypervisor.ctlpath",
    "config.hypervisor.default_memory", "config.hypervisor.default_vcpus", "config.hypervisor.rootfs_type",
    "config.agent.kernel_modules", "config.agent.enable_tracing", "config.runtime.disable_guest_seccomp",
    "config.runtime.experimental", "config.runtime.sandbox_bind_mounts", "config_path", "pkg.oci.bundle_path",
)  # fmt: skip
VALUES = (
    "/tmp/evil",
    "-o source=/",
    "x,path=/,readonly=off",
    "debug console=ttyS0\n-monitor stdio",
    "1",
    "",
    "%s",
    "🜏",
)
SPEC: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "root": {"path": "rootfs"},
    "process": {"args": ["true"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
    "linux": {"namespaces": [{"type": "network"}]},
}
NASTY = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), min_size=1, max_size=60)


def argv_of(annotations: dict[str, str], allowed: tuple[str, ...] = ()) -> list[str]:
    """QEMU's command line for a container with these annotations. Raises as `create` does."""
    document = {**SPEC, "annotations": annotations}
    size = sizing(annotations, allowed, DEFAULT)
    plan = plan_sandbox(plan_container("c1", "/bundle", document, {}), size, make_plan().facts, Hypervisor())
    return build_argv(machine_spec(plan, Config(), IMAGE, "/run/shared", 1), NUMBERS)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", KATA)
def test_katas_annotations_change_nothing(name: str, value: str) -> None:
    """CVE-2020-27151, GHSA-rr59-xxvx-96qr."""
    assert argv_of({f"io.katacontainers.{name}": value}) == argv_of({})


@given(NASTY, NASTY)
def test_no_annotation_changes_a_command_line(name: str, value: str) -> None:
    for key in (name, f"io.kubernetes.{name}", f"org.systemd.property.{name}", f"io.katacontainers.{name}"):
        if not key.startswith(PREFIX):
            assert argv_of({key: value}) == argv_of({})
    with pytest.raises(Unsupported):
        argv_of({PREFIX + name: value})


@given(st.sampled_from(sorted(KNOWN)), NASTY)
def test_an_allowed_annotation_is_a_number_or_refused(name: str, value: str) -> None:
    try:
        argv = argv_of({name: value}, (name,))
    except SpecError:
        return
    changed = [new for old, new in zip(argv_of({}), argv, strict=True) if old != new]
    assert all(str(int(value)) in part for part in changed)
    assert value.isascii()
    assert value.isdigit()


def options(value: str) -> list[tuple[str, str]]:
    """A comma-separated option as QEMU reads it: two commas are one that belongs to the value."""
    parts = [part.replace("\0", ",") for part in value.replace(",,", "\0").split(",")]
    return [(key, rest) for key, _, rest in (part.partition("=") for part in parts)]


def spec_with(text: str, share: ShareType) -> VmSpec:
    base = machine_spec(make_plan(), Config(), IMAGE, "/run/shared", 1)
    return dataclasses.replace(
        base,
        name=text,
        kernel=f"/{text}",
        initrd=f"/{text}",
        image=f"/{text}",
        share=ShareSpec(share, "tag", f"/{text}"),
    )


@given(NASTY, st.sampled_from(ShareType))
def test_no_name_and_no_path_becomes_an_option(text: str, share: ShareType) -> None:
    plain, nasty = (build_argv(spec_with(name, share), NUMBERS) for name in ("plain", text))
    assert len(plain) == len(nasty)
    for old, new in zip(plain, nasty, strict=True):
        if old.startswith("{"):
            assert json.loads(new) == json.loads(old.replace("/plain", "/replaced")) | {
                "file": {**json.loads(old)["file"], "filename": f"/{text}"}
            }
        elif old != new:
            expected = [(key, value.replace("plain", text)) for key, value in options(old)]
            assert old == "/plain" or options(new) == expected


@given(NASTY)
def test_no_path_becomes_an_option_of_virtiofsd(text: str) -> None:
    for flavour in Flavour:
        daemon = Virtiofsd("/virtiofsd", flavour, (1, 13))
        plain, nasty = virtiofsd.build_argv(daemon, "/plain"), virtiofsd.build_argv(daemon, f"/{text}")
        assert len(plain) == len(nasty)
        assert [n for o, n in zip(plain, nasty, strict=True) if o == n or "plain" in o] == nasty


@given(NASTY)
def test_an_id_is_a_plain_file_name_or_refused(text: str) -> None:
    try:
        check_id(text)
    except KatapyError:
        return
    assert text not in (".", "..")
    assert text.isascii()
    assert not set(text) & set("/,=:\\ \t\r\n\"'$`;&|<>*?")


@pytest.mark.parametrize("daemon", list(Flavour))
def test_virtiofsd_is_always_told_to_sandbox_itself(daemon: Flavour) -> None:
    """CVE-2026-47243."""
    text = " ".join(virtiofsd.build_argv(Virtiofsd("/virtiofsd", daemon, (1, 13)), "/shared"))
    assert "sandbox=namespace" in text
    assert "seccomp" not in text  # on, unless it is switched off


def test_qemus_jail_has_the_share_only_where_qemu_serves_it() -> None:
    for share in ShareType:
        spec = dataclasses.replace(spec_with("x", share), share=ShareSpec(share, "tag", "/the/share"))
        assert ("/the/share" in {entry.path for entry in jail_entries(spec)}) == (share is ShareType.NINEP)


def test_two_machines_share_neither_secret_nor_entropy() -> None:
    transport = make_plan().facts.transport
    first, second = (json.loads(boot_message(new_secret(), transport)) for _ in range(2))
    for name in ("secret", "entropy"):
        assert first[name] != second[name]
        assert len(bytes.fromhex(first[name])) >= 32
