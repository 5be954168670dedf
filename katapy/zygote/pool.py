"""The warm machines of a zygote: how many there are, which is for whom, when another is made. Zygote only.

One size: that of a machine whose pod asks for nothing (hypervisor.vcpus, memory_mib). Its memory is bounded by their
number, and none is made while the host has less to spare than two machines may take.
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from katapy import config
from katapy.errors import KatapyError, errno_text
from katapy.factory.maker import Obtained, obtain
from katapy.factory.store import Store
from katapy.hypervisor.drivers import load_driver
from katapy.linux import proc
from katapy.sandbox import template
from katapy.sandbox.facts import host_facts
from katapy.sandbox.plan import MachinePlan
from katapy.zygote import newborn, wire
from katapy.zygote.caller import Standing
from katapy.zygote.warm import READY, Wish, keep

RETRY_S = 60.0
"""After one that could not be made."""
REFILL_S = 2.0
"""After one was taken: its pod has the processor first."""
LOOK_S = 10.0
"""How often configuration, image and QEMU are looked at again."""
_SPARE_MACHINES = 2
_END_S = 5.0


@dataclass(slots=True)
class Machine:
    """`link`: to its supervisor, whose `pid` and `pidfd` are. `since`: seconds since 1970."""

    pid: int
    pidfd: int
    link: socket.socket
    digest: str
    since: float
    ready: bool = False

    def close(self) -> None:
        """Its supervisor ends by that, and the machine with it, unless both have been given away."""
        self.link.close()
        if not self.ready:  # it would only hear of it when it is
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        os.close(self.pidfd)


class Pool:
    """`watch(socket, what)` has `what` called when the socket can be read; `forget(socket)` ends that."""

    def __init__(
        self,
        load: Callable[[], config.Config],
        watch: Callable[[Any, Callable[[], None]], None],
        forget: Callable[[Any], None],
    ) -> None:
        self._load = load
        self._watch = watch
        self._forget = forget
        self.machines: list[Machine] = []
        self.wanted = 0
        self.trouble = ""
        self._wish: Wish | None = None
        self._looked = self._retry = float("-inf")

    def tend(self) -> float:
        """Makes what is missing, one at a time, and ends what nobody would take. Seconds until the next look."""
        if time.monotonic() - self._looked >= LOOK_S:
            self._look()
        for machine in [m for m in self.machines if self._wish is None or m.digest != self._wish.digest]:
            self._drop(machine)
        for machine in self.machines[self.wanted :]:
            self._drop(machine)
        if self._wish is not None and self._may_make():
            self._try_to_make(self._wish)
        until = self._retry - time.monotonic()
        return until if 0 < until < LOOK_S else LOOK_S

    def take(self, digest: str) -> Machine | None:
        """A machine for pods of that kind; it is the caller's."""
        found = next((m for m in self.machines if m.ready and m.digest == digest), None)
        if found is not None:
            self.machines.remove(found)
            self._forget(found.link)
            self._retry = max(self._retry, time.monotonic() + REFILL_S)
        return found

    def close(self) -> None:
        """Returns when all have ended, or after a while."""
        ended = [os.dup(machine.pidfd) for machine in self.machines]
        for machine in list(self.machines):
            self._drop(machine)
        until = time.monotonic() + _END_S
        for pidfd in ended:
            select.select([pidfd], [], [], max(0.0, until - time.monotonic()))
            os.close(pidfd)

    def status(self) -> dict[str, Any]:
        machines = [{"pid": m.pid, "since": m.since, "ready": m.ready} for m in self.machines]
        size = self._wish.plan.memory_mib if self._wish else 0
        return {"wanted": self.wanted, "memory_mib": size, "machines": machines, "trouble": self.trouble}

    def hand_over(self, machine: Machine, connection: socket.socket, size: int, standing: Standing) -> bool:
        """Gives a machine that was taken to whoever is behind `connection`. Whether it was there to be given."""
        limits = {str(limit): value for limit, value in standing.limits.items()}
        message = json.dumps({"size": size, "oom_score_adj": standing.oom_score_adj, "limits": limits}).encode()
        try:
            socket.send_fds(machine.link, [message], [connection.fileno()])
        except OSError:
            return False
        finally:
            machine.close()
        return True

    # -- inside -------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """What a machine would be made of now. A configuration that is wrong changes nothing."""
        self._looked = time.monotonic()
        try:
            conf = self._load()
            facts = host_facts(conf)
            self.wanted = conf.factory.pool
            reason = template.reason_against(conf, facts)
            if reason or not self.wanted:
                self._wish = None
                self._complain(f"no warm machines: {reason}" if reason and self.wanted else "")
                return
            plan = MachinePlan("warm", conf.hypervisor.vcpus, conf.hypervisor.memory_mib, facts)
            key = template.blueprint(facts, plan.vcpus, plan.memory_mib, conf).key
            digest = wire.machine_digest(plan, conf, key)
            if self._wish is None or self._wish.digest != digest:
                self._wish = Wish(plan, conf, Obtained(f"{conf.factory.dir}/{key}"), digest)
                self._retry = float("-inf")
        except (KatapyError, OSError) as e:
            self._complain(str(e))

    def _may_make(self) -> bool:
        assert self._wish is not None
        if len(self.machines) >= self.wanted or any(not m.ready for m in self.machines):
            return False
        if time.monotonic() < self._retry:
            return False
        needed = _SPARE_MACHINES * self._wish.plan.memory_mib
        if proc.memory_kib("MemAvailable") // 1024 < needed:
            self._complain(f"no more warm machines: the host has less than {needed} MiB of memory to spare")
            return False
        return True

    def _try_to_make(self, wish: Wish) -> None:
        """A host that is short of processes, memory or descriptors is so for a while."""
        try:
            self._make(wish)
        except OSError as e:
            self._retry = time.monotonic() + RETRY_S
            self._complain(f"a warm machine could not be made: {errno_text(e)}; the next try is in {RETRY_S:g} s")

    def _make(self, wish: Wish) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, contextlib.ExitStack() as undo:
            undo.callback(ours.close)  # a child that was forked ends by that
            pid = newborn.fork(lambda: _keep(wish, theirs), {theirs.fileno()})
            machine = Machine(pid, os.pidfd_open(pid), ours, wish.digest, time.time())
            undo.pop_all()
        self.machines.append(machine)
        self._watch(ours, lambda: self._heard(machine))

    def _heard(self, machine: Machine) -> None:
        """It is ready, or has ended."""
        said = b""
        try:
            said = machine.link.recv(len(READY))
        except OSError as e:
            said = b""
            self._complain(f"a warm machine: {e}")
        if said == READY and not machine.ready:
            machine.ready = True
            self._complain("")
            return
        if not machine.ready:
            self._retry = time.monotonic() + RETRY_S
            self._complain(f"a warm machine could not be made; the next try is in {RETRY_S:g} s")
        self._drop(machine)

    def _drop(self, machine: Machine) -> None:
        self.machines.remove(machine)
        self._forget(machine.link)
        machine.close()

    def _complain(self, trouble: str) -> None:
        """Once for the same."""
        if trouble and trouble != self.trouble:
            print(f"katapy: {trouble}", file=sys.stderr, flush=True)
        self.trouble = trouble


def _keep(wish: Wish, link: socket.socket) -> None:
    """In the forked process. The template is made here if it is not there: that takes as long as a boot."""
    conf = wish.config
    wanted = template.blueprint(wish.plan.facts, wish.plan.vcpus, wish.plan.memory_mib, conf)
    driver = load_driver(conf.hypervisor.driver)
    found = obtain(Store(conf.factory.dir), wanted, driver, conf.factory.keep, conf.timeouts.boot_s, lambda _: None)
    if not found.path:
        raise KatapyError(found.warning)
    keep(wish, link)
