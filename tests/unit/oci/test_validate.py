"""Rules between members, in runc's words."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from katapy.errors import SpecError
from katapy.oci import spec
from katapy.oci.default import default_spec
from katapy.oci.spec import Bundle, Spec
from katapy.oci.validate import validate_bundle

Change = Callable[[Any], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rootfs").mkdir()
    return tmp_path


def validate(folder: Path, change: Change) -> None:
    document = copy.deepcopy(default_spec())
    change(document)
    validate_bundle(Bundle(str(folder), spec._convert(document, Spec), document))


def without(kind: str) -> Change:
    def change(d: Any) -> None:
        d["linux"]["namespaces"] = [n for n in d["linux"]["namespaces"] if n["type"] != kind]

    return change


def sysctl(key: str, removed: str = "") -> Change:
    def change(d: Any) -> None:
        without(removed)(d)
        d["linux"]["sysctl"] = {key: "1"}

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda d: None,
        lambda d: d.pop("process"),
        lambda d: d.update(ociVersion="1.0.2-dev"),
        lambda d: d.update(ociVersion="1.3.0"),
        lambda d: d["mounts"].append({"destination": "relative", "type": "tmpfs"}),
        lambda d: d["process"]["capabilities"].update(bounding=["CAP_FUTURE"]),
        lambda d: d.update(hooks={"poststop": [{"path": "/x", "timeout": 1}]}),
        lambda d: d["linux"].update(uidMappings=[{"containerID": 0, "hostID": 0, "size": 1}]),
        lambda d: d["linux"]["namespaces"].append({"type": "user", "path": "/proc/1/ns/user"}),
        sysctl("net.ipv4.ip_forward"),
        sysctl("net/ipv4/conf/eth0.1/forwarding"),
        sysctl("kernel.shmmax"),
        sysctl("kernel/shmmax"),
        sysctl("fs.mqueue.msg_max"),
        sysctl("kernel.domainname"),
    ],
)
def test_accepted(folder: Path, change: Change) -> None:
    validate(folder, change)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda d: d.pop("ociVersion"), "ociVersion must be specified - at `$.ociVersion`"),
        (lambda d: d.update(ociVersion="2.0.0"), "ociVersion '2.0.0' is not supported: only 1.x is"),
        (lambda d: d.update(ociVersion="1"), "ociVersion '1' is not supported"),
        (lambda d: d["process"].pop("args"), "args must not be empty - at `$.process.args`"),
        (lambda d: d["process"].update(args=[]), "args must not be empty"),
        (lambda d: d["process"].update(cwd=""), "Cwd property must not be empty"),
        (lambda d: d["process"].update(cwd="x"), "Cwd must be an absolute path"),
        (lambda d: d["process"].update(env=["A"]), "invalid environment variable: 'A'"),
        (lambda d: d["process"].update(env=["=b"]), "invalid environment variable: '=b'"),
        (lambda d: d["process"].update(args=["a\0b"]), "NUL character - at `$.process.args`"),
        (lambda d: d["process"].update(oomScoreAdj=1001), "oomScoreAdj 1001 is not from -1000 to 1000"),
        (lambda d: d["process"].update(rlimits=[{"type": "RLIMIT_X"}]), "wrong rlimit value: RLIMIT_X"),
        (lambda d: d["process"]["rlimits"].append({"type": "RLIMIT_NOFILE"}), "rlimit RLIMIT_NOFILE is set twice"),
        (lambda d: d.pop("root"), "root must be specified"),
        (lambda d: d.update(root={"path": ""}), "root path must not be empty"),
        (lambda d: d["root"].update(path="nosuch"), "invalid rootfs: stat"),
        (lambda d: d["root"].update(path="nosuch"), "nosuch: no such file or directory"),
        (lambda d: d["root"].update(path=__file__), "not a directory"),
        (lambda d: d["root"].update(path="link"), "invalid rootfs: not an absolute path, or a symlink"),
        (without("uts"), "unable to set hostname without a private UTS namespace - at `$.hostname`"),
        (lambda d: d.update(hostname="x" * 65), "hostname is longer than 64 bytes"),
        (without("mount"), "unable to restrict sys entries without a private MNT namespace"),
        (lambda d: d["linux"]["namespaces"].append({"type": "pid"}), "malformed spec file: duplicated ns 'pid'"),
        (lambda d: d["linux"]["namespaces"].append({"type": "x"}), "namespace 'x' does not exist"),
        (lambda d: d["linux"]["namespaces"].append({}), "namespace '' does not exist"),
        (
            lambda d: d["linux"]["namespaces"].append({"type": "user"}),
            "User namespaces enabled, but no uid mappings found.",
        ),
        (
            lambda d: d["linux"]["namespaces"].append({"type": "time", "path": "x"}),
            "namespace path 'x' is not absolute",
        ),
        (lambda d: d["mounts"].append({"type": "tmpfs"}), "mount destination must not be empty"),
        (lambda d: d["mounts"].append({"destination": "/a/../.."}), "must not contain .."),
        (lambda d: d["mounts"].append({"destination": "/a", "options": ["\0"]}), "NUL character"),
        (
            lambda d: d.update(hooks={"prestart": [{"path": "x"}]}),
            "hook path 'x' is not absolute - at `$.hooks.prestart[0].path`",
        ),
        (
            lambda d: d.update(hooks={"createRuntime": [{"path": "/x", "timeout": 0}]}),
            "at `$.hooks.createRuntime[0].timeout`",
        ),
        (lambda d: d["linux"].update(rootfsPropagation="x"), "rootfsPropagation=x is not supported"),
        (lambda d: d["linux"].update(devices=[{"path": "/dev/x", "type": "q"}]), 'invalid device type "q"'),
        (lambda d: d["linux"].update(devices=[{"path": "x", "type": "c"}]), "device path 'x' is not absolute"),
        (lambda d: d["linux"].update(maskedPaths=["x"]), "path 'x' is not absolute - at `$.linux.maskedPaths`"),
        (lambda d: d["linux"].update(timeOffsets={"boottime": {"secs": 1}}), "time namespace isn't enabled"),
        (sysctl("vm.swappiness"), 'sysctl "vm.swappiness" is not in a separate kernel namespace'),
        (sysctl("kernel.hostname"), 'not allowed as it conflicts with the OCI "hostname" field'),
        (sysctl("kernel.shmmax", "ipc"), 'sysctl "kernel.shmmax" is not allowed in the hosts ipc namespace'),
        (sysctl("net.x", "network"), 'sysctl "net.x" not allowed in host network namespace'),
        (sysctl("net/../kernel/x"), "is not a name"),
    ],
)
def test_refused(folder: Path, change: Change, message: str) -> None:
    (folder / "link").symlink_to(folder / "rootfs")
    with pytest.raises(SpecError) as caught:
        validate(folder, change)
    assert message in str(caught.value)
    assert caught.value.path.startswith("$")
