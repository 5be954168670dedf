"""What `create` and `run` share: from a bundle to a container that is created, or to nothing at all. CLI only.

In order: plan (pure) - reserve the id - cgroup - fork the supervisor, which starts the machine, or find the one of the
pod (cli/places) - stand-in - hooks, while the guest boots - `create` over the control socket. Whatever fails, the
ExitStack takes back what was done.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from katapy import cgroups, config
from katapy.cli import attach, places, terminal
from katapy.cli.parse import Args
from katapy.errors import Interrupted
from katapy.network import leftovers
from katapy.oci import capabilities
from katapy.oci.ids import check_id
from katapy.oci.spec import Process, load_bundle
from katapy.oci.validate import validate_bundle
from katapy.sandbox import hooks, plan, standin_view, store

_INTERRUPTS = (signal.SIGTERM, signal.SIGHUP)
_OF_SYSTEMD = {"LISTEN_FDS": "descriptors", "NOTIFY_SOCKET": "a socket"}
"""What runc hands on to the container, by variables of its caller."""


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """Of the command line. `detach`: whether the caller goes on without the container (create, run -d).
    `systemd_cgroup`: its cgroup is a scope of systemd's. `warn`: takes what is left out, and what could not be cleaned
    up."""

    root: str
    id: str
    bundle: str
    config: str
    console_socket: str
    detach: bool
    systemd_cgroup: bool
    warn: Callable[[str], None]


def options_of(args: Args, detach: bool) -> CreateOptions:
    """As `create` and `run` are given them."""
    return CreateOptions(
        root=args.root,
        id=args.id,
        bundle=args.bundle,
        config=args.config,
        console_socket=args.console_socket,
        detach=detach,
        systemd_cgroup=args.systemd_cgroup or args.cgroup_manager == "systemd",
        warn=args.log.warning,
    )


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
    use_all_processors()
    bundle = load_bundle(options.bundle, options.config)
    validate_bundle(bundle)
    for complaint in (*left_outside(os.environ), *_capability_complaints(bundle.spec.process)):
        options.warn(complaint)
    conf = config.load(None)
    place = places.choose(options.root, options.id, bundle, conf, origin)
    container = place.container
    terminal.check_console_socket(options.console_socket, container.terminal, options.detach)
    cgroup = cgroups.open_cgroup(
        container.cgroups_path, store.directory(options.root, options.id), options.systemd_cgroup
    )
    with contextlib.ExitStack() as undo:
        directory = store.reserve(options.root, options.id)
        if not conf.debug.keep:
            undo.callback(store.remove, options.root, options.id)
        undo.callback(leftovers.remove, f"{directory}/{store.NETWORK}", options.warn)
        os.mkdir(f"{directory}/{store.PROC_VIEW}", 0o700)
        undo.enter_context(signals_as_errors())
        state = _first_state(options, container, place.sandbox_id, cgroup.name)
        store.save(options.root, state)  # before the cgroup: should this be killed, `delete --force` knows of it
        undo.callback(cgroup.remove)
        cgroup.create()
        supervisor = place.open(cgroup.procs_files(), undo)
        store.save(
            options.root,
            state._replace(supervisor_pid=supervisor, supervisor_start=store.start_time(supervisor)),
        )
        fds, slave = attach.stdio(options.console_socket, container.console_size, undo)
        standin = standin_view.spawn_standin(
            container, cgroup.procs_files(), slave, place.mounts, f"{directory}/{store.PROC_VIEW}"
        )
        undo.callback(attach.end_standin, standin)
        cgroup.let_go()
        wanted = bundle.raw.get("hooks") or {}
        _run_hooks(wanted, state, container, standin.pid, undo)
        hooks.keep(directory, wanted)
        place.look(standin.pid, undo)
        standin_view.release(standin)
        fields = {"id": container.id, "pid": standin.pid, "terminal": container.terminal}
        answer = place.ask(fields, (*fds, standin.channel.fileno()), undo)
        publish(standin.pid)
        undo.pop_all()
    default_signals()
    standin.channel.close()
    place.close()
    return Created(standin.pid, answer["timings"], answer["guest"], container.terminal)


def left_outside(environment: Mapping[str, str]) -> list[str]:
    """Warnings of what the caller's variables ask for in vain."""
    asked = (name for name in _OF_SYSTEMD if environment.get(name))
    return [f"{name} is ignored: {_OF_SYSTEMD[name]} of the host can't enter a guest" for name in asked]


def use_all_processors() -> None:
    """As runc's containers: what the engine is bound to (taskset, CPUAffinity= of its unit) says nothing about them.

    The kernel leaves out those that are not there, or not in the cpuset.
    """
    with contextlib.suppress(OSError):  # not allowed: then with those of the caller
        os.sched_setaffinity(0, range(os.sysconf("SC_NPROCESSORS_CONF")))


def _capability_complaints(process: Process | None) -> list[str]:
    sets = process.capabilities if process else None
    if sets is None:
        return []
    every = [name for kind in msgspec.structs.astuple(sets) for name in kind or ()]
    unknown = capabilities.complaint(every)
    not_ambient = capabilities.ambient_complaints(sets.ambient or (), sets.inheritable or (), sets.permitted or ())
    return [*([unknown] if unknown else []), *not_ambient]


@contextlib.contextmanager
def signals_as_errors() -> Iterator[None]:
    """SIGTERM and SIGHUP raise Interrupted in the block, so that what was begun is taken back."""

    def interrupted(signum: int, _: object) -> None:
        default_signals()
        raise Interrupted(f"interrupted by {signal.Signals(signum).name}")

    for signum in _INTERRUPTS:
        signal.signal(signum, interrupted)
    try:
        yield
    finally:
        default_signals()


def default_signals() -> None:
    for signum in _INTERRUPTS:
        signal.signal(signum, signal.SIG_DFL)


def _first_state(options: CreateOptions, container: plan.ContainerPlan, sandbox_id: str, cgroup: str) -> store.State:
    """Until there is a supervisor, this process is what a container lives by: a first template takes a whole boot."""
    return store.State(
        id=options.id,
        sandbox=sandbox_id,
        bundle=container.bundle,
        rootfs=container.rootfs,
        created=_now(),
        owner_uid=os.geteuid(),
        annotations=dict(container.annotations),
        oci_version=container.oci_version,
        cgroup=cgroup,
        supervisor_pid=os.getpid(),
        supervisor_start=store.start_time(os.getpid()),
    )


def _now() -> str:
    """RFC 3339 with nanoseconds, UTC."""
    now = time.time_ns()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9)) + f".{now % 10**9:09d}Z"


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
