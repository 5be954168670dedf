"""Bad input to `create`: one line, a non-zero status, under a second, and nothing is created. No machine boots.

A second is a bound on one command that does nothing, not a measurement: it takes 70 ms. It is counted in time of the
processor, so that a busy machine changes nothing; whatever waits instead of computing meets the deadline of the call.
"""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from framework.bundle import Bundle, Spec
from framework.runtime import Result, Runtime

BundleMaker = Callable[..., Bundle]
AT_ONCE_S = 1.0


def refused(runtime: Runtime, result: Result, words: str, prefix: str = "katapy create failed: ") -> None:
    assert result.status == 1, result
    assert result.out == ""
    assert result.err.count("\n") == 1
    assert result.err.endswith('"\n')
    assert f'msg="{prefix}' in result.err
    assert words in result.err
    assert "Traceback" not in result.err
    assert result.cpu_seconds < AT_ONCE_S
    assert runtime.ids() == []


@pytest.mark.parametrize(
    "id", ["", ".", "..", "../x", "/x", "a/b", "-x", "a b", "é", "%s\n", "x" * 2000, "$(id)", "a,b=c"]
)
def test_ids(runtime: Runtime, bundle: BundleMaker, id: str) -> None:
    words = "container id cannot be empty" if id == "" else "invalid container ID format"
    refused(runtime, runtime("create", "--bundle", bundle().path, "--", id), words)


def test_a_bundle_that_is_not_there(runtime: Runtime) -> None:
    refused(runtime, runtime("create", "--bundle", "/nosuch", "x"), "chdir /nosuch: no such file or directory")


def test_a_bundle_that_is_a_file(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(runtime, runtime("create", "--bundle", tmp_path / "file", "x"), "not a directory")


def test_a_bundle_without_a_spec(runtime: Runtime, tmp_path: Path) -> None:
    refused(runtime, runtime("create", "--bundle", tmp_path, "x"), "JSON specification file config.json not found")


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b'\xef\xbb\xbf{"ociVersion": "1.0.2"}', "byte order mark"),
        (b'{"a": "\xff"}', "is not JSON"),
        (b"[" * 1_000_000, "nested"),  # too deeply for the parser, or deeper than allowed: that depends on Python
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "nested"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, "nested deeper than 64 levels"),
        (b" " * 100_000_000, "has 100000000 bytes, at most 16777216 are allowed"),
        (b"{}", "ociVersion must be specified - at `$.ociVersion`"),
    ],
    ids=["empty", "truncated", "array", "bom", "not-utf8", "brackets", "braces", "deep", "100MB", "nothing"],
)
def test_documents(runtime: Runtime, tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "config.json").write_bytes(content)
    refused(runtime, runtime("create", "--bundle", tmp_path, "x"), words)


def _set(path: str, value: Any) -> Callable[[Spec], None]:
    """An edit that sets `a.b.c` of the spec."""

    def edit(spec: Spec) -> None:
        *parents, last = path.split(".")
        place = spec
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = value

    return edit


def _add(path: str, value: Any) -> Callable[[Spec], None]:
    """An edit that appends to the array `a.b` of the spec."""

    def edit(spec: Spec) -> None:
        place: Any = spec
        for name in path.split("."):
            place = place[name]
        place.append(value)

    return edit


def _without(kind: str) -> Callable[[Spec], None]:
    """An edit that removes a namespace."""

    def edit(spec: Spec) -> None:
        spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != kind]
        del spec["linux"]["maskedPaths"], spec["linux"]["readonlyPaths"]  # which need a mount namespace, says runc

    return edit


@pytest.mark.parametrize(
    "edit, words",
    [
        (_set("ociVersion", "9.9"), "$.ociVersion"),
        (_set("ociVersion", 1), "$.ociVersion"),
        (_set("process.args", "ls"), "$.process.args"),
        (_set("process.args", []), "$.process.args"),
        (_set("process.args", [1]), "$.process.args"),
        (_set("process.cwd", "relative"), "Cwd must be an absolute path"),
        (_set("process.cwd", "/proc/self/fd/7"), "$.process.cwd"),
        (_set("process.cwd", "/proc/self/../1/fd/7"), "$.process.cwd"),
        (_set("process.env", ["a\0=b"]), "$.process.env"),
        (_set("process.env", ["novalue"]), "$.process.env"),
        (_set("process.user", {"uid": -1, "gid": 0}), "$.process.user.uid"),
        (_set("process.user", {"uid": 2**32, "gid": 0}), "$.process.user.uid"),
        (_add("process.rlimits", {"type": "RLIMIT_X", "hard": 1, "soft": 1}), "$.process.rlimits"),
        (_add("process.rlimits", {"type": "RLIMIT_NOFILE", "hard": 1, "soft": 1}), "$.process.rlimits"),
        (_set("root.path", "nosuch"), "invalid rootfs"),
        (_set("root.path", 7), "$.root.path"),
        (_set("hostname", "x" * 300), "$.hostname"),
        (_set("annotations", {"a": 1}), "$.annotations"),
        (_set("annotations", {"io.katapy.vcpus": "2"}), "is not allowed"),
        (_set("annotations", {"io.katapy.kernel": "/x"}), "is not known"),
        (_set("linux.cgroupsPath", "../../x"), "$.linux.cgroupsPath"),
        (_set("linux.resources", {"memory": {"limit": "1g"}}), "$.linux.resources.memory.limit"),
        (_set("linux.resources", {"cpu": {"cpus": "a"}}), "$.linux.resources.cpu.cpus"),
        (_set("linux.intelRdt", {"closID": "x"}), "intelRdt is not supported"),
        (_without("network"), "host networking is not supported"),
        (_without("mount"), "without a mount namespace"),
        (_add("linux.namespaces", {"type": "nope"}), "$.linux.namespaces"),
        (_add("linux.namespaces", {"type": "pid"}), "duplicated ns"),
        (_add("linux.namespaces", {"type": "user", "path": "/proc/1/ns/user"}), "joining the user namespace"),
        (_add("mounts", {"destination": "/x", "type": "bind", "source": "/nosuch"}), "no such file or directory"),
        (_add("mounts", {"destination": "/x", "type": "bind", "source": "/dev/tty"}), "only files and directories"),
        (_add("mounts", {"type": "tmpfs"}), "$.mounts[7]"),
        (_add("mounts", "x"), "$.mounts[7]"),
    ],
)
def test_specs(runtime: Runtime, bundle: BundleMaker, edit: Callable[[Spec], None], words: str) -> None:
    made = bundle()
    edit(made.spec)
    refused(runtime, runtime("create", "--bundle", made.save().path, "x"), words)


