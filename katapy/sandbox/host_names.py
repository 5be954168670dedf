"""What the guest calls the files of the host in its errors, in the words of whoever wrote the spec. Pure; runs in the
supervisor.

crun says "mount `/run/katapy/shared/@2/mounts/0` to ...": a path that nobody outside of the guest has heard of.
"""

from collections.abc import Mapping

from katapy.errors import KatapyError, from_wire
from katapy.sandbox.guest_spec import guest_container_dir
from katapy.sandbox.plan import ContainerPlan


def named_by_host(error: KatapyError, container: ContainerPlan, paths: Mapping[int, str]) -> KatapyError:
    """The same error about a container, with the host's paths. `paths`: of its binds in the guest, by their index.

    What the guest says stays short: each path is put in once.
    """
    text = str(error)
    for bind in container.binds:
        text = text.replace(paths[bind.index], bind.source, 1)
    text = text.replace(f"{guest_container_dir(container.id)}/rootfs", container.rootfs, 1)
    return from_wire(error.kind, text)
