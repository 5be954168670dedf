"""The shipped configurations of engines: readable, and about the program that `make install` installs."""

import json
import re
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


CRIO_RUNTIME = {"cgroup_manager": ("cgroupfs", "systemd"), "conmon_cgroup": ("pod", "")}
"""Settings of CRI-O's [crio.runtime], and what they may be together with `cgroupfs`."""
CRIO_HANDLER = {
    "runtime_path": str, "runtime_type": str, "runtime_root": str, "runtime_config_path": str, "monitor_path": str,
    "monitor_cgroup": str, "monitor_env": list, "monitor_exec_cgroup": str, "privileged_without_host_devices": bool,
    "allowed_annotations": list, "default_annotations": dict, "container_min_memory": str, "no_sync_log": bool,
    "container_create_timeout": int, "seccomp_profile": str,
}  # fmt: skip
"""Settings of [crio.runtime.runtimes.NAME] by their types (RuntimeHandler in CRI-O's pkg/config). CRI-O can't be asked
itself, since it is not in Debian; what it does not know it ignores."""


def test_crio() -> None:
    runtime = _toml("crio/50-katapy.conf")["crio"]["runtime"]
    (handler,) = runtime.pop("runtimes").values()
    assert [name for name, value in runtime.items() if value not in CRIO_RUNTIME[name]] == []
    assert {name: CRIO_HANDLER[name] for name in handler} == {name: type(value) for name, value in handler.items()}
    assert (handler["runtime_path"], handler["runtime_type"]) == (INSTALLED, "oci")
    assert handler["monitor_cgroup"] in ("pod", ""), "what CRI-O allows with cgroupfs"


def test_docker() -> None:
    assert json.loads((CONFIGS / "docker/daemon.json").read_text()) == {"runtimes": {"katapy": {"path": INSTALLED}}}


QUANTITY = re.compile(r"[0-9]+(m|Ki|Mi|Gi)?")
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def test_kubernetes() -> None:
    """A RuntimeClass of node.k8s.io/v1, by the fields that has; its handler is the runtime's name with engines."""
    document = yaml.safe_load((CONFIGS / "kubernetes/runtime-class.yaml").read_text())
    assert set(document) <= {"apiVersion", "kind", "metadata", "handler", "overhead", "scheduling"}
    assert (document["apiVersion"], document["kind"]) == ("node.k8s.io/v1", "RuntimeClass")
    assert LABEL.fullmatch(document["metadata"]["name"])
    assert set(document["overhead"]) == {"podFixed"}
    assert all(QUANTITY.fullmatch(amount) for amount in document["overhead"]["podFixed"].values())
    assert set(document["overhead"]["podFixed"]) == {"memory", "cpu"}
    engines = _toml("containerd/katapy.toml")["plugins"]["io.containerd.grpc.v1.cri"]["containerd"]["runtimes"]
    for names in (engines, _toml("crio/50-katapy.conf")["crio"]["runtime"]["runtimes"]):
        assert document["handler"] in names
