"""The shared directory as a guest sees it, by virtio-fs and 9p: what programs expect of a file system, and coherence.

A small guest of its own (share_guest/): the image's kernel and Python, without agent and containers.
"""

import asyncio
import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from framework.fixtures import IMAGE
from vm.test_machine import spec

import cpio
from katapy.hypervisor.drivers import load_driver
from katapy.hypervisor.vm import ShareSpec, ShareType
from katapy.protocol import names
from katapy.sandbox.plan import SHARE_OPTIONS
from katapy.storage.probe import find_virtiofsd
from katapy.storage.shared_directory import Bind, ReadOnly, SharedDirectory, enter_private_mounts
from katapy.storage.virtiofsd import start_virtiofsd

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not IMAGE.exists(), reason="needs root and a guest image")
GUEST = Path(__file__).parent / "share_guest"
GUEST_S = 180

LACKS = {
    ShareType.VIRTIOFS: set[str](),
    ShareType.NINEP: {
        "device_nodes",
        "file_capabilities",
        "times_in_nanoseconds",
        "mounts_have_device_numbers_of_their_own",
    },
}
"""What 9p can't do (docs/decisions/0001-shared-root.md)."""


@pytest.mark.parametrize("kind", ShareType)
def test_share(kind: ShareType, tmp_path: Path) -> None:
    if kind is ShareType.VIRTIOFS and find_virtiofsd("auto") is None:
        pytest.skip("no virtiofsd")
    data = tmp_path / "data"
    data.mkdir()
    output = run_guest(kind, tmp_path, data)
    results = dict(line.split(" ", 2)[1:] for line in output if line.startswith("RESULT "))
    assert "END" in output, "\n".join(output)
    bad = {name: text for name, text in results.items() if text != "ok" and name != "coherence"}
    assert set(bad) == LACKS[kind], bad
    assert float(results["coherence"]) < 1, "seconds until the guest sees what the host wrote"
    mode = (data / "owned").stat()
    assert (mode.st_uid, mode.st_gid, mode.st_mode & 0o7777) == (1234, 5678, 0o4755)
    assert (data / "mapped").read_bytes()[4096:4101] == b"hello"


def run_guest(kind: ShareType, tmp_path: Path, data: Path) -> list[str]:
    """Boots it in a forked child with private mounts; the lines of its console."""
    state = tmp_path / "state"
    state.mkdir()
    initrd = state / "initrd"
    initrd.write_bytes((IMAGE.parent / "initrd").read_bytes() + own_init())
    initrd.chmod(0o644)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            supervise(kind, state, initrd, data, lambda line: os.write(write, line.encode() + b"\n"))
        except BaseException as e:  # a forked pytest must not go on
            os.write(write, f"{type(e).__name__}: {e}\n".encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, errors="replace") as f:
        output = f.read().splitlines()
    os.waitpid(pid, 0)
    return output


def own_init() -> bytes:
    """A second cpio archive; its /init replaces the image's."""
    return cpio.archive([cpio.file("init", (GUEST / "init").read_bytes(), 0o755)])


def supervise(kind: ShareType, state: Path, initrd: Path, data: Path, say: Callable[[str], object]) -> None:
    enter_private_mounts()
    shared = SharedDirectory(str(state / "shared"))
    daemon = None
    if kind is ShareType.VIRTIOFS:
        found = find_virtiofsd("auto")
        assert found is not None
        daemon = start_virtiofsd(found, shared.directory, str(state))
    options = ",".join(SHARE_OPTIONS[kind])
    machine = dataclasses.replace(
        spec(),
        initrd=str(initrd),
        share=ShareSpec(kind, names.SHARE_TAG, shared.directory),
        kernel_parameters=(*spec().kernel_parameters, f"katapy.test={kind}:{options}"),
    )
    vm = load_driver("qemu").spawn(machine, str(state), daemon.connection.fileno() if daemon else None)
    shared.add_mount("test", 0, Bind(str(GUEST), ReadOnly.ALL, False))
    shared.add_mount("test", 1, Bind(str(data), ReadOnly.NO, False))

    def host(command: str) -> None:
        match command:
            case "check":
                assert (data / "from-guest").read_bytes() == b"guest"
                (data / "from-host").write_bytes(b"host1")
            case "append":
                with (data / "from-host").open("ab") as f:
                    f.write(b"+more")
            case "remove":
                (data / "from-host").unlink()
            case "mount":
                shared.add_mount("later", 0, Bind(str(data), ReadOnly.ALL, False))

    async def watch() -> None:
        """What the machine says is in its console.log."""
        log, read, until = state / "console.log", 0, time.monotonic() + GUEST_S
        await vm.connect(60)
        ended = asyncio.create_task(vm.wait())
        while time.monotonic() < until:
            done = ended.done()
            text = log.read_text(errors="replace") if log.exists() else ""
            lines = [line for line in text.splitlines(keepends=True)[read:] if line.endswith("\n")]
            for line in (line.strip() for line in lines):
                say(line)
                if line.startswith("HOST "):
                    host(line.removeprefix("HOST "))
            read += len(lines)
            if done:
                return
            await asyncio.wait((ended,), timeout=0.01)

    try:
        asyncio.run(watch())
    finally:
        vm.kill()
        shared.close()
        if daemon is not None:
            daemon.close()
