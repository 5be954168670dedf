"""Where a container comes to live: in a machine of its own, or in the running one of its pod. CLI only.

Both answer the same calls: `open` gives the supervisor's pid, `ask` has it create the container, `close` lets go of it.
"""

import contextlib
import dataclasses
import os
from collections.abc import Mapping
from typing import Any, Protocol

from katapy import config
from katapy.cli.supervisor_process import check_not_frozen
from katapy.control import client, endpoint
from katapy.control.messages import Fields
from katapy.errors import HostError, KatapyError, Unsupported, WrongStatus
from katapy.hypervisor.vm import Size
from katapy.network import netns
from katapy.oci.spec import Bundle
from katapy.sandbox import annotations, blocks, facts, plan, plan_wire, pods, sources, store, template, trees
from katapy.supervisor.launch import LOG_FILE, Launched, Task, launch
from katapy.zygote import client as zygote

_SLACK_S = 5.0
_BOOTS = 2.0
"""A clone that does not live is given up before a machine boots in its place."""
_MAX_LOG = 1024 * 1024
_WARNING = " WARNING "
"""In a line of the supervisor's log that says nothing about its end."""


class Place(Protocol):
    """Where `container` comes to live."""

    @property
    def container(self) -> plan.ContainerPlan: ...

    @property
    def sandbox_id(self) -> str: ...

    def open(self, cgroup_procs: tuple[str, ...], undo: contextlib.ExitStack) -> int:
        """The supervisor's pid; what was started for it is entered into `undo`."""

    @property
    def mounts(self) -> str | None:
        """The mount namespace for the stand-in to start in, None for a copy of the caller's; after `open`."""

    def look(self, standin_pid: int, undo: contextlib.ExitStack) -> None:
        """Hooks have run, the stand-in does not hide anything yet: the time to look for what is to be shared."""

    def ask(self, fields: Fields, fds: tuple[int, ...], undo: contextlib.ExitStack) -> Mapping[str, Any]:
        """`create` over the control socket; the answer. What takes it back is entered in `undo`. Raises KatapyError."""

    def close(self) -> None:
        """The container is created."""


def choose(root: str, container_id: str, bundle: Bundle, conf: config.Config, origin: float) -> Place:
    """Plans the container, and its machine if it needs one. Raises KatapyError."""
    spec = bundle.raw
    namespaces = plan.namespaces(spec)
    if namespaces and "mount" not in dict(namespaces):
        raise Unsupported("a container without a mount namespace is not supported: the guest's mounts are the agent's")
    asked = spec.get("annotations") or {}
    found = sources.inspect_sources(spec.get("mounts") or [], bundle.path)
    pod = pods.find_pod(container_id, asked, namespaces, _world(root))
    disks = blocks.plan_blocks(spec, found, conf.devices)
    writes = annotations.guest_writes(asked, conf.annotations.allowed, conf.share.writes == "guest")
    if pod is not None:
        least = annotations.sizing(asked, conf.annotations.allowed, Size(0, 0))
        container = plan.plan_container(container_id, bundle.path, spec, found, pod.joined, writes, disks, least)
        return InPod(root, pod, container, conf)
    default = Size(conf.hypervisor.vcpus, conf.hypervisor.memory_mib)
    sizing = annotations.sizing(asked, conf.annotations.allowed, default)
    container = plan.plan_container(container_id, bundle.path, spec, found, guest_writes=writes, blocks=disks)
    for kind, path in container.namespaces:
        if kind == "network" and path:
            netns.check(path)
    host = facts.host_facts(conf)
    cloned = not template.reason_against(conf, host)
    sandbox_plan = plan.plan_sandbox(container, sizing, host, conf.hypervisor, cloned)
    return Alone(root, sandbox_plan, conf, origin)


class _Trees:
    """What is shared with a machine whose supervisor does not see the caller's mounts. Owns the descriptors."""

    def __init__(self) -> None:
        self.fds: tuple[int, ...] = ()

    def open(self, container: plan.ContainerPlan, standin_pid: int, undo: contextlib.ExitStack) -> None:
        self.fds = tuple(trees.open_trees(container, standin_pid))
        undo.callback(self.close)

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)


