"""Where a container comes to live, against a control server that is real."""

import contextlib
from collections.abc import Callable
from typing import Any

from katapy.cli import places
from katapy.config import Config
from katapy.sandbox import plan, pods, store

SPEC = {"ociVersion": "1.0.2", "root": {"path": "/"}, "linux": {"namespaces": [{"type": "network"}]}}


def test_a_pod_forgets_a_member_whose_create_fails_after_its_answer(
    root: str, make: Callable[..., store.State], supervise: Callable[..., Any]
) -> None:
    sandbox = make()
    supervisor = supervise(create=lambda fields: {"timings": {}}, delete=lambda fields: {})
    member = plan.plan_container("m1", "/bundle", SPEC, {})
    place = places.InPod(root, pods.Pod(sandbox, {}), member, Config())
    with contextlib.ExitStack() as undo:
        assert place.ask({"id": "m1"}, (), undo) == {"timings": {}}
        assert [op for op, _ in supervisor.asked] == ["create"]
    assert supervisor.asked[1:] == [("delete", {"id": "m1", "force": True})]
