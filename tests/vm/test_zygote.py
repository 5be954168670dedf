"""Supervisors that the zygote forks, and its warm machines: as good as those that `create` makes itself, or not used.

Whatever is wrong with the zygote, `create` goes on without it, with one warning in the supervisor's log.
"""

import contextlib
import json
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from framework import clock, processes
from framework.bundle import Bundle, at_the_guests
from framework.runtime import BOOT_S, Container, Runtime
from framework.settings import write_settings
from framework.wait import wait_for
from framework.zygote import Zygote

BundleMaker = Callable[..., Bundle]
CLOCK_S = 0.1
IDENTITY = "cat /proc/sys/kernel/random/boot_id /proc/sys/kernel/random/uuid /proc/1/root/etc/machine-id; hostname"


@pytest.fixture
def zygote(runtime: Runtime, template: Path, tmp_path: Path) -> Iterator[Zygote]:
    """Without warm machines."""
    yield from _zygote(runtime, template, tmp_path)


@pytest.fixture
def warming(runtime: Runtime, template: Path, tmp_path: Path) -> Iterator[Zygote]:
    """With one warm machine, which is ready."""
    write_settings(tmp_path / "katapy.yaml", factory={"pool": 1})
    for zygote in _zygote(runtime, template, tmp_path):
        zygote.await_warm()
        yield zygote


def _zygote(runtime: Runtime, template: Path, tmp_path: Path) -> Iterator[Zygote]:
    zygote = Zygote(runtime, tmp_path / "katapy.yaml")
    yield zygote
    zygote.end()


def supervisor(container: Container) -> int:
    return int(json.loads((container.state_dir / "state.json").read_text())["supervisor_pid"])


def is_warm(container: Container) -> bool:
    """By the name that its QEMU was started with."""
    return "guest=warm" in qemu(container).command.split()


def qemu(container: Container) -> processes.Process:
    return next(p for p in processes.descendants(supervisor(container)) if "qemu-system" in p.command)


def family(container: Container) -> list[int]:
    """Supervisor, QEMU, virtiofsd."""
    return [supervisor(container), *(p.pid for p in processes.descendants(supervisor(container)))]


def parent(pid: int) -> int:
    found = processes.find(pid)
    assert found is not None
    return found.parent


def test_it_forks_the_supervisor(runtime: Runtime, bundle: BundleMaker, zygote: Zygote, template: Path) -> None:
    container = runtime.start(bundle())
    assert parent(supervisor(container)) == zygote.pid
    assert parent(container.pid) == os.getpid(), "the stand-in is the caller's, as without a zygote"
    assert container.sh("echo well") == "well"
    assert container.warnings == []
    inodes = processes.descriptors(zygote.pid)
    ours = {name for name in inodes if name.startswith(("socket:", str(template.parent)))}
    assert ours
    for pid in family(container):
        assert not ours.intersection(processes.descriptors(pid)), "nothing of the zygote's"
    assert zygote.status()["served"] == {"forked": 1, "warm": 0, "refused": 0}


def test_the_supervisor_is_as_its_caller(runtime: Runtime, bundle: BundleMaker, zygote: Zygote) -> None:
    """Limits, OOM score, priority and environment are inherited by whoever `create` forks: so here."""
    made = bundle()
    container = Container(runtime, runtime.new_id(), made)

    def before() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**40, 2**40))
        resource.setrlimit(resource.RLIMIT_NOFILE, (700, 900))
        os.nice(3)
        Path("/proc/self/oom_score_adj").write_text("321")
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})

    argv = runtime.argv("create", "--bundle", made.path, "--pid-file", container.pid_file, container.id)
    with container.stdout.open("wb") as out:
        subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, preexec_fn=before, timeout=BOOT_S, check=True
        )
    container.start()
    pid = supervisor(container)
    assert parent(pid) == zygote.pid
    assert resource.prlimit(pid, resource.RLIMIT_FSIZE) == (2**40, 2**40)
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (700, 900)
    assert os.sched_getaffinity(pid) == os.sched_getaffinity(0)  # `create` itself does not stay bound
    status = Path(f"/proc/{pid}/status").read_text()
    assert "SigBlk:\t0000000000000000" in status
    assert "Umask:\t0077" in status
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    for member in family(container):
        assert os.getpriority(os.PRIO_PROCESS, member) == os.getpriority(os.PRIO_PROCESS, 0) + 3
        assert Path(f"/proc/{member}/oom_score_adj").read_text().strip() == "321"


