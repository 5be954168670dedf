"""`katapy delete`: gives back what a container holds. `--force` works whatever is dead, frozen or half made."""

import os

from katapy.cli import supervisor_process
from katapy.cli.log import Log
from katapy.cli.parse import Args
from katapy.control import client
from katapy.errors import HostError, KatapyError, NotFound, Timeout, WrongStatus
from katapy.sandbox import store

_DELETE_S = 30.0
_KILLED_S = 10.0
"""From SIGKILL to the end of the supervisor; QEMU ends with it (PR_SET_PDEATHSIG)."""
_DEATH_S = 10.0
"""From the end of the last container to that of the supervisor."""


def run(args: Args) -> int:
    delete(args.root, args.id, args.force, args.log)
    return 0


def delete(root: str, container_id: str, force: bool, log: Log | None = None) -> None:
    """Raises NotFound and WrongStatus (not with `force`), HostError for what can't be given back."""
    try:
        state = store.live_status(root, container_id)
    except KatapyError:
        if not force:
            raise
        store.remove(root, container_id)  # damaged, or `create` was killed before it wrote a state
        return
    if not force and state.status in ("creating", "running", "paused"):
        raise WrongStatus(f"cannot delete container {container_id} that is not stopped: {state.status}")
    if store.supervisor_alive(state):
        _end(root, state, force)
    _clean_up(root, state, force, log or Log())


def _end(root: str, state: store.State, force: bool) -> None:
    """The supervisor ends the container. One that can't be asked is killed, if `force` says so, and so is a create."""
    if state.status == "creating" and state.sandbox == state.id:
        _kill_supervisor(state)  # or the `create` that is to make one: there is no container yet to end
        return
    try:
        supervisor_process.check_not_frozen(state)
        client.call(
            store.control_path(root, state.sandbox),
            "delete",
            {"id": state.id, "force": force},
            deadline_s=_DELETE_S,
        )
    except (client.SupervisorGone, NotFound):
        pass  # it has ended, or has forgotten the container: nothing of it runs
    except KatapyError:
        if not force:
            raise
        _kill_supervisor(state)
    if state.sandbox == state.id:
        _await_supervisor(state, force)


def _await_supervisor(state: store.State, force: bool) -> None:
    """The sandbox's last container has ended, so its supervisor ends by itself."""
    if supervisor_process.wait_end(state, _DEATH_S):
        return
    if not force:
        raise Timeout(f"the supervisor {state.supervisor_pid} of {state.id} did not end: try delete --force", _DEATH_S)
    _kill_supervisor(state)


def _kill_supervisor(state: store.State) -> None:
    supervisor_process.kill(state)
    if not supervisor_process.wait_end(state, _KILLED_S):
        raise HostError(f"the supervisor {state.supervisor_pid} of {state.id} survived SIGKILL for {_KILLED_S:g} s")


def _clean_up(root: str, state: store.State, force: bool, log: Log) -> None:
    from katapy import cgroups  # imported here: a `delete` of nothing does not need it

    folder = store.directory(root, state.id)
    cgroup = cgroups.reopen(state.cgroup, folder)
    if force:
        cgroup.kill()
    try:
        cgroup.remove()
    except HostError as e:
        if not force:
            raise
        log.warning(str(e))  # somebody froze a process of it (v1): it dies when it is thawed
    if os.path.exists(f"{folder}/{store.NETWORK}"):
        from katapy.network import leftovers

        leftovers.remove(f"{folder}/{store.NETWORK}", log.warning)
    if os.path.exists(f"{folder}/{store.HOOKS}"):
        _poststop(folder, state, log)
    store.remove(root, state.id)


def _poststop(folder: str, state: store.State, log: Log) -> None:
    from katapy.sandbox import hooks

    document = hooks.document(state, "stopped", 0)
    hooks.run_all("poststop", hooks.kept(folder), document, log.warning)