class Alone:
    """A machine of its own, with a supervisor that is forked for it, or was for whoever would come (zygote/warm)."""

    def __init__(self, root: str, sandbox: plan.SandboxPlan, conf: config.Config, origin: float) -> None:
        self.container = sandbox.container
        self.sandbox_id = sandbox.id
        self._root, self._sandbox, self._conf, self._origin = root, sandbox, conf, origin
        self._trees = _Trees()
        self.mounts: str | None = None

    def open(self, cgroup_procs: tuple[str, ...], undo: contextlib.ExitStack) -> int:
        found = template.find_template(self._sandbox, self._conf, say)
        task = Task(self._sandbox, self._conf, self._root, cgroup_procs, self._origin, found)
        control = store.control_path(self._root, self.sandbox_id)
        with contextlib.closing(endpoint.listen(control)) as listener:
            self._launched = _launch(task, listener.fileno())
        undo.callback(self._launched.end)
        self.mounts = None if self._launched.warm else f"/proc/{self._launched.pid}/ns/mnt"
        return self._launched.pid

    def look(self, standin_pid: int, undo: contextlib.ExitStack) -> None:
        """A supervisor that was forked just now does it itself, in that same mount namespace."""
        if self._launched.warm:
            self._trees.open(self.container, standin_pid, undo)

    def ask(self, fields: Fields, fds: tuple[int, ...], undo: contextlib.ExitStack) -> Mapping[str, Any]:
        """A supervisor that died has left its last words in its log."""
        timeouts = self._conf.timeouts
        deadline_s = timeouts.boot_s * _BOOTS + timeouts.request_s + _SLACK_S
        control = store.control_path(self._root, self.sandbox_id)
        try:
            return client.call(control, "create", fields, deadline_s=deadline_s, fds=(*fds, *self._trees.fds))
        except client.SupervisorGone as e:
            with open(
                f"{store.directory(self._root, self.sandbox_id)}/{LOG_FILE}", encoding="utf-8", errors="replace"
            ) as f:
                lines = f.read(_MAX_LOG).strip().splitlines()
            words = [line for line in lines if _WARNING not in line]
            raise HostError(f"the supervisor ended: {words[-1] if words else 'it left no word'}") from e

    def close(self) -> None:
        self._launched.let_go()
        self._trees.close()


class InPod:
    """The running machine of a pod. Its supervisor is another process tree's: it is asked, never signalled."""

    def __init__(self, root: str, pod: pods.Pod, container: plan.ContainerPlan, conf: config.Config) -> None:
        self.container = container
        self.sandbox_id = pod.sandbox.id
        self._root = root
        self._sandbox = pod.sandbox
        self._request_s = conf.timeouts.boot_s + conf.timeouts.request_s + _SLACK_S
        self._trees = _Trees()
        self.mounts: str | None = None

    def open(self, cgroup_procs: tuple[str, ...], undo: contextlib.ExitStack) -> int:
        check_not_frozen(self._sandbox)
        return self._sandbox.supervisor_pid

    def look(self, standin_pid: int, undo: contextlib.ExitStack) -> None:
        self._trees.open(self.container, standin_pid, undo)

    def ask(self, fields: Fields, fds: tuple[int, ...], undo: contextlib.ExitStack) -> Mapping[str, Any]:
        request = {**fields, "plan": plan_wire.encode(self.container)}
        control = store.control_path(self._root, self.sandbox_id)
        try:
            answer = client.call(control, "create", request, deadline_s=self._request_s, fds=(*fds, *self._trees.fds))
        except client.SupervisorGone as e:
            raise WrongStatus(f"the sandbox {self.sandbox_id} of this container has ended") from e
        undo.callback(self._take_back, control)
        return answer

    def _take_back(self, control: str) -> None:
        with contextlib.suppress(KatapyError):  # a pod that can't be asked keeps nothing for long
            client.call(control, "delete", {"id": self.container.id, "force": True}, deadline_s=self._request_s)

    def close(self) -> None:
        self._trees.close()


def say(words: str) -> None:
    """Progress, for a person: what an engine's `create` prints would end up in the container's own log."""
    if os.isatty(2):
        os.write(2, f"katapy: {words}\n".encode())


def _launch(task: Task, listener: int) -> Launched:
    """By the zygote, if one serves here; else by this process, and where one should serve, its log tells why."""
    warning = ""
    if zygote.serves(task.config):
        try:
            return zygote.launch(task, listener)
        except zygote.Refused as e:
            warning = f"the zygote did not fork the supervisor: {e}"
    return launch(dataclasses.replace(task, warning=warning), listener)


def _world(root: str) -> pods.World:
    """The state root, as sandbox/pods looks at it. What is damaged there is somebody else's affair."""

    def find(container_id: str) -> store.State | None:
        try:
            return store.live_status(root, container_id)
        except KatapyError:
            return None

    def living() -> list[store.State]:
        states = (find(container_id) for container_id in store.list_ids(root))
        return [state for state in states if state is not None and state.pid > 0]

    def same(one: str, other: str) -> bool:
        try:
            return os.path.samestat(os.stat(one), os.stat(other))
        except OSError:
            return False

    return pods.World(find, living, same)
