"""What `create` and `run` share: from a bundle to a container that is created, or to nothing at all. CLI only.

In order: plan (pure) - reserve the id - cgroup - fork the supervisor, which starts the machine - stand-in - hooks,
while the guest boots - `create` over the control socket. Whatever fails, the ExitStack takes back what was done.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from katapy import cgroups, config
from katapy.cli import attach, terminal
from katapy.control import client, endpoint
from katapy.errors import HostError, KatapyError
from katapy.network import leftovers, netns
from katapy.oci.ids import check_id
from katapy.oci.spec import load_bundle
from katapy.oci.validate import validate_bundle
from katapy.sandbox import annotations, facts, hooks, plan, sources, standin_view, store, template
from katapy.supervisor.launch import LOG_FILE, Launched, Task, launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from katapy.standin import Standin

_SLACK_S = 5.0
_BOOTS = 2.0
"""A clone that does not live is given up before a machine boots in its place."""
_INTERRUPTS = (signal.SIGTERM, signal.SIGHUP)
_MAX_LOG = 1024 * 1024


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """Of the command line. `detach`: whether the caller goes on without the container (create, run -d). `warn`: takes
    what could not be cleaned up."""

    root: str
    id: str
    bundle: str
    config: str
    console_socket: str
    detach: bool
    warn: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Created:
    """What there is now. `pid`: the stand-in, a child of this process.

    `timings`: milestones in seconds after the call; `guest`: those of the guest, after its kernel's start.
    """

    pid: int
    timings: Mapping[str, float]
    guest: Mapping[str, float]
    terminal: bool


def create(options: CreateOptions, publish: Callable[[int], None]) -> Created:
    """Creates the container.

    `publish(pid)` runs last and belongs to it: if it fails, nothing was created. Raises KatapyError.
    """
    origin = time.monotonic()
    check_id(options.id)
    bundle = load_bundle(options.bundle, options.config)
    validate_bundle(bundle)
    sandbox_plan, conf = _plan(options.id, bundle.path, bundle.raw)
    container = sandbox_plan.container
    terminal.check_console_socket(options.console_socket, container.terminal, options.detach)
    with contextlib.ExitStack() as undo:
        directory = store.reserve(options.root, options.id)
        undo.callback(store.remove, options.root, options.id)
        undo.callback(leftovers.remove, f"{directory}/{store.NETWORK}", options.warn)
        os.mkdir(f"{directory}/{store.PROC_VIEW}", 0o700)
        undo.enter_context(signals_as_errors())
        state = _first_state(options, container)
        store.save(options.root, state)  # before the cgroup: should this be killed, `delete --force` knows of it
        cgroup = cgroups.open_cgroup(container.cgroups_path, options.id)
        undo.callback(cgroup.remove)
        cgroup.create()
        found = template.find_template(sandbox_plan, conf, say)
        task = Task(sandbox_plan, conf, options.root, cgroup.procs_files(), origin, found)
        launched = _launch(task, undo)
        store.save(
            options.root,
            state._replace(supervisor_pid=launched.pid, supervisor_start=store.start_time(launched.pid)),
        )
        fds, slave = attach.stdio(options.console_socket, container.console_size, undo)
        standin = standin_view.spawn_standin(
            container, cgroup.procs_files(), slave, launched.pid, f"{directory}/{store.PROC_VIEW}"
        )
        undo.callback(attach.end_standin, standin)
        wanted = bundle.raw.get("hooks") or {}
        _run_hooks(wanted, state, container, standin.pid, undo)
        hooks.keep(directory, wanted)
        standin_view.release(standin)
        answer = _ask(task, standin, fds)
        publish(standin.pid)
        undo.pop_all()
    default_signals()
    standin.channel.close()
    os.close(launched.lifeline)
    return Created(standin.pid, answer["timings"], answer["guest"], container.terminal)


@contextlib.contextmanager
def signals_as_errors() -> Iterator[None]:
    """SIGTERM and SIGHUP raise KatapyError in the block, so that what was begun is taken back."""

    def interrupted(signum: int, _: object) -> None:
        default_signals()
        raise KatapyError(f"interrupted by {signal.Signals(signum).name}")

    for signum in _INTERRUPTS:
        signal.signal(signum, interrupted)
    try:
        yield
    finally:
        default_signals()


def default_signals() -> None:
    for signum in _INTERRUPTS:
        signal.signal(signum, signal.SIG_DFL)


def _plan(container_id: str, bundle: str, spec: dict[str, Any]) -> tuple[plan.SandboxPlan, config.Config]:
    conf = config.load(None)
    found = sources.inspect_sources(spec.get("mounts") or [], bundle)
    default = annotations.Sizing(conf.hypervisor.vcpus, conf.hypervisor.memory_mib)
    sizing = annotations.sizing(spec.get("annotations") or {}, conf.annotations.allowed, default)
    container = plan.plan_container(container_id, bundle, spec, found)
    for kind, path in container.namespaces:
        if kind == "network" and path:
            netns.check(path)
    return plan.plan_sandbox(container, spec, sizing, facts.host_facts(conf)), conf


def say(words: str) -> None:
    """Progress, for a person: what an engine's `create` prints would end up in the container's own log."""
    if os.isatty(2):
        os.write(2, f"katapy: {words}\n".encode())


def _first_state(options: CreateOptions, container: plan.ContainerPlan) -> store.State:
    return store.State(
        id=options.id,
        sandbox=options.id,
        bundle=container.bundle,
        rootfs=container.rootfs,
        created=_now(),
        owner_uid=os.geteuid(),
        annotations=dict(container.annotations),
        oci_version=container.oci_version,
        cgroup=container.cgroups_path,
    )


def _now() -> str:
    """RFC 3339 with nanoseconds, UTC."""
    now = time.time_ns()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9)) + f".{now % 10**9:09d}Z"


def _launch(task: Task, undo: contextlib.ExitStack) -> Launched:
    with contextlib.closing(endpoint.listen(store.control_path(task.root, task.plan.id))) as listener:
        launched = launch(task, listener.fileno())
    undo.callback(_end_supervisor, launched)
    return launched


def _ask(task: Task, standin: "Standin", fds: tuple[int, int, int]) -> Mapping[str, Any]:
    """Asks the supervisor for the container. One that died has left its last words in its log."""
    timeouts = task.config.timeouts
    try:
        return client.call(
            store.control_path(task.root, task.plan.id),
            "create",
            {"id": task.plan.id, "pid": standin.pid, "terminal": task.plan.container.terminal},
            deadline_s=timeouts.boot_s * _BOOTS + timeouts.request_s + _SLACK_S,
            fds=(*fds, standin.channel.fileno()),
        )
    except client.SupervisorGone as e:
        with open(f"{task.directory}/{LOG_FILE}", encoding="utf-8", errors="replace") as f:
            lines = f.read(_MAX_LOG).strip().splitlines()
        raise HostError(f"the supervisor ended: {lines[-1] if lines else 'it left no word'}") from e


def _end_supervisor(launched: Launched) -> None:
    """SIGKILL: QEMU and virtiofsd die with it, mounts too. Reaped, so that its cgroup is empty."""
    os.close(launched.lifeline)
    os.kill(launched.pid, signal.SIGKILL)
    os.waitpid(launched.pid, 0)


def _run_hooks(
    found: hooks.Hooks, state: store.State, container: plan.ContainerPlan, pid: int, undo: contextlib.ExitStack
) -> None:
    """Those of `create`. If one fails, what was made is destroyed and poststop hooks run, as the runtime-spec says."""
    document = hooks.document(state, "created", pid)
    stopped = hooks.document(state, "stopped", 0)
    if found.get("poststop"):
        undo.callback(hooks.run_all, "poststop", found, stopped, lambda _: None)
    for kind in hooks.CREATE_KINDS:
        hooks.run(kind, found, document, hooks.Place(pid, container.rootfs))
