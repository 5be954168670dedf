"""When a sandbox is cloned and when it boots."""

import dataclasses

import pytest

from katapy.config import Config, Debug, Factory
from katapy.hypervisor.vm import Accelerator, ShareType, Transport
from katapy.sandbox.plan import HostFacts
from katapy.sandbox.template import reason_against

FACTS = HostFacts(
    cpus=1, arch="x86_64", qemu="/usr/bin/qemu-system-x86_64", accelerator=Accelerator.TCG, cpu_model="max",
    transport=Transport.SERIAL, share=ShareType.NINEP, virtiofsd=None, groups=(), generation_id=True,
    qemu_version=(10, 0, 2),
)  # fmt: skip
VSOCK = dataclasses.replace(FACTS, transport=Transport.VSOCK, accelerator=Accelerator.KVM)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KATAPY_FACTORY", raising=False)


def test_templates_are_the_default() -> None:
    assert reason_against(Config(), FACTS) == ""


@pytest.mark.parametrize(
    "config,facts,reason",
    [
        (Config(factory=Factory(templates="off")), FACTS, "factory.templates is off"),
        (Config(debug=Debug(console=True)), FACTS, "debug.console"),
        (Config(), dataclasses.replace(FACTS, qemu_version=(8, 1)), "QEMU 8.1"),
        (Config(), dataclasses.replace(FACTS, generation_id=False), "corrupts"),
        (Config(), VSOCK, ""),
    ],
)
def test_reasons_against(config: Config, facts: HostFacts, reason: str) -> None:
    found = reason_against(config, facts)
    assert (reason in found) if reason else found == ""


def test_one_call_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KATAPY_FACTORY", "off")
    assert "KATAPY_FACTORY" in reason_against(Config(), FACTS)
