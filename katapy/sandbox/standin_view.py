"""A container's plan -> its stand-in: which namespaces it shows, which cgroups it joins. CLI only."""

from katapy import cgroups, standin
from katapy.errors import HostError

TYPE_CHECKING = False  # exec needs no plan, and what it imports is what it costs
if TYPE_CHECKING:
    from katapy.sandbox.plan import ContainerPlan


def spawn_standin(
    container: "ContainerPlan",
    cgroup_procs: tuple[str, ...],
    terminal: int | None,
    mounts: str | None,
    proc: str,
) -> standin.Standin:
    """The stand-in of the container's init, held until `release`. Raises HostError.

    It starts in the mount namespace `mounts`, None for a copy of the caller's: what hooks mount there is shared with
    the guest.
    """
    args = container.process.get("args") or [container.id]
    spec = standin.StandinSpec(
        name=str(args[0]),
        namespaces=container.namespaces,
        mounts=mounts,
        rootfs=container.rootfs,
        proc=proc,
        hostname=container.hostname,
        terminal=terminal,
    )
    return spawn(spec, cgroup_procs)


def release(held: standin.Standin) -> None:
    """Raises HostError."""
    try:
        held.release()
    except OSError as e:
        raise HostError(f"start the stand-in: {e.strerror or e}") from e


def spawn(spec: standin.StandinSpec, cgroup_procs: tuple[str, ...]) -> standin.Standin:
    """Held until `release`. Raises HostError."""
    try:
        return standin.spawn(spec, lambda pid: cgroups.join(cgroup_procs, pid))
    except OSError as e:
        raise HostError(f"start the stand-in: {e.strerror or e}") from e
