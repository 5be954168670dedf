"""Podman with storage, locks and state of its own below one folder, and the runtime under test. Runs in pytest.

Containers get a cgroup parent that carries the token, so the leak check sees what is theirs.
"""

import contextlib
import os
import secrets
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from framework import processes
from framework.bundle import make_rootfs
from framework.leaks import CGROUPS
from framework.runtime import BOOT_S, CALL_S, Arg, Result, Runtime
from framework.terminal import Terminal, spawn
from framework.wait import wait_for

IMAGE = "localhost/box"
SYSTEMD = Path("/run/systemd/system").is_dir()
"""Whether it manages this host's cgroups: then Podman has it do so, as it does by default."""
INSTALLED = "/usr/local/bin/katapy"
"""What the shipped configuration calls the runtime."""

_LIMITS_OF_HOST_RUNTIMES = '\n[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'
"""Podman's own are above what a runtime without CAP_SYS_RESOURCE may set."""


class Podman:
    """One Podman with one image. `close` takes away all that it left on the host.

    It is called in its own folder: conmon writes a file `oom` to wherever it was started, whatever the runtime.
    """

    def __init__(
        self, folder: Path, config: str, runtime: Runtime, cgroup: str, guest: bool, enter: Sequence[str] = ()
    ) -> None:
        """config: text of the shipped configuration, in which the path of the runtime is replaced. enter: words before
        the command, such as nsenter's."""
        self._enter = tuple(enter)
        self.folder = folder
        self.runtime = runtime
        self.cgroup = cgroup
        self._cwd = folder / "work"
        """Where conmon writes `oom`."""
        for name in ("bin", "root", "run", "tmp", "net", "work"):
            (folder / name).mkdir(parents=True)
        if SYSTEMD:  # either is made with the first container, and kept
            subprocess.run(["systemctl", "start", cgroup], check=True)
        else:
            make_cgroup(cgroup.strip("/"), "conmon")
        program = launcher(folder / "bin" / runtime.name, runtime)
        text = config.replace(INSTALLED, str(program)).replace("[engine]\n", '[engine]\nlock_type = "file"\n', 1)
        (folder / "containers.conf").write_text(text if guest else text + _LIMITS_OF_HOST_RUNTIMES)
        self._environment = {
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",  # of Podman 5, on stderr, beside what the container says
        }
        self._env = os.environ | self._environment
        self._runtime_flag = runtime.name if guest else str(program)
        self._import_image()

    def argv(self, *args: Arg) -> list[str]:
        paths = {"root": "root", "runroot": "run", "tmpdir": "tmp", "network-config-dir": "net"}
        flags = [f"--{flag}={self.folder / name}" for flag, name in paths.items()]
        manager = "systemd" if SYSTEMD else "cgroupfs"
        flags += [f"--cgroup-manager={manager}", "--events-backend=file", f"--runtime={self._runtime_flag}"]
        return [*self._enter, "podman", *flags, *(str(a) for a in args)]

    def __call__(self, *args: Arg, input: bytes = b"", timeout: float = CALL_S) -> Result:
        """A command of Podman to its end; stdin holds `input` and then ends."""
        argv = self.argv(*args)
        begun = time.monotonic()
        done = subprocess.run(
            argv, input=input, capture_output=True, timeout=timeout, env=self._env, cwd=self._cwd, check=False
        )
        return Result(tuple(argv), done.returncode, done.stdout, done.stderr, time.monotonic() - begun)

    def popen(self, *args: Arg, **streams: Any) -> "subprocess.Popen[bytes]":
        """Starts a command. The caller waits for it."""
        return subprocess.Popen(self.argv(*args), env=self._env, cwd=self._cwd, **streams)

    def terminal(self, *args: Arg) -> tuple["subprocess.Popen[bytes]", Terminal]:
        """Starts a command in a terminal. The caller owns both."""
        return spawn(
            [
                "env",
                f"--chdir={self._cwd}",
                *(f"{name}={value}" for name, value in self._environment.items()),
                *self.argv(*args),
            ]
        )

    def create_flags(self, network: str | None = "none") -> tuple[str, ...]:
        """What `run` and `create` get besides the test's own flags."""
        return (f"--cgroup-parent={self.cgroup}", *([f"--network={network}"] if network else []))

    def run(self, *args: Arg, input: bytes = b"", network: str | None = "none", timeout: float = BOOT_S) -> Result:
        """`podman run`, with flags, image and command in `args`."""
        return self("run", *self.create_flags(network), *args, input=input, timeout=timeout)

    def detached(self, *args: Arg) -> "Box":
        """`podman run -d`. AssertionError unless it succeeds."""
        return Box(self, self.run("-d", *args).ok().out.strip())

    def close(self) -> None:
        """Removes containers, mounts, cgroups and the folder, whatever the tests left.

        AssertionError names what would not go.
        """
        done = self("rm", "--all", "--force", "--time=0", timeout=120)
        wait_for("conmon's calls of podman, which mount its storage, have ended", lambda: not self._running(), 60)
        unmount_below(self.folder)
        if SYSTEMD:
            subprocess.run(["systemctl", "stop", self.cgroup], check=True)
        else:
            remove_cgroup(self.cgroup.strip("/"))
        shutil.rmtree(self.folder)
        done.ok()

    def _running(self) -> bool:
        """Whether any process names our folder."""
        return any(f"{self.folder}/" in p.command for p in processes.descendants(os.getpid()) if p.state not in "ZX")

    def _import_image(self) -> None:
        tar = subprocess.run(
            ["tar", "-C", make_rootfs(self.folder / "rootfs"), "-c", "."], check=True, capture_output=True
        )
        self("import", "-", IMAGE, input=tar.stdout).ok()


