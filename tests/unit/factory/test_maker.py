"""Getting a template, with a driver that writes two files: what is remembered, what is said, what comes back."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from katapy.errors import HypervisorError, Interrupted
from katapy.factory import blueprint as blueprints
from katapy.factory.blueprint import Blueprint, make_blueprint
from katapy.factory.maker import obtain
from katapy.factory.store import Store
from katapy.hypervisor.qemu.driver import QemuDriver
from katapy.hypervisor.vm import Accelerator, Role, Transport, VmSpec


class Saving:
    """As much of a Driver as is needed."""

    def __init__(self, failure: BaseException | None = None) -> None:
        self.failure = failure
        self.calls = 0

    def save(self, spec: VmSpec, state_dir: str, target: str, line: bytes, deadline_s: float) -> None:
        self.calls += 1
        Path(state_dir, "console.log").touch()
        Path(target, "memory").touch()
        if self.failure:
            raise self.failure


@pytest.fixture
def spec(tmp_path: Path) -> VmSpec:
    for name in ("qemu", "vmlinux", "initrd", "rootfs.erofs"):
        (tmp_path / name).write_text(name)
    return VmSpec(
        name="template", arch="x86_64", binary=f"{tmp_path}/qemu", accelerator=Accelerator.TCG, machine="q35",
        cpu="max", vcpus=1, memory_mib=512, kernel=f"{tmp_path}/vmlinux", initrd=f"{tmp_path}/initrd",
        image=f"{tmp_path}/rootfs.erofs", role=Role.TEMPLATE,
    )  # fmt: skip


def blueprint(spec: VmSpec, image: str = "{}") -> Blueprint:
    return make_blueprint(spec, QemuDriver().fingerprint(spec), image)


def say_nothing(_: str) -> None:
    pass


def get(store: Store, wanted: Blueprint, driver: Saving, say: Callable[[str], None] = say_nothing) -> tuple[str, str]:
    found = obtain(store, wanted, driver, 8, 5, say)  # type: ignore[arg-type]
    return found.path, found.warning


def test_it_is_made_once_and_found_then(tmp_path: Path, spec: VmSpec) -> None:
    store, driver, said = Store(str(tmp_path / "t")), Saving(), list[str]()
    wanted = blueprint(spec)
    assert get(store, wanted, driver, said.append) == (f"{tmp_path}/t/{wanted.key}", "")
    assert len(said) == 2
    assert get(store, wanted, driver, said.append) == (f"{tmp_path}/t/{wanted.key}", "")
    assert (driver.calls, len(said)) == (1, 2)
    assert sorted(os.listdir(tmp_path / "t" / wanted.key)) == ["memory", "template.json"]


def test_a_failure_is_one_warning_and_not_tried_again_at_once(tmp_path: Path, spec: VmSpec) -> None:
    store, driver = Store(str(tmp_path / "t")), Saving(HypervisorError("its kernel is tainted (512)"))
    path, warning = get(store, blueprint(spec), driver)
    assert (path, "tainted" in warning) == ("", True)
    path, warning = get(store, blueprint(spec), driver)
    assert (path, "a short while ago: its kernel is tainted" in warning) == ("", True)
    assert driver.calls == 1


@pytest.mark.parametrize("end", [KeyboardInterrupt(), Interrupted("interrupted by SIGTERM")])
def test_an_interruption_says_nothing_about_templates(tmp_path: Path, spec: VmSpec, end: BaseException) -> None:
    store, wanted = Store(str(tmp_path / "t")), blueprint(spec)
    with pytest.raises(type(end)):
        get(store, wanted, Saving(end))
    assert store.failure(wanted.key) is None
    assert os.listdir(tmp_path / "t") == []


@pytest.mark.parametrize(
    "change",
    [
        {"vcpus": 2},
        {"memory_mib": 256},
        {"cpu": "qemu64"},
        {"machine": "virt"},
        {"kernel_parameters": ("quiet",)},
        {"transport": Transport.VSOCK},
        {"generation_id": False},
        {"accelerator": Accelerator.KVM},
    ],
)
def test_whatever_shapes_the_guest_changes_the_key(spec: VmSpec, change: dict[str, object]) -> None:
    assert blueprint(spec).key != blueprint(dataclasses.replace(spec, **change)).key  # type: ignore[arg-type]


def test_what_differs_from_pod_to_pod_does_not(spec: VmSpec) -> None:
    other = dataclasses.replace(spec, name="web", uid=5, gid=5, groups=(7,), cid=9)
    assert blueprint(spec).key == blueprint(other).key


def test_another_image_or_qemu_changes_the_key(tmp_path: Path, spec: VmSpec) -> None:
    before = blueprint(spec).key
    assert blueprint(spec, '{"version": "2"}').key != before
    (tmp_path / "qemu").write_text("a newer one")
    assert blueprint(spec).key != before


def test_a_template_of_files_that_changed_is_stale_and_goes(tmp_path: Path, spec: VmSpec) -> None:
    store = Store(str(tmp_path / "t"))
    first = get(store, blueprint(spec), Saving())[0]
    (template,) = store.templates()
    assert not blueprints.is_stale(template.description)
    (tmp_path / "rootfs.erofs").write_text("rebuilt")
    assert blueprints.is_stale(template.description)
    second = get(store, blueprint(spec, "another"), Saving())[0]
    assert [t.path for t in store.templates()] == [second]
    assert first != second


@pytest.mark.parametrize("description", [{}, {"ingredients": 5}, {"ingredients": {"format": "0"}, "files": {}}])
def test_a_description_of_another_format_is_stale(description: dict[str, object]) -> None:
    assert blueprints.is_stale(description)