@pytest.mark.parametrize("path, words", [("/a/b", "slice:prefix:name"), ("a:b:c", "not the name of a slice")])
def test_paths_that_name_no_unit_of_systemd(runtime: Runtime, bundle: BundleMaker, path: str, words: str) -> None:
    made = bundle(cgroup=path).path
    refused(runtime, runtime("--systemd-cgroup", "create", "--bundle", made, "x"), words)


@pytest.mark.skipif(Path("/run/systemd/system").is_dir(), reason="systemd runs here: tests/kvm/test_cgroups.py")
def test_a_host_without_systemd(runtime: Runtime, bundle: BundleMaker) -> None:
    made = bundle(cgroup="system.slice:a:b").path
    refused(runtime, runtime("--systemd-cgroup", "create", "--bundle", made, "x"), "is this host run by systemd?")


def test_a_root_that_is_a_link(runtime: Runtime, bundle: BundleMaker) -> None:
    made = bundle()
    (made.path / "link").symlink_to("/etc")
    made.spec["root"]["path"] = "link"
    refused(runtime, runtime("create", "--bundle", made.save().path, "x"), "invalid rootfs")


@pytest.mark.parametrize("path", ["/nosuch/pid", "/", "/dev/null/pid"])
def test_pid_files(runtime: Runtime, bundle: BundleMaker, path: str) -> None:
    refused(runtime, runtime("create", "--bundle", bundle().path, "--pid-file", path, "x"), f"pid file {path}")


@pytest.mark.parametrize("path, words", [("/nosuch", "no such file"), ("/etc/passwd", "connection refused")])
def test_console_sockets(runtime: Runtime, bundle: BundleMaker, path: str, words: str) -> None:
    made = bundle(terminal=True)
    result = runtime("create", "--bundle", made.path, "--console-socket", path, "x")
    refused(runtime, result, f"console socket {path}: {words}")


def test_a_terminal_in_the_foreground_is_the_callers(runtime: Runtime, bundle: BundleMaker) -> None:
    argv = runtime.argv("run", "--bundle", bundle(terminal=True).path, "x")
    result = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True)
    assert result.returncode == 1
    assert "open /dev/tty: no such device or address" in result.stderr


def test_a_terminal_needs_a_console_socket_and_the_other_way_round(runtime: Runtime, bundle: BundleMaker) -> None:
    result = runtime("create", "--bundle", bundle(terminal=True).path, "x")
    refused(runtime, result, "cannot allocate tty if katapy will detach without setting console socket")
    result = runtime("create", "--bundle", bundle().path, "--console-socket", "/nosuch", "x")
    refused(runtime, result, "cannot use console socket if katapy will not detach or allocate tty")


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--preserve-fds", "3"], "--preserve-fds is not supported"),
        (["--pidfd-socket", "/x"], "--pidfd-socket is not supported"),
    ],
)
def test_flags_of_runc_that_a_guest_cannot_honour(
    runtime: Runtime, bundle: BundleMaker, flags: list[str], words: str
) -> None:
    refused(runtime, runtime("create", "--bundle", bundle().path, *flags, "x"), words)


def test_the_log_gets_one_json_object(runtime: Runtime, tmp_path: Path) -> None:
    log = tmp_path / "log.json"
    argv = runtime.argv("--log", log, "--log-format", "json", "create", "--bundle", "/nosuch", "x")
    assert os.spawnv(os.P_WAIT, argv[0], argv) == 1
    record = json.loads(log.read_text())
    assert record["level"] == "error"
    assert record["msg"] == "katapy create failed: chdir /nosuch: no such file or directory"


@pytest.mark.parametrize("keep", [True, False])
def test_what_a_failed_create_leaves(
    runtime: Runtime, bundle: BundleMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    """Nothing, or its folder for who wants to read the logs: then its id is taken until it is deleted."""
    (tmp_path / "katapy.yaml").write_text(f"image: {{dir: /nosuch}}\ndebug: {{keep: {str(keep).lower()}}}\n")
    monkeypatch.setenv("KATAPY_CONFIG", str(tmp_path / "katapy.yaml"))
    done = runtime("create", "--bundle", bundle().path, "x")
    assert "no usable guest image in /nosuch" in done.err
    assert runtime.ids() == (["x"] if keep else [])
    if keep:
        runtime("delete", "x").ok()