class Box:
    """A container of Podman's."""

    def __init__(self, podman: Podman, id: str) -> None:
        self.podman = podman
        self.id = id
        self.pid = 0

    def __call__(self, *command: Arg, input: bytes = b"", timeout: float = CALL_S) -> Result:
        """A command of Podman whose last operand is the container: `box("stop", "-t", "5")`."""
        return self.podman(*command, self.id, input=input, timeout=timeout)

    def exec(self, *command: Arg, flags: Sequence[Arg] = (), input: bytes = b"") -> Result:
        return self.podman("exec", *flags, self.id, *command, input=input)

    def sh(self, script: str) -> str:
        """Output of a shell script in the container, without the last newline. AssertionError unless it ends with 0."""
        return self.exec("sh", "-c", script).ok().out.rstrip("\n")

    def inspect(self, field: str) -> str:
        """A field as Go's templates name it: `State.Running`."""
        return self("inspect", "--format", f"{{{{.{field}}}}}").ok().out.strip()

    def logs(self) -> str:
        return self("logs").ok().out

    def wait_logs(self, end: str) -> str:
        """The output so far, once it ends with `end`."""
        return wait_for(f"{self.id} has said {end!r}", lambda: text if (text := self.logs()).endswith(end) else "")


def cgroup_parent(token: str) -> str:
    """A new one for a Podman's containers, in the form of whoever manages this host's cgroups."""
    name = f"{token}{secrets.token_hex(3)}"
    return f"{name}.slice" if SYSTEMD else f"/{name}"


def launcher(path: Path, runtime: Runtime) -> Path:
    """A program that is the runtime with a state root of the tests' own: Podman's clean-up forgets `--runtime-flag`."""
    path.write_text(f'#!/bin/sh\nexec {shlex.join(runtime.argv())} "$@"\n')
    path.chmod(0o755)
    return path


def _hierarchies() -> Iterator[Path]:
    """The root of cgroup v2, or those of v1 that a container has a folder in."""
    if (CGROUPS / "cgroup.controllers").exists():
        yield CGROUPS
        return
    for path in CGROUPS.iterdir():
        if path.is_dir() and not path.is_symlink():
            yield path


def make_cgroup(*names: str) -> None:
    """Nested ones, in every hierarchy."""
    for hierarchy in _hierarchies():
        _make_cgroup(hierarchy, *names)


def remove_cgroup(name: str) -> None:
    """From every hierarchy, with all below it. AssertionError if a process stays in it."""
    for hierarchy in _hierarchies():
        _remove_cgroup(hierarchy / name)


def _make_cgroup(parent: Path, *names: str) -> None:
    """Nested ones; cpusets of v1 are made as large as their parents, without which no process may enter."""
    for name in names:
        (parent / name).mkdir()
        for file in ("cpuset.cpus", "cpuset.mems"):
            if (CGROUPS / "cpuset" / file).exists() and (parent / file).exists():
                (parent / name / file).write_text((parent / file).read_text())
        parent /= name


def _remove_cgroup(cgroup: Path) -> None:
    """With all below it. AssertionError if a process (conmon ends after Podman has) stays in it."""

    def removed() -> bool:
        for path, _, _ in os.walk(cgroup, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(path)
        return not cgroup.exists()

    wait_for(f"{cgroup} is empty", removed)


def unmount_below(folder: Path) -> None:
    """Everything that is mounted below it."""
    mounts = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    for mount in sorted((m for m in mounts if m.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", mount], check=True)
