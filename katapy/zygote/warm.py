"""A warm machine: a clone that runs and has answered, with its supervisor, and belongs to nobody yet. Its supervisor's
life until a pod takes it, forked by the zygote.

The pod gets what it would have got from a clone made for it: this machine's secret, random numbers, boot id, machine id
and context id are its own since it was cloned, and it has run nothing but its agent. Clock and host name come with the
sandbox. What is in the supervisor's mount namespace only (a tmpfs over PLACE: share, sockets) ends with it.
"""

import asyncio
import contextlib
import json
import os
import socket
from dataclasses import dataclass
from typing import Any

from katapy.agent_client.channel import open_channel
from katapy.agent_client.client import AgentClient
from katapy.config import Config
from katapy.errors import HostError, KatapyError, errno_text
from katapy.factory.maker import Obtained
from katapy.linux import mount, proc
from katapy.linux.seccomp import forbid_programs
from katapy.linux.socket_path import short_name
from katapy.sandbox.machine import Machine, Starter
from katapy.sandbox.plan import MachinePlan
from katapy.storage.shared_directory import enter_private_mounts
from katapy.supervisor.launch import Task, move_in
from katapy.supervisor.loop import Loop, Opened, open_relay
from katapy.zygote import caller, wire
from katapy.zygote.order import Caller, live_as

PLACE = "/run/katapy.warm"
"""A folder that is empty for all others. Never removed: whoever removes a folder unmounts what others have on it."""
READY = b"ready\n"
_CONSOLE = "console.log"
_ANSWER_S = 1.0
"""For the agent's word that it lives; it takes 15 ms."""
_TMPFS = "mode=0700,size=16m"
_MAX_MESSAGE = 4096


@dataclass(frozen=True, slots=True)
class Wish:
    """A machine to be kept warm. `digest`: which pods it is for (wire.machine_digest)."""

    plan: MachinePlan
    config: Config
    template: Obtained
    digest: str


def keep(wish: Wish, zygote: socket.socket) -> None:
    """Says READY to the zygote, waits for its message: a connection, with what its caller is like. Ends with it."""
    with contextlib.ExitStack() as stack:
        try:
            os.makedirs(PLACE, 0o700, exist_ok=True)
            enter_private_mounts()
            mount.mount("katapy", PLACE, "tmpfs", mount.MS_NOSUID | mount.MS_NODEV | mount.MS_NOEXEC, _TMPFS)
        except OSError as e:
            raise HostError(f"can't make {PLACE}: {errno_text(e)}") from e
        machine = Starter(wish.plan, wish.config, PLACE, stack, wish.template.path).start_warm()
        forbid_programs()
        asyncio.run(_Keeper(wish, machine, zygote, stack.pop_all()).run())


class _Keeper:
    """One machine from its first word to its pod's end, or the zygote's."""

    def __init__(self, wish: Wish, machine: Machine, zygote: socket.socket, stack: contextlib.ExitStack) -> None:
        self._wish = wish
        self._machine = machine
        self._zygote = zygote
        self._stack = stack

    async def run(self) -> None:
        opened = await self._open()
        processes = proc.family(os.getpid())
        self._zygote.setblocking(False)
        self._zygote.send(READY)
        message, fds = await self._order()
        if not fds:
            await _leave(opened)
            self._stack.close()
            return
        who = Caller(socket.socket(fileno=fds[0]), message["size"])
        try:
            task = await self._move_in(who, opened, message, processes)
            listener, lifeline = who.accept(warm=True)
        except (OSError, ValueError, KatapyError) as e:
            who.refuse(e)
            raise
        await Loop(task, self._machine, None, self._stack, lifeline, opened).run(listener)

    async def _open(self) -> Opened:
        """The way to the agent, which has answered."""
        limit = self._wish.config.timeouts.boot_s
        vm = self._machine.vm
        relay = open_relay(self._machine, limit)
        await vm.connect(limit)
        await vm.agent_ready(limit)
        with short_name(vm.agent_socket) as path:
            channel = open_channel(path)
            await AgentClient(channel, self._machine.secret, limit).hello(limit)
        return Opened(channel, relay)

    async def _order(self) -> tuple[dict[str, Any], list[int]]:
        """The zygote's message and the connection in it; none if it wants us to end, has ended, or the machine has."""
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._zygote.fileno(), readable.set)
        ended = [asyncio.create_task(self._machine.vm.wait()), asyncio.create_task(readable.wait())]
        if self._machine.virtiofsd is not None:
            ended.append(asyncio.create_task(self._machine.virtiofsd.wait()))
        await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.cancel()
        await asyncio.wait(ended)
        loop.remove_reader(self._zygote.fileno())
        if not readable.is_set():
            raise HostError("a machine that was kept warm has ended")
        data, fds, _, _ = socket.recv_fds(self._zygote, _MAX_MESSAGE, 1)
        self._zygote.close()
        return (json.loads(data), fds) if fds else ({}, [])

    async def _move_in(self, who: Caller, opened: Opened, message: dict[str, Any], processes: list[int]) -> Task:
        order = who.order()
        template = os.path.basename(order.task.template.path)
        if wire.machine_digest(order.task.plan, order.task.config, template) != self._wish.digest:
            raise HostError("this machine is not the one that was asked for")
        await AgentClient(opened.channel, self._machine.secret, _ANSWER_S).hello(_ANSWER_S)
        caller.set_oom_score(processes, message["oom_score_adj"])
        caller.take_limits({int(k): tuple(v) for k, v in message["limits"].items()})
        task = live_as(order)
        move_in(task, processes)
        self._machine.vm.keep_console(f"{task.directory}/{_CONSOLE}")
        return task


async def _leave(opened: Opened) -> None:
    await opened.channel.close(None)
    if opened.relay is not None:
        await opened.relay.close()
