"""A ContainerPlan as text and back: how `create` hands a container to the supervisor of its pod. CLI, supervisor. Pure.

Both ends are the same katapy and root: what is checked is the shape.
"""

import json
from dataclasses import astuple, fields
from typing import Any

from katapy.errors import UsageError
from katapy.oci.ids import check_id
from katapy.sandbox.blocks import BlockPlan
from katapy.sandbox.demand import Demand
from katapy.sandbox.plan import BindPlan, ContainerPlan
from katapy.sandbox.sources import Memory
from katapy.storage.shared_directory import ReadOnly


def encode(plan: ContainerPlan) -> str:
    document = {f.name: getattr(plan, f.name) for f in fields(plan)}
    document["spec_json"] = plan.spec_json.decode()
    document["memory"] = [astuple(m) for m in plan.memory]
    document["binds"] = [(b.index, b.source, b.readonly.value, b.recursive) for b in plan.binds]
    document["demand"] = astuple(plan.demand)
    document["blocks"] = [astuple(b) for b in plan.blocks]
    return json.dumps(document, separators=(",", ":"))


def decode(text: str) -> ContainerPlan:
    """Raises UsageError."""
    try:
        document: dict[str, Any] = json.loads(text)
        document["id"] = check_id(document["id"])
        document["spec_json"] = document["spec_json"].encode()
        document["binds"] = tuple(BindPlan(i, s, ReadOnly(r), x) for i, s, r, x in document["binds"])
        document["memory"] = tuple(Memory(*fields) for fields in document["memory"])
        document["blocks"] = tuple(BlockPlan(*fields) for fields in document["blocks"])
        document["demand"] = Demand(*document["demand"])
        document["namespaces"] = tuple((kind, path) for kind, path in document["namespaces"])
        if document["console_size"] is not None:
            columns, rows = document["console_size"]
            document["console_size"] = (int(columns), int(rows))
        return ContainerPlan(**document)
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise UsageError(f"the plan of the container is malformed: {e}") from e
