"""Pods as containerd's CRI makes them: a sandbox container, and members that join its namespaces. Runs in pytest."""

from collections.abc import Callable, Sequence
from typing import Any

from framework.bundle import Bundle, Spec
from framework.fixtures import BundleMaker
from framework.runtime import BOOT_S, Container, Result, Runtime

PREFIX = "io.kubernetes.cri"
PAUSE = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1000000 & wait; done")
SHARED = ("network", "ipc", "uts")


class Pod:
    """One sandbox of `runtime`; `sandbox` is its container, running."""

    def __init__(self, runtime: Runtime, bundle: BundleMaker, pause: Sequence[str] = PAUSE, **changes: Any) -> None:
        self.runtime = runtime
        self._bundle = bundle
        self.id = runtime.new_id("pod")
        notes = {f"{PREFIX}.container-type": "sandbox", f"{PREFIX}.sandbox-id": self.id}
        self.sandbox = runtime.start(bundle(*pause, annotations=notes, **changes), id=self.id)

    @property
    def notes(self) -> dict[str, str]:
        return {f"{PREFIX}.container-type": "container", f"{PREFIX}.sandbox-id": self.id}

    def bundle(self, *args: str, shared: Sequence[str] = SHARED, **changes: Any) -> Bundle:
        """A member's: `shared` are the namespaces it has in common with the sandbox."""
        pid, edit = self.sandbox.pid, changes.pop("edit", None)

        def join(spec: Spec) -> None:
            for namespace in spec["linux"]["namespaces"]:
                if namespace["type"] in shared:
                    namespace["path"] = f"/proc/{pid}/ns/{namespace['type'].replace('network', 'net')}"
            if edit is not None:
                edit(spec)

        return self._bundle(*args, edit=join, **{"annotations": self.notes, **changes})

    def create(self, *args: str, **changes: Any) -> Container:
        return self.runtime.create(self.bundle(*args, **changes))

    def try_create(self, *args: str, **changes: Any) -> tuple[Container, Result]:
        return self.runtime.try_create(self.bundle(*args, **changes))

    def start(self, *args: str, **changes: Any) -> Container:
        container = self.create(*args, **changes)
        container.start()
        return container

    def crash_loop(self) -> Callable[[], None]:
        """What restarts a member with limits that fails at once, as an engine does: each call is a whole life."""
        resources = {"memory": {"limit": 64 << 20}, "cpu": {"quota": 50_000, "period": 100_000}, "pids": {"limit": 50}}
        bundle = self.bundle("sh", "-c", "echo crash >> /log; exit 3", resources=resources)

        def restart() -> None:
            container = self.runtime.create(bundle)
            container.start()
            assert container.wait(BOOT_S) == 3
            container.delete()

        return restart
