"""check and env: every check reports, whatever the host is like, and failures decide the exit status."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from katapy import config
from katapy.cli import check
from katapy.errors import HostError
from katapy.factory.store import Store
from katapy.hypervisor.vm import Accelerator, ShareType, Transport
from katapy.sandbox.plan import HostFacts
from katapy.storage.virtiofsd import Flavour, Virtiofsd

Katapy = Callable[..., Any]
CONFIG = config.Config()
FACTS = HostFacts(
    cpus=1, arch="x86_64", qemu="/usr/bin/qemu-system-x86_64", accelerator=Accelerator.TCG, cpu_model="max",
    transport=Transport.SERIAL, share=ShareType.NINEP, virtiofsd=None, groups=(), generation_id=True,
)  # fmt: skip


def image(folder: Path) -> config.Config:
    parts = {name: name.encode() for name in ("vmlinux", "initrd", "rootfs.erofs")}
    for name, content in parts.items():
        (folder / name).write_bytes(content)
    described = {
        "version": "7",
        "kernel_release": "6.12",
        "kernel_parameters": [],
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in parts.items()},
    }
    (folder / "image.json").write_text(json.dumps(described))
    return config.Config(image=config.Image(dir=str(folder)))


def test_an_image_is_verified(tmp_path: Path) -> None:
    conf = image(tmp_path)
    assert check.check_image(conf, "") == check.Finding("ok", f"{tmp_path}: version 7, kernel 6.12")
    (tmp_path / "initrd").write_bytes(b"other")
    with pytest.raises(HostError, match=r"initrd is not what image\.json describes: build it with `make image`"):
        check.check_image(conf, "")


def test_every_check_reports_and_never_raises(katapy: Katapy) -> None:
    result = katapy("check")
    lines = result.out.splitlines()
    assert len(lines) == len(check.CHECKS) + 2
    assert all(line.split()[0] in ("ok", "warning", "failure") for line in lines[:-1])
    assert result.status == (1 if "failure" in {line.split()[0] for line in lines[:-1]} else 0)
    assert lines[-1] == "ready" or lines[-1].startswith("not ready: ")


def test_a_failure_is_the_exit_status(katapy: Katapy, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(conf: config.Config, root: str) -> check.Finding:
        raise HostError("can't find qemu")

    monkeypatch.setattr(check, "CHECKS", {"qemu": missing})
    result = katapy("check")
    assert result.status == 1
    assert "failure  qemu           can't find qemu\nnot ready: qemu\n" in result.out


def test_a_bad_configuration(katapy: Katapy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KATAPY_CONFIG", raising=False)
    file = tmp_path / "k.yaml"
    file.write_text("foo: 1")
    monkeypatch.setenv("KATAPY_CONFIG", "")  # restored afterwards: --configuration sets it
    result = katapy("--configuration", str(file), "check")
    assert result.status == 1
    assert "foo: unknown setting" in result.out
    assert "foo: unknown setting" in katapy("--configuration", str(file), "env").err


def test_memory_and_state_root() -> None:
    big = config.Config(hypervisor=config.Hypervisor(memory_mib=2**31))
    assert check.check_memory(big, "").level == "failure"
    assert check.check_memory(CONFIG, "").text.endswith("a machine needs 768")
    assert check.check_state_root(CONFIG, "/tmp/nosuch/deeper").text.startswith("/tmp/nosuch/deeper: ")


@pytest.mark.parametrize("few, level", [("", "ok"), ("a guest can know 9 files at once", "warning")])
def test_a_virtiofsd_with_few_descriptors_is_a_warning(monkeypatch: pytest.MonkeyPatch, few: str, level: str) -> None:
    daemon = Virtiofsd("/usr/libexec/virtiofsd", Flavour.RUST, (1, 13))
    monkeypatch.setattr(check, "choose_share", lambda conf: (ShareType.VIRTIOFS, daemon))
    monkeypatch.setattr(check, "descriptor_warning", lambda: few)
    finding = check.check_share(CONFIG, "")
    assert finding.level == level
    assert finding.text == "virtiofs: /usr/libexec/virtiofsd 1.13" + (f"; {few}" if few else "")


def test_env(katapy: Katapy) -> None:
    shown = json.loads(katapy("env", "--json").out)
    assert set(shown) == {"katapy", "host", "machine", "image", "configuration"}
    told = katapy("env").out
    assert "katapy.version: 0." in told
    assert "configuration.annotations.allowed:\n" in told
    assert "configuration.debug.keep: false\n" in told


def test_templates_are_there_or_it_says_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = dataclasses.replace(FACTS, qemu_version=(10, 0, 2))
    monkeypatch.setattr(check, "host_facts", lambda conf: facts)
    monkeypatch.delenv("KATAPY_FACTORY", raising=False)
    conf = config.Config(factory=config.Factory(dir=str(tmp_path)))
    assert check.check_templates(conf, "") == check.Finding("ok", f"{tmp_path}: 0 there, 8 at most")
    Store(str(tmp_path)).mark_failed("0123", "its kernel is tainted")
    found = check.check_templates(conf, "")
    assert (found.level, "its kernel is tainted" in found.text) == ("warning", True)
    facts = dataclasses.replace(facts, qemu_version=(7, 2, 9))
    found = check.check_templates(conf, "")
    assert (found.level, "8.2 or newer is needed" in found.text) == ("warning", True)
    off = config.Config(factory=config.Factory(templates="off"))
    assert check.check_templates(off, "").level == "ok"
