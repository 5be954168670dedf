"""The test host once it has booted, saved: memory, devices, root file system. Starts are clones of it. Build host.

<output>/templates/<inputs>/{memory,devices,root.ext4}

The memory is a file that the template's machine shares and clones map privately; QEMU is told not to copy it
(x-ignore-shared), so saving and resuming take a fraction of a second.
"""

import asyncio
import contextlib
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qemu.qmp import QMPClient, QMPError

import cache
import recipe
from steps import run, step
from testhost import description, source
from testhost.description import CHECKOUT, Description
from testhost.machine import QEMU, Disks, Process, argv
from testhost.session import Session, TestHostError

_CAPABILITIES = [{"capability": "x-ignore-shared", "state": True}]
_MIGRATION_S = 600.0
_WARM_S = 2400.0
"""A template of katapy's took 9 minutes where five others worked on the same two cores."""
_MOUNT = "mkdir -p /var/lib/katapy/images && mount -o ro,noload /dev/disk/by-id/virtio-guest /var/lib/katapy/images"
_WARM = (
    "cat /usr/bin/qemu-system-x86_64 /var/lib/katapy/images/current/* >/dev/null",
    "find /usr/libexec /usr/lib/qemu -name virtiofsd -exec cat {} + >/dev/null",
    "qemu-system-x86_64 --version >/dev/null",
    "/opt/katapy/.venv/bin/python3 -c 'import asyncio, grpc, msgspec, pytest, qemu.qmp, yaml'",
)
"""What every clone would have to read and to translate first."""
_FACTORY = ("/opt/katapy/.venv/bin/katapy factory init",)
"""Whoever wants machines of katapy's in there wants this too: it takes a minute or two, and saves each of them one."""

Execute = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Template:
    disks: Disks
    devices: Path


def template(output: Path, what: Description, image: Path, guest: Path, warm: bool) -> Template:
    """The template of an image and a guest image; made unless it is there. `warm`: with a template of katapy's in it.

    Raises TestHostError, BuildError.
    """
    images = [image.parent / description.inputs(suite) for suite in what.suites.values()]
    names = {(i, w): _inputs(what, i, guest, w) for i in images for w in (False, True)}
    folder = output / "templates" / names[image, warm]
    if not folder.exists():
        with cache.locked(output), step("test host: template, once"):
            cache.clear_leftovers(output / "templates")
            for other in folder.parent.glob("*"):
                if other.name not in names.values():
                    shutil.rmtree(other)
            cache.once(folder, lambda place: _make(what, image, guest, warm, place))
    return _template(image, guest, folder)


def _inputs(what: Description, image: Path, guest: Path, warm: bool) -> str:
    """Names a template: what it is made from, and what decides whether katapy's own template in it is still of use."""
    command = argv(what, Disks(*(Path(name) for name in "irgm")), True, {"qmp": 3, "port": 4, "console": 5})
    package = CHECKOUT / "katapy"
    machines = sorted((*package.glob("hypervisor/**/*.py"), *package.glob("factory/*.py"))) if warm else []
    return recipe.content_hash(
        {
            "host": f"{image.name} {guest.parent.name}".encode(),
            "qemu": run([QEMU, "--version"]),
            "command": "\n".join((*command, _MOUNT, *_commands(warm))).encode(),
            "settings": source.SETTINGS.read_bytes(),
            **{str(path.relative_to(CHECKOUT)): path.read_bytes() for path in machines},
        }
    )


def _commands(warm: bool) -> tuple[str, ...]:
    return (*_WARM, *(_FACTORY if warm else ()), "sync")


def _template(image: Path, guest: Path, folder: Path) -> Template:
    return Template(Disks(image, folder / "root.ext4", guest, folder / "memory"), folder / "devices")


def _make(what: Description, image: Path, guest: Path, warm: bool, folder: Path) -> None:
    made = _template(image, guest, folder)
    run(["cp", "--sparse=always", "--reflink=auto", str(image / "root.ext4"), str(made.disks.root)])
    process = Process(what, made.disks, clone=False)
    with Session(process) as session:
        session.wait_ready()
        session.demand(["sh", "-e", "-c", _MOUNT])
        source.bring(session)
        with step("warming it up"):
            session.demand(["sh", "-e", "-c", "\n".join(_commands(warm))], deadline_s=_WARM_S)
        _qmp(process, lambda execute: _save(execute, made.devices))


async def _save(execute: Execute, devices: Path) -> None:
    await execute("stop")
    await execute("migrate-set-capabilities", {"capabilities": _CAPABILITIES})
    await execute("migrate", {"uri": f"file:{devices}"})
    await _migrated(execute)


def resume(process: Process, saved: Template) -> None:
    """Lets a clone run. Raises TestHostError."""

    async def load(execute: Execute) -> None:
        await execute("migrate-set-capabilities", {"capabilities": _CAPABILITIES})
        await execute("migrate-incoming", {"uri": f"file:{saved.devices}"})
        await _migrated(execute)
        await execute("cont")

    _qmp(process, load)


async def _migrated(execute: Execute) -> None:
    while (status := (await execute("query-migrate")).get("status")) != "completed":
        if status in ("failed", "cancelled"):
            raise TestHostError(f"qemu could not save or load the test host: migration {status}")
        await asyncio.sleep(0.01)


def _qmp(process: Process, work: Callable[[Execute], Awaitable[None]]) -> None:
    """`work` on the machine's control channel, once in its life. Raises TestHostError."""

    async def session() -> None:
        client = QMPClient("testhost")
        await client.connect(process.qmp)
        try:
            await asyncio.wait_for(work(client.execute), _MIGRATION_S)
        finally:
            with contextlib.suppress(QMPError, OSError, EOFError):
                await client.disconnect()

    try:
        asyncio.run(session())
    except (QMPError, OSError, TimeoutError) as e:
        raise TestHostError(f"qemu's control channel: {e}: {process.tail()}") from e
