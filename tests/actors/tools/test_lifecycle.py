"""The table of a tool call's life."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.actors.tools.lifecycle import TERMINAL, TRANSITIONS, Lifecycle, State, Step, step
from laneway.routing.errors import LocalProtocolError


def test_every_state_but_the_last_has_a_way_out() -> None:
    """No call can be stuck: each open state leads on, and only a late report leaves an unknown outcome."""
    for state in State:
        leads_on = {follow for (before, _), follow in TRANSITIONS.items() if before is state}
        if state in TERMINAL - {State.OUTCOME_UNKNOWN}:
            assert not leads_on
        else:
            assert leads_on
    late = {follow for (before, _), follow in TRANSITIONS.items() if before is State.OUTCOME_UNKNOWN}
    assert late <= TERMINAL
    assert State.RUNNING not in late


def test_an_unknown_outcome_comes_only_from_running() -> None:
    """Before the effect may have begun a loss is not possible, only a failure."""
    assert {before for (before, _), follow in TRANSITIONS.items() if follow is State.OUTCOME_UNKNOWN} == {State.RUNNING}


@given(st.lists(st.sampled_from(Step), max_size=12))
def test_any_sequence_either_follows_the_table_or_is_refused_without_effect(steps: list[Step]) -> None:
    """A refused step changes nothing, and `started` is true exactly if RUNNING was ever reached."""
    life = Lifecycle()
    seen = [life.state]
    for each in steps:
        before = life.state
        try:
            life.step(each)
        except LocalProtocolError:
            assert life.state is before
            assert (before, each) not in TRANSITIONS
        seen.append(life.state)
    assert life.started == (State.RUNNING in seen)
    assert life.terminal == (life.state in TERMINAL)


def test_a_finished_call_does_not_start_again() -> None:
    """There is no row from an end back to the start."""
    with pytest.raises(LocalProtocolError, match="succeeded"):
        step(State.SUCCEEDED, Step.START)
