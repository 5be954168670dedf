"""The supervisor's life: starts the machine, serves the control socket, ends with the sandbox. The forked child of
`create`.

The machine is started first, by code that imports neither asyncio nor grpc; those are imported while the guest boots.
"""

import contextlib

from katapy.errors import KatapyError
from katapy.linux.seccomp import forbid_programs
from katapy.sandbox.machine import Machine, Starter
from katapy.supervisor import unneeded
from katapy.supervisor.launch import Task


def serve(task: Task, listener: int, lifeline: int) -> None:
    """Returns when the sandbox has ended. A failure to start is answered to whoever asks for `create`."""
    with contextlib.ExitStack() as stack:
        machine: Machine | None = None
        failure: KatapyError | None = None
        starter = Starter(task.plan, task.config, task.directory, stack, task.template.path)
        try:
            machine = starter.start()
        except KatapyError as e:
            failure = e
        except OSError as e:
            failure = KatapyError(f"start the sandbox: {e}")

        unneeded.keep_out()
        import asyncio

        from katapy.supervisor.loop import Loop

        if machine is not None:
            try:
                machine = starter.settle(machine)
            except KatapyError as e:
                machine, failure = None, e
            forbid_programs()  # from here on a guest is listened to
        asyncio.run(Loop(task, machine, failure, stack.pop_all(), lifeline).run(listener))
