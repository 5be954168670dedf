"""What may happen to a container, and what it is then: one table. Runs in the agent.

creating --created--> created --started--> running --paused--> paused --resumed--> running
created --paused--> paused before its start --resumed--> created
and from each but the first --exited--> stopped. A missing key is the error.
"""

from enum import StrEnum

from katapy.errors import WrongStatus


class State(StrEnum):
    CREATING = "creating"
    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    PAUSED_CREATED = "paused before its start"
    STOPPED = "stopped"


class Event(StrEnum):
    CREATED = "created"
    STARTED = "started"
    PAUSED = "paused"
    RESUMED = "resumed"
    EXITED = "exited"


TRANSITIONS = {
    (State.CREATING, Event.CREATED): State.CREATED,
    (State.CREATED, Event.STARTED): State.RUNNING,
    (State.CREATED, Event.PAUSED): State.PAUSED_CREATED,
    (State.CREATED, Event.EXITED): State.STOPPED,
    (State.RUNNING, Event.PAUSED): State.PAUSED,
    (State.RUNNING, Event.EXITED): State.STOPPED,
    (State.PAUSED, Event.RESUMED): State.RUNNING,
    (State.PAUSED, Event.EXITED): State.STOPPED,
    (State.PAUSED_CREATED, Event.RESUMED): State.CREATED,
    (State.PAUSED_CREATED, Event.EXITED): State.STOPPED,
}

REFUSALS = {
    (State.RUNNING, Event.STARTED): "cannot start an already running container",
    (State.PAUSED, Event.STARTED): "cannot start a container in the paused state",
    (State.PAUSED_CREATED, Event.STARTED): "cannot start a container in the paused state",
    (State.STOPPED, Event.STARTED): "cannot start a container that has stopped",
    (State.RUNNING, Event.RESUMED): "container not paused",
}
"""Where runc has words of its own that engines look for."""

DEFAULT_REFUSALS = {Event.PAUSED: "container not running", Event.RESUMED: "container not paused"}


def next_state(state: State, event: Event) -> State:
    """The state after `event`. Raises WrongStatus if it can't happen."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        words = REFUSALS.get((state, event)) or DEFAULT_REFUSALS.get(event) or f"not {event}: container is {state}"
        raise WrongStatus(words) from None
