"""The life of one tool call, as a table: what is not a row cannot happen.

Law of this file: a call is in exactly one state, and an effect may only happen in `RUNNING`.
`INTENDED` means the arguments are good and the call waits for its turn: whatever stops it there has
certainly had no effect. From `RUNNING` on, silence is not proof of absence: a crash leads to
`OUTCOME_UNKNOWN`, never back to the start, unless the tool was declared repeatable (`RETRY`). The only
way out of `OUTCOME_UNKNOWN` is the late report of the call itself.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import Final

from laneway.routing.errors import LocalProtocolError

__all__ = ["TERMINAL", "TRANSITIONS", "Lifecycle", "State", "Step", "step"]


class State(StrEnum):
    """Where a call is; the value is what records and spans show."""

    REQUESTED = "requested"
    INTENDED = "intended"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    OUTCOME_UNKNOWN = "outcome_unknown"


class Step(StrEnum):
    """What may happen to a call."""

    ADMIT = "admit"
    """Known tool, allowed principal, good arguments, first of its id."""
    START = "start"
    """Its turn has come and the intent is recorded; the effect may begin."""
    RETRY = "retry"
    """A repeatable call failed in passing and waits for another attempt."""
    SUCCEED = "succeed"
    FAIL = "fail"
    EXPIRE = "expire"
    CANCEL = "cancel"
    LOSE = "lose"
    """Whoever ran it is gone without a report."""


TRANSITIONS: Final = MappingProxyType(
    {
        (State.REQUESTED, Step.ADMIT): State.INTENDED,
        (State.REQUESTED, Step.FAIL): State.FAILED,
        (State.REQUESTED, Step.EXPIRE): State.TIMED_OUT,
        (State.REQUESTED, Step.CANCEL): State.CANCELLED,
        (State.INTENDED, Step.START): State.RUNNING,
        (State.INTENDED, Step.FAIL): State.FAILED,
        (State.INTENDED, Step.EXPIRE): State.TIMED_OUT,
        (State.INTENDED, Step.CANCEL): State.CANCELLED,
        (State.RUNNING, Step.SUCCEED): State.SUCCEEDED,
        (State.RUNNING, Step.FAIL): State.FAILED,
        (State.RUNNING, Step.EXPIRE): State.TIMED_OUT,
        (State.RUNNING, Step.CANCEL): State.CANCELLED,
        (State.RUNNING, Step.LOSE): State.OUTCOME_UNKNOWN,
        (State.RUNNING, Step.RETRY): State.INTENDED,
        (State.OUTCOME_UNKNOWN, Step.SUCCEED): State.SUCCEEDED,
        (State.OUTCOME_UNKNOWN, Step.FAIL): State.FAILED,
        (State.OUTCOME_UNKNOWN, Step.EXPIRE): State.TIMED_OUT,
        (State.OUTCOME_UNKNOWN, Step.CANCEL): State.CANCELLED,
    }
)

_FOLLOWING: Final = dict(TRANSITIONS)  # three times a call: it is read at half of the price

TERMINAL: Final = frozenset({State.SUCCEEDED, State.FAILED, State.TIMED_OUT, State.CANCELLED, State.OUTCOME_UNKNOWN})
"""States a caller is answered in; only OUTCOME_UNKNOWN can still be corrected by a late report."""


def step(state: State, happened: Step) -> State:
    """Return the next state. Raises LocalProtocolError if the table has no such row."""
    following = TRANSITIONS.get((state, happened))
    if following is None:
        raise LocalProtocolError(f"a tool call that is {state} cannot {happened}; see the table in lifecycle.py")
    return following


class Lifecycle:
    """One call's state and whether its effect may have begun.

    Attributes:
        state: current state.
        started: True once it was ever RUNNING: from then on its effect may have happened.
    """

    __slots__ = ("started", "state")

    def __init__(self) -> None:
        self.state = State.REQUESTED
        self.started = False

    def step(self, happened: Step) -> State:
        """Apply one step. Raises LocalProtocolError if it cannot happen now."""
        following = _FOLLOWING.get((self.state, happened)) or step(self.state, happened)
        self.state = following
        if following is State.RUNNING:
            self.started = True
        return following

    @property
    def terminal(self) -> bool:
        """True once the caller can be answered."""
        return self.state in TERMINAL
