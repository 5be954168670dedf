"""The fixtures of the tiers host, vm, engines and perf: runtime, bundles, a container, leak check. Runs in pytest."""

import itertools
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from framework import artefacts, leaks, processes
from framework.bundle import Bundle, make_bundle
from framework.leaks import Scope
from framework.runtime import Container, Runtime

CHECKOUT = Path(__file__).resolve().parents[2]
KATAPY = CHECKOUT / ".venv/bin/katapy"
IMAGE = Path("/var/lib/katapy/images/current/image.json")
STATE_ROOTS = Path("/run/katapy-tests")
HOST_RUNTIMES = ("runc", "crun")

BundleMaker = Callable[..., Bundle]

__all__ = [
    "bundle",
    "module_bundle",
    "module_runtime",
    "no_leaks",
    "no_leaks_of_the_module",
    "running",
    "runtime",
    "runtime_path",
    "scope",
    "scratch",
]
"""What a tier's conftest takes by `import *`."""

_runtimes: list[Runtime] = []
_names = (f"r{n}" for n in itertools.count())


@pytest.fixture(scope="session")
def runtime_path(pytestconfig: pytest.Config) -> Path:
    """The runtime under test."""
    path = Path(pytestconfig.getoption("runtime"))
    if not path.exists():
        unavailable(f"{path} is not there: make setup")
    if path.name not in HOST_RUNTIMES and not IMAGE.exists():
        unavailable("no guest image: make image")
    return path


def unavailable(reason: str) -> None:
    """In CI a skip would be a tier that silently tests nothing."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def scope(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scope]:
    """The token of this run, and a short folder on tmpfs for state roots."""
    token = f"kt{secrets.token_hex(3)}"
    root = STATE_ROOTS / token
    root.mkdir(parents=True)
    processes.become_subreaper()
    yield Scope(token, root, tmp_path_factory.getbasetemp())
    shutil.rmtree(root)


def _checked(scope: Scope) -> Iterator[None]:
    before = leaks.take(scope)
    yield
    leaks.check(scope, before)


@pytest.fixture(scope="module", autouse=True)
def no_leaks_of_the_module(scope: Scope) -> Iterator[None]:
    """What the containers that a module's tests share leave behind."""
    yield from _checked(scope)


@pytest.fixture(autouse=True)
def no_leaks(scope: Scope, no_leaks_of_the_module: None) -> Iterator[None]:
    """Fails the test that left anything behind."""
    yield from _checked(scope)


def runtime_below(path: Path, scope: Scope, name: str = "") -> Iterator[Runtime]:
    """For fixtures: a runtime with a state root of its own, which is empty again afterwards."""
    runtime = Runtime(path, scope.root / (name or next(_names)), scope.token)
    _runtimes.append(runtime)
    yield runtime
    runtime.cleanup()
    _runtimes.remove(runtime)


@pytest.fixture(scope="module")
def module_runtime(runtime_path: Path, scope: Scope, no_leaks_of_the_module: None) -> Iterator[Runtime]:
    """For containers that live as long as the module."""
    yield from runtime_below(runtime_path, scope)


@pytest.fixture
def runtime(runtime_path: Path, scope: Scope, no_leaks: None) -> Iterator[Runtime]:
    """For containers of one test: they are deleted after it."""
    yield from runtime_below(runtime_path, scope)


def _maker(scope: Scope, folder: Path) -> BundleMaker:
    numbers = itertools.count()

    def make(*args: str, **changes: Any) -> Bundle:
        path = folder / f"bundle{next(numbers)}"
        changes.setdefault("cgroup", f"/{scope.token}-{secrets.token_hex(3)}")
        return make_bundle(path, *([args] if args else []), **changes)

    return make


@pytest.fixture
def bundle(scope: Scope, tmp_path: Path) -> BundleMaker:
    """Makes bundles: `bundle("echo", "hi", resources=...)`; see framework.bundle.make_bundle."""
    return _maker(scope, tmp_path)


@pytest.fixture(scope="module")
def module_bundle(scope: Scope, tmp_path_factory: pytest.TempPathFactory) -> BundleMaker:
    """As `bundle`, for the containers that a module's tests share."""
    return _maker(scope, tmp_path_factory.mktemp("module"))


@pytest.fixture(scope="module")
def running(module_runtime: Runtime, module_bundle: BundleMaker) -> Container:
    """A container that sleeps: tests look into it by `exec`, and leave it as it was. One boot a module."""
    return module_runtime.start(module_bundle())


@pytest.fixture
def scratch(scope: Scope) -> Iterator[Path]:
    """A folder with a short path, for sockets."""
    folder = scope.root / "scratch"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def collect_artefacts(item: pytest.Item, report: pytest.TestReport) -> None:
    """Called when a test has failed, before its containers are deleted."""
    text = artefacts.collect(CHECKOUT / "tests/artefacts" / artefacts.folder_name(item.nodeid), _runtimes)
    if text:
        report.sections.append(("logs of the containers", text))


def is_root() -> bool:
    return os.geteuid() == 0
