"""A ContainerPlan as text and back: how `create` hands a container to the supervisor of its pod. CLI, supervisor. Pure.

Both ends are the same katapy and root: what is checked is the shape.
"""

import msgspec

from katapy.errors import UsageError
from katapy.oci.ids import check_id
from katapy.sandbox.plan import ContainerPlan


def encode(plan: ContainerPlan) -> str:
    return msgspec.json.encode(plan).decode()


def decode(text: str) -> ContainerPlan:
    """Raises UsageError."""
    try:
        plan = msgspec.json.decode(text, type=ContainerPlan)
    except msgspec.MsgspecError as e:
        raise UsageError(f"the plan of the container is malformed: {e}") from e
    check_id(plan.id)
    return plan
