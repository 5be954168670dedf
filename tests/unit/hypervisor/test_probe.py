"""Judgements about the host, and programs' versions."""

import os
from pathlib import Path

import pytest

from katapy.errors import HostError
from katapy.hypervisor.qemu import probe
from katapy.hypervisor.vm import Accelerator
from katapy.linux.program import first_executable, version_number, version_text

FLAGS = "processor\t: 0\nflags\t\t: fpu {} sse\n"


@pytest.mark.parametrize(
    "cpuinfo, pvm, usable",
    [
        (FLAGS.format("vmx"), False, True),
        (FLAGS.format("svm"), False, True),
        (FLAGS.format("vmx"), True, False),
        (FLAGS.format("vmx_other"), False, False),
        ("", False, False),
    ],
)
def test_kvm_by_flags(cpuinfo: str, pvm: bool, usable: bool) -> None:
    judged = probe.judge_x86(cpuinfo, pvm)
    assert judged.usable is usable
    assert judged.reason


def test_old_qemu_that_emulates_gets_a_warning() -> None:
    assert "7.2" in probe.choose_accelerator("tcg", probe.QemuBinary("/q", (7, 2))).warning
    assert probe.choose_accelerator("tcg", probe.QemuBinary("/q", (10, 0, 2))).warning == ""
    assert not probe.has_sound_generation_id(Accelerator.TCG, probe.QemuBinary("/q", (7, 2, 9)))


def test_qemu_that_is_absent() -> None:
    with pytest.raises(HostError, match=r"can't find /nosuch/qemu: install QEMU, or set hypervisor\.binary"):
        probe.find_qemu("/nosuch/qemu", "x86_64")


@pytest.mark.parametrize(
    "text, number",
    [
        ("QEMU emulator version 10.0.2 (Debian 1:10.0.2)", (10, 0, 2)),
        ("virtiofsd backend 1.13", (1, 13)),
        ("none", ()),
    ],
)
def test_version_numbers(text: str, number: tuple[int, ...]) -> None:
    assert version_number(text) == number


def test_versions_are_remembered_until_the_file_changes(tmp_path: Path) -> None:
    program, cache = tmp_path / "tool", str(tmp_path / "cache")
    tmp_path.chmod(0o755)
    calls = tmp_path / "calls"
    for version in ("1.2", "1.3.7"):
        program.write_text(f"#!/bin/sh\necho tool {version}\necho x >>{calls}\n")
        program.chmod(0o755)
        calls.touch()
        calls.chmod(0o666)
        calls.write_text("")
        if os.geteuid() == 0:
            for folder in list(tmp_path.parents)[:3]:
                folder.chmod(folder.stat().st_mode | 0o011)
        assert version_text(str(program), cache) == version_text(str(program), cache) == f"tool {version}\n"
        assert calls.read_text() == "x\n"


def test_lookup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tool").write_text("")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert first_executable(["tool", "/bin/sh"]) == "/bin/sh"
    (tmp_path / "tool").chmod(0o755)
    assert first_executable(["/nosuch", "tool"]) == str(tmp_path / "tool")
    assert first_executable([]) is None
