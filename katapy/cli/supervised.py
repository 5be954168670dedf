"""What the verbs on a living container share: one request to its supervisor, and what to say if that is gone."""

from katapy.cli.supervisor_process import check_not_frozen
from katapy.control import client
from katapy.errors import WrongStatus
from katapy.sandbox import store

TYPE_CHECKING = False  # typing's own constant costs typing
if TYPE_CHECKING:
    from katapy.control.messages import Fields


def ask(
    root: str, state: store.State, op: str, fields: "Fields", stopped: str, deadline_s: float = client.REQUEST_S
) -> "Fields":
    """Sends `op`.

    Raises WrongStatus if the supervisor is gone (`stopped`) or not there yet, Timeout if it is frozen, what client.call
    raises.
    """
    if state.status == "stopped":
        raise WrongStatus(stopped)
    check_not_frozen(state)
    try:
        return client.call(
            store.control_path(root, state.sandbox), op, {"id": state.id, **fields}, deadline_s=deadline_s
        )
    except client.SupervisorGone as e:
        raise WrongStatus("the container is still being created" if state.status == "creating" else stopped) from e
