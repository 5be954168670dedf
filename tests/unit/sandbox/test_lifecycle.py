"""The table of a container's life, and runc's words for what it forbids."""

import pytest

from katapy.errors import WrongStatus
from katapy.sandbox.lifecycle import TRANSITIONS, Action, Status, advance


def test_the_ordinary_life() -> None:
    status = Status.CREATING
    for action in (Action.CREATED, Action.START, Action.PAUSE, Action.RESUME, Action.EXIT):
        status = advance("c1", status, action)
    assert status is Status.STOPPED


def test_nothing_leaves_stopped() -> None:
    assert not [key for key in TRANSITIONS if key[0] is Status.STOPPED]


@pytest.mark.parametrize(
    "status, action, message",
    [
        (Status.RUNNING, Action.START, "cannot start an already running container"),
        (Status.STOPPED, Action.START, "cannot start a container that has stopped"),
        (Status.PAUSED, Action.START, "cannot start a container in the paused state"),
        (Status.STOPPED, Action.KILL, "container not running"),
        (Status.RUNNING, Action.RESUME, "container not paused"),
        (Status.PAUSED, Action.PAUSE, "container not running"),
        (Status.STOPPED, Action.EXEC, "cannot exec in a stopped container"),
        (Status.PAUSED, Action.EXEC, "cannot exec in a paused container (use --ignore-paused to override)"),
        (Status.STOPPED, Action.STATS, "container with id c1 is not running"),
        (Status.CREATING, Action.START, "cannot start a container in the creating state"),
    ],
)
def test_what_is_forbidden_is_said_as_runc_says_it(status: Status, action: Action, message: str) -> None:
    with pytest.raises(WrongStatus) as error:
        advance("c1", status, action)
    assert str(error.value) == message