def test_pods_outlive_it(runtime: Runtime, bundle: BundleMaker, zygote: Zygote) -> None:
    first = runtime.start(bundle())
    zygote.end(signal.SIGKILL)
    assert first.sh("echo well") == "well"
    second = runtime.start(bundle())
    assert second.sh("echo well") == "well"
    assert len(second.warnings) == 1, second.log
    assert "it has ended without taking its socket away" in second.log
    zygote.start()
    assert parent(supervisor(runtime.start(bundle()))) == zygote.pid
    assert zygote.end() == 0
    assert first.sh("echo well") == "well"
    third = runtime.start(bundle())
    assert third.warnings == [], "one that was ended is not missed"


def test_a_frozen_one_costs_one_warning(runtime: Runtime, bundle: BundleMaker, zygote: Zygote) -> None:
    zygote.send(signal.SIGSTOP)
    container = runtime.start(bundle())
    assert len(container.warnings) == 1, container.log
    assert "stopped by a signal" in container.log
    zygote.send(signal.SIGCONT)
    assert parent(supervisor(runtime.start(bundle()))) == zygote.pid


def test_another_mount_namespace_is_refused(runtime: Runtime, bundle: BundleMaker, zygote: Zygote) -> None:
    """What a supervisor forked there would share is not what its caller sees."""
    made = bundle()
    container = Container(runtime, runtime.new_id(), made)
    argv = runtime.argv("create", "--bundle", made.path, "--pid-file", container.pid_file, container.id)
    with container.stdout.open("wb") as out:
        command = ["unshare", "-m", "--propagation", "unchanged", *argv]
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=BOOT_S, check=True)
    container.start()
    assert len(container.warnings) == 1, container.log
    assert "its mnt namespace is not the caller's" in container.log


def test_a_mistake_in_the_configuration_does_not_end_it(
    runtime: Runtime, bundle: BundleMaker, warming: Zygote, tmp_path: Path
) -> None:
    configuration = tmp_path / "katapy.yaml"
    good = configuration.read_text()
    configuration.write_text("factory: [")
    wait_for("it has noticed", lambda: "katapy.yaml" in warming.said() or None, 30)
    configuration.write_text(good)
    container = runtime.start(bundle())
    assert is_warm(container)


def test_who_is_killed_meanwhile_leaves_nothing(runtime: Runtime, bundle: BundleMaker, warming: Zygote) -> None:
    """`create` is ended at several moments; what it had begun goes, and the zygote serves the next."""
    made = bundle()
    for seconds in (0.1, 0.2, 0.3, 0.5):
        container = Container(runtime, runtime.new_id(), made)
        process = runtime.popen("create", "--bundle", made.path, container.id, stderr=subprocess.DEVNULL)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        runtime("delete", "--force", container.id).ok()
    assert parent(supervisor(runtime.start(bundle()))) == warming.pid


def test_a_warm_machine_is_a_pods_own(runtime: Runtime, bundle: BundleMaker, warming: Zygote) -> None:
    first = runtime.start(bundle(hostname="first", edit=at_the_guests))
    warming.await_warm()
    second = runtime.start(bundle(hostname="second", edit=at_the_guests))
    assert (is_warm(first), is_warm(second)) == (True, True)
    assert first.warnings == []
    *ids, hostname = first.sh(IDENTITY).split("\n")
    other = second.sh(IDENTITY).split("\n")
    assert (hostname, other[-1]) == ("first", "second")
    assert not set(ids) & set(other)
    users = [os.stat(f"/proc/{qemu(c).pid}").st_uid for c in (first, second)]
    assert len(set(users)) == 2
    assert 0 not in users
    for pid in family(first):
        cgroup = first.bundle.spec["linux"]["cgroupsPath"]
        assert f":{cgroup}\n" in Path(f"/proc/{pid}/cgroup").read_text(), "it is accounted where the pod is"
    first.sh("echo from-inside >/file")
    assert (first.bundle.rootfs / "file").read_text() == "from-inside\n", "the share is its own root file system"
    assert warming.status()["served"]["warm"] == 2


@pytest.fixture
def late(tmp_path: Path) -> Iterator[Path]:
    """A folder with a file `word` in a file system that no mount namespace but ours shows."""
    folder = tmp_path / "late"
    folder.mkdir()
    for options in (["--bind", str(folder)], ["--make-private"], ["-t", "tmpfs", "late"]):
        subprocess.run(["mount", *options, folder], check=True)
    (folder / "word").write_text("seen")
    yield folder
    for _ in range(2):
        subprocess.run(["umount", folder], check=True)


