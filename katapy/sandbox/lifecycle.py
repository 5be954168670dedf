"""The life of a container and of an exec, as tables. Pure; used by the supervisor.

A missing key is the error.
"""

from enum import StrEnum

from katapy.errors import WrongStatus


class Status(StrEnum):
    CREATING = "creating"
    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


class Action(StrEnum):
    CREATED = "created"
    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    EXEC = "exec"
    KILL = "kill"
    UPDATE = "update"
    STATS = "stats"
    EXIT = "exit"


S, A = Status, Action
TRANSITIONS: dict[tuple[Status, Action], Status] = {
    (S.CREATING, A.CREATED): S.CREATED,
    (S.CREATED, A.START): S.RUNNING,
    (S.RUNNING, A.PAUSE): S.PAUSED,
    (S.CREATED, A.PAUSE): S.PAUSED,
    (S.PAUSED, A.RESUME): S.RUNNING,
    **{(s, A.EXEC): s for s in (S.CREATED, S.RUNNING)},
    **{(s, a): s for s in (S.CREATED, S.RUNNING, S.PAUSED) for a in (A.KILL, A.UPDATE, A.STATS)},
    **{(s, A.EXIT): S.STOPPED for s in Status if s is not S.STOPPED},
}

_MESSAGES: dict[Action, dict[Status, str]] = {
    A.START: {
        S.RUNNING: "cannot start an already running container",
        S.STOPPED: "cannot start a container that has stopped",
        S.PAUSED: "cannot start a container in the paused state",
    },
    A.EXEC: {
        S.STOPPED: "cannot exec in a stopped container",
        S.PAUSED: "cannot exec in a paused container (use --ignore-paused to override)",
    },
    A.PAUSE: {S.PAUSED: "container not running", S.STOPPED: "container not running"},
    A.RESUME: dict.fromkeys((S.CREATED, S.RUNNING, S.STOPPED), "container not paused"),
    A.KILL: {S.STOPPED: "container not running"},
    A.UPDATE: {S.STOPPED: "container not running"},
    A.STATS: {S.STOPPED: "container with id {id} is not running"},
}
"""runc's words: engines look for them."""


def advance(container_id: str, status: Status, action: Action) -> Status:
    """The status after `action`. Raises WrongStatus with runc's message."""
    try:
        return TRANSITIONS[status, action]
    except KeyError:
        template = _MESSAGES.get(action, {}).get(status, "cannot {action} a container in the {status} state")
        message = template.format(id=container_id, action=action.value, status=status.value)
        raise WrongStatus(message) from None
