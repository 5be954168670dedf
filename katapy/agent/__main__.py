"""PID 1 of the guest: the order in which everything starts, and what happens if something can't.

The ports are open before grpc is imported, because the host takes an open agent port for a sign of life, and because
its message can then arrive while the imports, which take longest, are under way.
"""

import functools
import gc
import os
import sys
from collections.abc import Callable

from katapy.agent import boot, init, pod_namespace
from katapy.agent.transport import vsock
from katapy.agent.transport.child import RelayProcess, relay_serial, relay_vsock
from katapy.protocol import names

PORT_DEADLINE_S = 10.0


def main() -> None:
    """Never returns: the machine ends with it."""
    port: boot.BootPort | None = None
    try:
        gc.disable()
        init.prepare()
        pod_namespace.make()
        port = boot.BootPort(_open(boot.wait_for_port(names.BOOT_PORT, PORT_DEADLINE_S)))
        port.phase("init")
        _run(port)
    except BaseException as error:
        _last_words(port, error)
    finally:
        init.power_off()


def _run(port: boot.BootPort) -> None:
    relay = RelayProcess(_relay_work())
    port.phase("ports")
    from katapy.agent import serve  # grpc: two seconds under emulation

    port.phase("imports")
    serve.run(port, port.read_message(), relay)


def _relay_work() -> Callable[[], None]:
    """What the relay will do, its host side being open already. A machine without an agent port has a vsock device."""
    agent_port = boot.find_port(names.AGENT_PORT)
    if agent_port is None:
        return functools.partial(relay_vsock, vsock.listen(names.AGENT_VSOCK_PORT))
    return functools.partial(relay_serial, _open(agent_port))


def _open(path: str) -> int:
    """Closed on exec, like everything Python opens."""
    return os.open(path, os.O_RDWR)


def _last_words(port: boot.BootPort | None, error: BaseException) -> None:
    import traceback

    text = "".join(traceback.format_exception(error))
    sys.stderr.write(f"katapy agent: {text}")
    if port is not None:
        port.log(f"agent failed: {' | '.join(text.split(chr(10)))[-1500:]}")


if __name__ == "__main__":
    main()