def test_what_was_mounted_meanwhile_is_seen(runtime: Runtime, bundle: BundleMaker, warming: Zygote, late: Path) -> None:
    """As Podman and containerd mount root file systems: after the machine has become warm, on mounts of their own."""
    made = bundle(mounts=[{"destination": "/late", "source": str(late), "options": ["rbind"]}])
    container = runtime.start(made)
    assert is_warm(container)
    assert container.sh("cat /late/word; echo written >/late/answer") == "seen"
    assert (late / "answer").read_text() == "written\n"
    container.delete("--force")


def test_its_clock_is_right(runtime: Runtime, bundle: BundleMaker, warming: Zygote) -> None:
    least, most = clock.bounds(runtime, bundle("sh", "-c", clock.SCRIPT))
    assert least <= CLOCK_S
    assert most >= -CLOCK_S
    assert warming.status()["served"]["warm"] == 1


def test_only_who_suits_gets_one(
    runtime: Runtime, bundle: BundleMaker, warming: Zygote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("KATAPY_CONFIG", str(write_settings(tmp_path / "other.yaml", timeouts={"request_s": 31})))
        container = runtime.start(bundle())
    assert not is_warm(container)
    assert parent(supervisor(container)) == warming.pid
    assert container.warnings == []
    assert len(warming.warm()) == 1
    large = runtime.start(bundle(resources={"memory": {"limit": 700 * 2**20}}))
    assert is_warm(large), "it grows"
    assert int(large.sh("awk '/MemTotal/ { print $2 }' /proc/meminfo")) > 900 * 1024
    assert large.warnings == []


def test_a_dead_one_is_replaced(runtime: Runtime, bundle: BundleMaker, warming: Zygote) -> None:
    (machine,) = warming.warm()
    (pid,) = (p.pid for p in processes.descendants(machine["pid"]) if "qemu-system" in p.command)
    os.kill(pid, signal.SIGKILL)
    wait_for("another one is there", lambda: [m["pid"] for m in warming.warm()] not in ([], [machine["pid"]]), BOOT_S)
    assert is_warm(runtime.start(bundle()))


def test_they_end_with_it(runtime: Runtime, warming: Zygote) -> None:
    (machine,) = warming.warm()
    members = [machine["pid"], *(p.pid for p in processes.descendants(machine["pid"]))]
    assert warming.status()["pool"]["machines"][0]["kib"] > 10_000
    warming.end(signal.SIGKILL)
    wait_for("all of it has ended", lambda: not any(processes.alive(pid) for pid in members))
    assert "zygote" not in runtime("factory", "status").ok().out or "without taking" in runtime("factory", "status").out


def test_it_is_killed_while_it_makes_a_machine(runtime: Runtime, bundle: BundleMaker, warming: Zygote) -> None:
    """What it had begun ends by itself, and `create` goes on without it."""
    warming.end(signal.SIGKILL)
    warming.start()

    def begun() -> list[int]:
        pids = [machine["pid"] for machine in warming.status()["pool"]["machines"]]
        below = [p for pid in pids for p in processes.descendants(pid)]
        return [*pids, *(p.pid for p in below)] if any("qemu-system" in p.command for p in below) else []

    members = wait_for("a machine is on its way", begun)
    warming.end(signal.SIGKILL)
    container = runtime.start(bundle())
    assert len(container.warnings) == 1, container.log
    wait_for("all of it has ended", lambda: not any(processes.alive(pid) for pid in members), BOOT_S)


@pytest.mark.parametrize("seconds", [0.1, 0.2, 0.4])
def test_it_is_killed_while_it_serves(runtime: Runtime, bundle: BundleMaker, warming: Zygote, seconds: float) -> None:
    """At any moment of a `create`, which gets its machine, or another one."""
    container = Container(runtime, runtime.new_id(), bundle())
    call = runtime.popen("create", "--bundle", container.bundle.path, "--pid-file", container.pid_file, container.id,
                         stdout=subprocess.DEVNULL)  # fmt: skip
    with contextlib.suppress(subprocess.TimeoutExpired):
        call.wait(seconds)
    warming.end(signal.SIGKILL)
    assert call.wait(BOOT_S) == 0
    container.start()
    assert container.sh("echo well") == "well"
    assert len(container.warnings) <= 1, container.log
