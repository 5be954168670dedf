"""Docker with configs/docker/daemon.json: a life, and an end by memory. Run by hand, since `make setup` installs no
Docker: apt-get install docker.io, then .venv/bin/python -m pytest tests/engines/docker_by_hand.py

A daemon of the tests' own, below one folder; it makes no network and no firewall rules.
"""

import contextlib
import os
import platform
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from framework.bundle import make_rootfs
from framework.fixtures import CHECKOUT
from framework.leaks import Scope
from framework.podman import INSTALLED, launcher, make_cgroup, remove_cgroup, unmount_below
from framework.runtime import BOOT_S, Result, Runtime
from framework.wait import wait_for

SHIPPED = CHECKOUT / "configs/docker/daemon.json"
IMAGE = "box"


class Docker:
    """A daemon, until `close`, and its command line."""

    def __init__(self, folder: Path, runtime: Runtime, cgroup: str) -> None:
        self._folder, self._cgroup = folder, cgroup
        folder.mkdir(parents=True)
        program = launcher(folder / "katapy", runtime)
        (folder / "daemon.json").write_text(SHIPPED.read_text().replace(INSTALLED, str(program)))
        make_cgroup(cgroup)
        self._environment = {**os.environ, "DOCKER_HOST": f"unix://{folder}/s", "HOME": str(folder)}
        paths = {"data-root": "lib", "exec-root": "run", "pidfile": "pid", "config-file": "daemon.json"}
        flags = [f"--{flag}={folder / name}" for flag, name in paths.items()]
        flags += [f"--host=unix://{folder}/s", f"--cgroup-parent=/{cgroup}", "--bridge=none", "--iptables=false"]
        with (folder / "log").open("wb") as log:
            self._daemon = subprocess.Popen(["dockerd", *flags], stdout=log, stderr=log)
        try:
            wait_for("dockerd answers", lambda: self("version").status == 0)
            layer = ["tar", "-C", str(make_rootfs(folder / "rootfs")), "-c", "."]
            self("import", "-", IMAGE, input=subprocess.run(layer, check=True, capture_output=True).stdout).ok()
        except BaseException:
            self.close()
            raise

    def __call__(self, *arguments: str, input: bytes = b"") -> Result:
        argv = ["docker", *arguments]
        done = subprocess.run(
            argv, input=input, capture_output=True, timeout=BOOT_S, env=self._environment, check=False
        )
        return Result(tuple(argv), done.returncode, done.stdout, done.stderr, 0.0)

    def run(self, *arguments: str) -> Result:
        return self("run", "--runtime=katapy", "--network=none", *arguments)

    def state(self, name: str, field: str) -> str:
        return self("inspect", f"--format={{{{.State.{field}}}}}", name).ok().out.strip()

    def close(self) -> None:
        for name in self("ps", "-aq").out.split():
            self("rm", "--force", name)
        self._daemon.send_signal(signal.SIGTERM)
        self._daemon.wait(60)
        unmount_below(self._folder)
        remove_cgroup(self._cgroup)
        shutil.rmtree(self._folder)


@pytest.fixture(scope="module")
def docker(module_runtime: Runtime, scope: Scope) -> Iterator[Docker]:
    missing = [name for name in ("dockerd", "docker") if shutil.which(name) is None]
    assert not missing, f"not installed: {', '.join(missing)}: apt-get install docker.io"
    with contextlib.closing(Docker(scope.root / "docker", module_runtime, f"{scope.token}-docker")) as docker:
        yield docker


def test_a_container_in_a_machine_of_its_own(docker: Docker) -> None:
    done = docker.run("--rm", IMAGE, "sh", "-c", "uname -r; echo trouble >&2; exit 7")
    assert (done.status, done.err) == (7, "trouble\n")
    assert done.out.strip() not in ("", platform.release())


def test_a_life(docker: Docker) -> None:
    script = "trap 'exit 5' TERM; echo started; while :; do sleep 1000000 & wait; done"
    docker.run("--detach", "--name=life", "--memory=100m", IMAGE, "sh", "-c", script).ok()
    wait_for("it has said so", lambda: docker("logs", "life").out == "started\n")
    assert docker("exec", "life", "echo", "yes").ok().out == "yes\n"
    docker("pause", "life").ok()
    assert docker.state("life", "Status") == "paused"
    docker("unpause", "life").ok()
    docker("update", "--memory=200m", "--memory-swap=200m", "life").ok()
    assert docker("exec", "life", "cat", "/sys/fs/cgroup/memory.max").ok().out == f"{200 << 20}\n"
    docker("stop", "--time=60", "life").ok()
    assert docker.state("life", "ExitCode") == "5"
    docker("start", "life").ok()
    wait_for("it has said so again", lambda: docker("logs", "life").out == "started\nstarted\n")
    docker("stop", "--time=60", "life").ok()
    assert docker.state("life", "ExitCode") == "5"
    docker("rm", "life").ok()


def test_out_of_memory_is_the_reason(docker: Docker) -> None:
    assert docker.run("--name=oom", "--memory=64m", IMAGE, "tail", "/dev/zero").status == 137
    assert docker.state("oom", "OOMKilled") == "true"
    docker("rm", "oom").ok()
