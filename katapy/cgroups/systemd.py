"""Transient scopes of systemd, asked for over D-Bus. CLI only, and only where the systemd driver is asked for: jeepney
takes 50 ms to import.
"""

import collections
import contextlib
import errno
from collections.abc import Iterator
from typing import Any

from jeepney import DBusAddress, DBusErrorResponse, MatchRule, Message, message_bus, new_method_call
from jeepney.io.blocking import DBusConnection, Proxy, open_dbus_connection
from jeepney.wrappers import unwrap_msg

from katapy.errors import HostError, errno_text

_JOB_S = 30.0
"""For one word of systemd, and for one job of it. runc waits as long."""
_MANAGER = DBusAddress(
    "/org/freedesktop/systemd1", bus_name="org.freedesktop.systemd1", interface="org.freedesktop.systemd1.Manager"
)
_NO_SUCH_UNIT = "org.freedesktop.systemd1.NoSuchUnit"
_UNIT_EXISTS = "org.freedesktop.systemd1.UnitExists"


def start_scope(name: str, slice_name: str, pid: int) -> None:
    """A scope that process `pid` is in. Returns when its cgroup exists. Raises HostError."""
    properties: list[tuple[str, tuple[str, Any]]] = [
        ("Description", ("s", f"katapy container {name}")),
        ("Slice", ("s", slice_name)),
        ("PIDs", ("au", [pid])),
        ("Delegate", ("b", True)),
        ("DefaultDependencies", ("b", False)),
        ("CollectMode", ("s", "inactive-or-failed")),
        *((f"{kind}Accounting", ("b", True)) for kind in ("Memory", "CPU", "IO", "Tasks")),
    ]
    with _connected() as bus:
        try:
            result = _job(bus, "StartTransientUnit", "ssa(sv)a(sa(sv))", (name, "replace", properties, []))
        except DBusErrorResponse as e:
            if e.name == _UNIT_EXISTS:
                raise HostError(f"systemd has a unit {name} already: choose another cgroupsPath, or stop it") from e
            raise HostError(f"systemd refuses the unit {name}: {_words(e)}") from e
    if result != "done":
        raise HostError(f"systemd could not start the unit {name}: {result}")


def stop_scope(name: str) -> None:
    """Returns when systemd has forgotten it. Not there: nothing to do. Raises HostError."""
    with _connected() as bus:
        try:
            _job(bus, "StopUnit", "ss", (name, "replace"))
        except DBusErrorResponse as e:
            if e.name != _NO_SUCH_UNIT:
                raise


@contextlib.contextmanager
def _connected() -> Iterator[DBusConnection]:
    """The system's bus. Whatever goes wrong with it is a HostError."""
    try:
        with open_dbus_connection("SYSTEM", auth_timeout=_JOB_S) as bus:
            yield bus
    except DBusErrorResponse as e:
        raise HostError(f"systemd: {_words(e)}") from e
    except TimeoutError as e:
        raise HostError(f"systemd does not answer within {_JOB_S:g} s on the system's D-Bus") from e
    except OSError as e:
        reason = errno_text(e) if e.errno else str(e)
        hint = ": is this host run by systemd?" if e.errno in (errno.ENOENT, errno.ECONNREFUSED) else ""
        raise HostError(f"can't talk to systemd on the system's D-Bus: {reason}{hint}") from e


def _words(error: DBusErrorResponse) -> str:
    return str(error.data[0] if error.data else error.name)


def _call(bus: DBusConnection, method: str, signature: str, arguments: tuple[Any, ...]) -> Any:
    """Raises DBusErrorResponse, TimeoutError, OSError."""
    return unwrap_msg(bus.send_and_get_reply(new_method_call(_MANAGER, method, signature, arguments), timeout=_JOB_S))


def _job(bus: DBusConnection, method: str, signature: str, arguments: tuple[Any, ...]) -> str:
    """Asks for a job and waits for its end: "done", or what became of it. Raises as `_call`."""
    ends = MatchRule(type="signal", interface=_MANAGER.interface, member="JobRemoved", path=_MANAGER.object_path)
    Proxy(message_bus, bus, timeout=_JOB_S).AddMatch(ends)
    heard: collections.deque[Message] = collections.deque()
    with bus.filter(ends, queue=heard):
        (job,) = _call(bus, method, signature, arguments)
        while True:
            _, path, _, result = bus.recv_until_filtered(heard, timeout=_JOB_S).body
            if path == job:
                return str(result)
