"""The table of a container's states."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katapy.agent.lifecycle import TRANSITIONS, Event, State, next_state
from katapy.errors import WrongStatus


@given(st.sampled_from(State), st.sampled_from(Event))
def test_a_missing_key_is_the_error(state: State, event: Event) -> None:
    if (state, event) in TRANSITIONS:
        assert next_state(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(WrongStatus):
            next_state(state, event)


def test_nothing_leads_out_of_stopped() -> None:
    assert not any(state is State.STOPPED for state, _ in TRANSITIONS)


@pytest.mark.parametrize(
    "state,event,text",
    [
        (State.RUNNING, Event.STARTED, "cannot start an already running container"),
        (State.STOPPED, Event.STARTED, "cannot start a container that has stopped"),
        (State.PAUSED, Event.PAUSED, "container not running"),
        (State.PAUSED_CREATED, Event.STARTED, "cannot start a container in the paused state"),
        (State.RUNNING, Event.RESUMED, "container not paused"),
    ],
)
def test_words_that_engines_look_for(state: State, event: Event, text: str) -> None:
    with pytest.raises(WrongStatus, match=text):
        next_state(state, event)
