"""A container's mount namespace is held while a request of the share is on its way. Real: vm/test_pod_deaths.py."""

import asyncio
import os
from pathlib import Path

from katapy.agent.shares import MountNamespaces

DEADLINE_S = 10.0


def held() -> int:
    own = os.readlink("/proc/self/ns/mnt")
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return sum(os.path.islink(link) and os.readlink(link) == own for link in links)


def connection(folder: Path, waiting: str) -> None:
    (folder / "42").mkdir(exist_ok=True)
    (folder / "42/waiting").write_text(waiting)


def test_it_is_let_go_at_once_when_nothing_is_on_its_way(tmp_path: Path) -> None:
    connection(tmp_path, "0\n")

    async def scenario() -> None:
        namespaces = MountNamespaces(str(tmp_path))
        before = held()
        namespaces.hold("c1", os.getpid())
        assert held() == before + 1
        await namespaces.let_go("c1", DEADLINE_S)
        assert held() == before
        await namespaces.let_go("c1", DEADLINE_S)

    asyncio.run(scenario())


def test_it_stays_as_long_as_the_server_owes_an_answer(tmp_path: Path) -> None:
    connection(tmp_path, "3\n")

    async def scenario() -> None:
        forgotten = asyncio.Event()
        namespaces = MountNamespaces(str(tmp_path), forgotten.set)
        before = held()
        namespaces.hold("c1", os.getpid())
        await namespaces.let_go("c1", 0.05)
        assert held() == before + 1
        connection(tmp_path, "0\n")
        await asyncio.wait_for(forgotten.wait(), DEADLINE_S)
        assert held() == before

    asyncio.run(scenario())


def test_without_fuse_nobody_is_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        namespaces = MountNamespaces(str(tmp_path / "nosuch"))
        before = held()
        namespaces.hold("c1", os.getpid())
        await namespaces.let_go("c1", DEADLINE_S)
        assert held() == before

    asyncio.run(scenario())
