"""Clones of a template: no two are alike, a broken template costs one warning, whoever is killed leaves nothing.

Each test that harms a template has a folder of templates of its own: a copy of the one that all others use.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from framework import clock
from framework.bundle import Bundle, at_the_guests
from framework.fixtures import CHECKOUT
from framework.runtime import BOOT_S, Container, Runtime, owner_of
from framework.wait import wait_for

BundleMaker = Callable[..., Bundle]
TEMPLATES = Path("/var/lib/katapy/templates")
DAY_S = 86400
SILENT_S = 40
IDENTITY = (
    "cat /proc/sys/kernel/random/boot_id /proc/sys/kernel/random/uuid /proc/1/root/etc/machine-id; hostname;"
    " head -c 16 /dev/urandom | od -An -tx1; date +%s"
)
"""Of a container that is `at_the_guests`."""
CLOCK_S = 0.1


@pytest.fixture(autouse=True)
def no_template_is_left_half_made() -> Iterator[None]:
    yield
    assert not list(TEMPLATES.glob(".new-*"))


def is_a_clone(container: Container) -> bool:
    """By the command line of its QEMU."""
    return "-incoming" in Path(f"/proc/{owner_of(container, 'qemu-system')}/cmdline").read_text().split("\0")


def identity(container: Container) -> list[str]:
    return container.sh(IDENTITY).split("\n")


def test_two_clones_differ(runtime: Runtime, bundle: BundleMaker) -> None:
    first, second = (runtime.start(bundle(hostname=f"host{n}", edit=at_the_guests)) for n in range(2))
    assert is_a_clone(first)
    assert is_a_clone(second)
    (boot_id, uuid, machine_id, hostname, entropy, _), other = identity(first), identity(second)
    assert (hostname, other[3]) == ("host0", "host1")
    assert len(machine_id) == 32
    assert not {boot_id, uuid, machine_id, entropy} & set(other)
    assert first.sh("cat /proc/sys/kernel/random/boot_id") == boot_id, "it stays what it is"
    assert first.sh("grep -c . /proc/modules") == second.sh("grep -c . /proc/modules")


def test_its_clock_is_right(runtime: Runtime, bundle: BundleMaker) -> None:
    least, most = clock.bounds(runtime, bundle("sh", "-c", clock.SCRIPT))
    assert least <= CLOCK_S
    assert most >= -CLOCK_S


def test_a_clone_a_day_later(runtime: Runtime, bundle: BundleMaker, tmp_path: Path) -> None:
    """Its host's clock is a day on: `create`, and the supervisor that it forks, are made to believe so."""
    tomorrow = tmp_path / "tomorrow"
    tomorrow.write_text(
        f"#!{sys.executable}\nimport sys, time\nnow = time.time_ns\ntime.time_ns = lambda: now() + {DAY_S} * 10**9\n"
        f"sys.path.insert(0, {str(CHECKOUT)!r})\nfrom katapy.cli.main import main\nsys.exit(main())\n"
    )
    tomorrow.chmod(0o755)
    later = Runtime(tomorrow, runtime.root, runtime.token)
    container = later.start(bundle(edit=at_the_guests), id=runtime.new_id("later"))
    assert is_a_clone(container)
    before = time.time() + DAY_S
    *_, now = identity(container)
    assert before - 2 <= int(now) <= time.time() + DAY_S + 1


def test_it_can_be_turned_off_for_one_call(
    runtime: Runtime, bundle: BundleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KATAPY_FACTORY", "off")
    container = runtime.start(bundle())
    assert not is_a_clone(container)
    assert container.warnings == []


def truncate_state(template: Path) -> None:
    os.truncate(template / "state", 10_000)


def lose_memory(template: Path) -> None:
    (template / "memory").unlink()


def other_memory(template: Path) -> None:
    os.truncate(template / "memory", 4096)


def blank_memory(template: Path) -> None:
    """It is restored, and never says a word."""
    size = (template / "memory").stat().st_size
    os.truncate(template / "memory", 0)
    os.truncate(template / "memory", size)


@pytest.mark.parametrize("harm", [truncate_state, lose_memory, other_memory, blank_memory])
def test_a_broken_template_costs_one_warning(
    runtime: Runtime, bundle: BundleMaker, template: Path, harm: Callable[[Path], None]
) -> None:
    harm(template)
    container = runtime.start(bundle())
    assert container.sh("echo well") == "well"
    assert not is_a_clone(container)
    assert len(container.warnings) == 1, container.log
    assert "a cold boot, because the clone of a template failed" in container.log
    assert not template.exists(), "the next create makes a new one"


def test_a_template_that_can_t_be_made_costs_one_warning(
    runtime: Runtime, bundle: BundleMaker, templates: Path
) -> None:
    templates.write_text("no folder")
    container = runtime.start(bundle())
    assert not is_a_clone(container)
    assert len(container.warnings) == 1, container.log
    assert "no template, so a cold boot" in container.log


def test_two_at_once_make_one_template(runtime: Runtime, bundle: BundleMaker, templates: Path) -> None:
    ids = [runtime.new_id("twin") for _ in range(2)]
    calls = [runtime.popen("create", "--bundle", bundle().path, id) for id in ids]
    assert [call.wait(2 * BOOT_S) for call in calls] == [0, 0]
    assert len([name for name in os.listdir(templates) if "." not in name]) == 1
    status = json.loads(runtime("factory", "status", "--format", "json").ok().out)
    assert [(t["memory_mib"], t["vcpus"], t["stale"]) for t in status["templates"]] == [(512, 1, False)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_whoever_makes_a_template_is_killed_half_way(
    runtime: Runtime, bundle: BundleMaker, templates: Path, number: signal.Signals
) -> None:
    call = runtime.popen("factory", "init", stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_for("the template's machine", lambda: list(templates.glob(".new-*/machine/agent.sock")), 60)
    call.send_signal(number)
    assert call.wait(BOOT_S) != 0
    assert [name for name in os.listdir(templates) if "." not in name] == []
    container = runtime.start(bundle())
    assert is_a_clone(container)
    assert list(templates.glob(".new-*")) == []


def test_factory_makes_shows_and_removes(runtime: Runtime, templates: Path) -> None:
    made = runtime("factory", "init", timeout=BOOT_S).ok()
    key = Path(made.out.strip()).name
    assert "making a template of 512 MiB" in made.err
    assert runtime("factory", "init").ok().err == "", "it is there"
    shown = runtime("factory", "status").ok().out.splitlines()
    assert shown[0].split()[:2] == ["TEMPLATE", "MEMORY"]
    assert (shown[1].split()[0], shown[1].split()[-1]) == (key, "ready")
    assert (os.stat(templates).st_mode & 0o777, os.stat(templates / key).st_mode & 0o777) == (0o700, 0o700)
    assert runtime("factory", "destroy").ok().out == f"{key}\n"
    assert runtime("factory", "status").ok().out.splitlines()[1:] == []
    shutil.rmtree(templates)


def test_factory_says_what_is_wrong(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "choose init, status, destroy or serve" in runtime("factory", "rebuild").err
    assert "128 MiB at least" in runtime("factory", "init", "--memory-mib", "64").err
    monkeypatch.setenv("KATAPY_FACTORY", "off")
    assert "KATAPY_FACTORY is off" in runtime("factory", "init").err
