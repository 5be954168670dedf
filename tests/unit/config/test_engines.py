"""The shipped configurations of engines: readable, and about the program that `make install` installs."""

import json
import tomllib
from pathlib import Path
from typing import Any

import yaml

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
INSTALLED = "/usr/local/bin/katapy"


def _toml(name: str) -> dict[str, Any]:
    return tomllib.loads((CONFIGS / name).read_text())


def test_containerd() -> None:
    runtimes = _toml("containerd/katapy.toml")["plugins"]["io.containerd.grpc.v1.cri"]["containerd"]["runtimes"]
    assert runtimes["katapy"]["runtime_type"] == "io.containerd.runc.v2"
    assert runtimes["katapy"]["options"]["BinaryName"] == INSTALLED


def test_crio() -> None:
    runtime = _toml("crio/50-katapy.conf")["crio"]["runtime"]["runtimes"]["katapy"]
    assert (runtime["runtime_path"], runtime["runtime_type"]) == (INSTALLED, "oci")


def test_docker() -> None:
    assert json.loads((CONFIGS / "docker/daemon.json").read_text()) == {"runtimes": {"katapy": {"path": INSTALLED}}}


def test_kubernetes() -> None:
    """The handler is what containerd and CRI-O call the runtime."""
    document = yaml.safe_load((CONFIGS / "kubernetes/runtime-class.yaml").read_text())
    assert (document["kind"], document["handler"]) == ("RuntimeClass", "katapy")
