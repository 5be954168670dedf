"""The zygote's loop: listens, looks at who asks, forks supervisors or hands out warm machines, reaps. `factory serve`.

One thread, no asyncio, nothing that waits: whoever sends half a request is forgotten after a while. What it forks
closes every descriptor but its own (supervisor.launch.detach). Pods outlive it.
"""

import contextlib
import errno
import gc
import importlib
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from katapy import config
from katapy.control import endpoint
from katapy.errors import KatapyError
from katapy.zygote import caller, code, listener, newborn, wire
from katapy.zygote.pool import Pool

_REQUEST_S = 2.0
"""For the header to arrive."""
_MAX_CALLERS = 64
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""What accept says where the host has no room for a connection. After a rest of `_REQUEST_S` it may have."""
_PRELOAD = (
    "katapy.supervisor.main", "katapy.supervisor.loop", "katapy.zygote.warm", "katapy.hypervisor.qemu.driver",
    "katapy.hypervisor.qemu.qmp", "katapy.hypervisor.qemu.nics",
)  # fmt: skip
"""All that a supervisor imports, by itself or through these."""


def serve(load: Callable[[], config.Config]) -> None:
    """Until SIGTERM or SIGINT. `load` reads the configuration. Raises KatapyError if it can't begin."""
    for name in _PRELOAD:
        importlib.import_module(name)
    folder = load().factory.dir
    with contextlib.ExitStack() as stack:
        listening = listener.listen(folder, stack)
        gc.collect()
        gc.freeze()  # what is shared stays shared: a collection would write to every object's header
        Zygote(listening, load).run()


@dataclass(slots=True)
class _Caller:
    """A connection whose header is on its way. `until`: time.monotonic()."""

    connection: socket.socket
    until: float
    length: int = 0
    text: bytearray = field(default_factory=bytearray)


class Zygote:
    """Owns `listening` while it runs."""

    def __init__(self, listening: socket.socket, load: Callable[[], config.Config]) -> None:
        self._listener = listening
        self._selector = selectors.DefaultSelector()
        self._callers: list[_Caller] = []
        self._ending = False
        self._rests_until = 0.0
        self._files = code.files()
        self._code = code.identity(self._files)
        self._served = {"forked": 0, "warm": 0, "refused": 0}
        self._watched: set[object] = set()
        self._pool = Pool(load, self._watch, self._forget)

    def run(self) -> None:
        wakeup, signalled = socket.socketpair()
        for end in (wakeup, signalled):
            end.setblocking(False)
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(signum, lambda *_: None)
        signal.set_wakeup_fd(signalled.fileno(), warn_on_full_buffer=False)
        self._watch(wakeup, lambda: self._signalled(wakeup))
        self._watch(self._listener, self._accept)
        while not self._ending:
            seconds = self._pool.tend()
            waits = self._callers or self._rests_until
            for key, _ in self._selector.select(min(seconds, _REQUEST_S) if waits else seconds):
                if key.fileobj in self._watched:  # an earlier one of this round may have closed it
                    key.data()
            self._forget_the_slow()
            self._listen_again()
        self._pool.close()

    def _watch(self, what: socket.socket, then: Callable[[], None]) -> None:
        self._selector.register(what, selectors.EVENT_READ, then)
        self._watched.add(what)

    def _forget(self, what: socket.socket) -> None:
        self._selector.unregister(what)
        self._watched.discard(what)

    def _signalled(self, wakeup: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while numbers := wakeup.recv(64):
                self._ending |= bool({signal.SIGTERM, signal.SIGINT}.intersection(numbers))
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    # -- callers ------------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as e:
            if e.errno in _SHORT:  # the caller stays in the queue, and would be told of again at once
                self._rests_until = time.monotonic() + _REQUEST_S
                self._forget(self._listener)
            return
        connection.setblocking(False)
        if endpoint.peer(connection)[1] != os.geteuid() or len(self._callers) >= _MAX_CALLERS:
            connection.close()
            return
        who = _Caller(connection, time.monotonic() + _REQUEST_S)
        self._callers.append(who)
        self._watch(connection, lambda: self._read(who))

    def _listen_again(self) -> None:
        if self._rests_until and self._rests_until <= time.monotonic():
            self._rests_until = 0.0
            self._watch(self._listener, self._accept)

    def _read(self, who: _Caller) -> None:
        """No byte more than the header: what follows is somebody else's."""
        try:
            wanted = (who.length or wire.LENGTH) - len(who.text)
            data = who.connection.recv(wanted)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        who.text += data
        if not data:
            self._done_with(who)
        elif not who.length and len(who.text) == wire.LENGTH:
            who.length = int.from_bytes(who.text, "big")
            who.text.clear()
            if not 0 < who.length <= wire.MAX_HEADER:
                self._refuse(who, "the header is too long")
        elif who.length and len(who.text) == who.length:
            self._answer(who)

    def _answer(self, who: _Caller) -> None:
        try:
            request = wire.parse_header(bytes(who.text))
            if self._outdated(request):
                raise KatapyError("it runs another version of katapy: restart it")
            match request["op"]:
                case "status":
                    status = {"pid": os.getpid(), "served": self._served, "pool": self._pool.status()}
                    self._say(who, status)
                case "supervise":
                    self._supervise(who, request)
                case op:
                    raise wire.Malformed(f"no such request: {op[:40]}")
        except (KatapyError, OSError) as e:
            self._refuse(who, str(e))
        else:
            self._done_with(who)

    def _outdated(self, request: dict[str, Any]) -> bool:
        """Another katapy asks, or the files of this one have changed since they were imported: then it ends, too."""
        if code.identity(self._files) != self._code:
            self._ending = True
            print("katapy: the zygote ends, because katapy's files have changed", file=sys.stderr, flush=True)
        return self._ending or bool(request["katapy"] != wire.katapy_here())

    def _supervise(self, who: _Caller, request: dict[str, Any]) -> None:
        """Raises KatapyError, OSError."""
        size = request.get("body")
        if not isinstance(size, int):
            raise wire.Malformed("a supervisor needs a body")
        standing, own = caller.read(endpoint.peer(who.connection)[0]), caller.read(os.getpid())
        if name := caller.difference(own, standing):
            raise KatapyError(f"its {name} is not the caller's")
        if listener.has_gone(who.connection):  # then the pid may have been somebody else's
            raise KatapyError("the caller has gone")
        who.connection.setblocking(True)
        if caller.suits_warm(standing, own):
            while (machine := self._pool.take(str(request.get("machine")))) is not None:
                if self._pool.hand_over(machine, who.connection, size, standing):
                    self._served["warm"] += 1
                    return
        newborn.fork(lambda: newborn.supervise(who.connection, size, standing), {who.connection.fileno()})
        self._served["forked"] += 1

    def _refuse(self, who: _Caller, reason: str) -> None:
        self._served["refused"] += 1
        self._say(who, {"refused": reason})
        self._done_with(who)

    def _say(self, who: _Caller, fields: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            who.connection.send(wire.answer(fields), socket.MSG_DONTWAIT)

    def _done_with(self, who: _Caller) -> None:
        self._callers.remove(who)
        self._forget(who.connection)
        who.connection.close()

    def _forget_the_slow(self) -> None:
        now = time.monotonic()
        for who in [who for who in self._callers if who.until < now]:
            self._refuse(who, "the request did not arrive in time")
