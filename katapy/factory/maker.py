"""Gets a template: the one that is there, or a new one. Runs in the CLI (`create`, `factory init`).

A `create` that finds none makes it itself, in its own process, and clones it at once: that takes little longer than the
cold boot it would have been, nothing outlives the call, and whoever wants the same template meanwhile waits for it
(docs/decisions/0005-templates.md).
"""

import contextlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from katapy.errors import Interrupted, KatapyError
from katapy.factory.blueprint import Blueprint, files, is_stale
from katapy.factory.store import Store
from katapy.hypervisor.vm import Driver
from katapy.protocol import names

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Obtained:
    """`path` of the template, or empty; then `warning` says why there is none."""

    path: str
    warning: str = ""


def obtain(store: Store, blueprint: Blueprint, driver: Driver, keep: int, deadline_s: float, say: Say) -> Obtained:
    """Never raises for want of a template: there is always the cold boot. `say` is told when it takes long.

    Raises Interrupted.
    """
    try:
        if (found := store.find(blueprint.key)) is not None:
            return Obtained(found)
        if (reason := store.failure(blueprint.key)) is not None:
            return Obtained("", f"no template, so a cold boot: making it failed a short while ago: {reason}")
        return Obtained(make(store, blueprint, driver, keep, deadline_s, say))
    except Interrupted:
        raise
    except KatapyError as e:
        return Obtained("", f"no template, so a cold boot: {e}")


def make(store: Store, blueprint: Blueprint, driver: Driver, keep: int, deadline_s: float, say: Say) -> str:
    """The folder of the template, which somebody else may have made meanwhile. A failure is remembered. KatapyError."""
    key = blueprint.key
    with store.lock(key, deadline_s):
        if (found := store.find(key)) is not None:
            return found
        if (reason := store.failure(key)) is not None:
            raise KatapyError(f"making it failed a short while ago: {reason}")
        store.collect(max(keep - 1, 0), {t.key for t in store.templates() if is_stale(t.description)})
        say(f"making a template of {blueprint.spec.memory_mib} MiB and {blueprint.spec.vcpus} vCPU; this is done once")
        begun = time.monotonic()
        line = json.dumps({"version": names.PROTOCOL_VERSION, "template": True}).encode() + b"\n"
        try:
            with store.new(key, _description(blueprint)) as folder:
                state = f"{folder}/machine"
                os.mkdir(state, 0o700)
                try:
                    driver.save(blueprint.spec, state, folder, line, deadline_s)
                finally:
                    _clear(state)
        except Interrupted:
            raise
        except KatapyError as e:
            store.mark_failed(key, str(e))
            raise
        say(f"the template took {time.monotonic() - begun:.1f} s")
    return f"{store.directory}/{key}"


def _description(blueprint: Blueprint) -> dict[str, object]:
    size = {"memory_mib": blueprint.spec.memory_mib, "vcpus": blueprint.spec.vcpus}
    return {"ingredients": dict(blueprint.ingredients), "files": files(blueprint.spec), **size}


def _clear(folder: str) -> None:
    """The socket and the console's log of the machine that was saved."""
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{folder}/{name}")
    os.rmdir(folder)
