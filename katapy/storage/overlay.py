"""Overlays that a spec mounts (Podman's `-v DIR:/x:O`, `--mount type=image`): their directories are the host's, so the
host mounts them, and the guest gets a bind. Runs in the supervisor, and in a child of the CLI (sandbox/trees).
"""

import contextlib
import os
from dataclasses import dataclass

from katapy.linux import mount_tree


@dataclass(frozen=True, slots=True)
class Overlay:
    """Absolute paths on the host; without `upper` it is read-only. `options`: the other ones of the file system."""

    lower: tuple[str, ...]
    upper: str
    work: str
    options: tuple[str, ...]

    @property
    def directories(self) -> tuple[str, ...]:
        return (*self.lower, *filter(None, (self.upper, self.work)))


def mount_overlay(overlay: Overlay) -> int:
    """A detached mount (a descriptor, the caller's). Raises OSError.

    Its directories are opened first, and named by their descriptors: nothing can be swapped in between, and the kernel
    takes no text of more than 255 bytes, which is enough for a dozen lower ones.
    """
    with contextlib.ExitStack() as stack:

        def name(path: str) -> str:
            fd = mount_tree.open_without_links(os.path.realpath(path))
            stack.callback(os.close, fd)
            return f"/proc/self/fd/{fd}"

        options: list[tuple[str, str | None]] = [("lowerdir", ":".join(map(name, overlay.lower)))]
        options += [(key, name(path)) for key, path in (("upperdir", overlay.upper), ("workdir", overlay.work)) if path]
        options += [
            (key, value if given else None) for key, given, value in (o.partition("=") for o in overlay.options)
        ]
        return mount_tree.new_mount("overlay", options)
