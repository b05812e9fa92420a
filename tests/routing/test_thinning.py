"""What is left out under overload, and that the rest is still well formed."""

from __future__ import annotations

import itertools
from collections import Counter

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.routing.classify import BUILTIN_KINDS, Kind, KindTable
from laneway.routing.envelope import ENTITY, KIND, RUN, Envelope, envelope
from laneway.routing.lanes import Lane
from laneway.routing.shedding import Shedding
from laneway.routing.thinning import Thinner

_OUT = [kind for kind in BUILTIN_KINDS if kind.direction != "in"]
_STEPS = {"STEP_STARTED", "STEP_FINISHED"}
_PAIRS = {
    "STEP_STARTED": "STEP_FINISHED",
    "REASONING_START": "REASONING_END",
    "REASONING_MESSAGE_START": "REASONING_MESSAGE_END",
}
_KINDS = KindTable([Kind("TRACE", Lane.NORMAL, detail=True)])
_COUNTER = itertools.count(1)


def _event(kind: str, entity: str = "", run: str = "r", **fields: object) -> Envelope:
    body = msgpack.packb(fields) if fields else b""
    return envelope(
        kind,
        producer="p",
        counter=next(_COUNTER),
        tenant="t",
        session="s",
        run=run,
        entity=entity,
        lane=_KINDS.lane(kind),
        body=body,
        accepted=0.0,
    )


class _Session:
    """A thinner with its level and its counts."""

    def __init__(self) -> None:
        self.shedding = Shedding()
        self.dropped: Counter[str] = Counter()
        self.thinner = Thinner(self.shedding, _KINDS, lambda kind: self.dropped.update([kind]))

    def at(self, level: int, *events: Envelope) -> list[bool]:
        self.shedding.set_level(level)
        return [self.thinner.passes(env) for env in events]


@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize("kind", _OUT, ids=lambda kind: kind.name)
def test_each_kind_passes_up_to_its_level(kind: Kind, level: int) -> None:
    """Low droppable kinds at level 0, what begins a detail up to level 1, everything else always."""
    ends = kind.name in (*_PAIRS.values(), "REASONING_MESSAGE_CONTENT")  # it began when all was well
    passes = not (kind.droppable and level >= 1) and not (kind.detail and level >= 2 and not ends)
    session = _Session()
    assert session.at(level, _event(kind.name, "m")) == [passes]
    assert session.dropped == ({} if passes else {kind.name: 1})


def test_detail_is_marked_in_the_table_and_nothing_else_is() -> None:
    """Steps, reasoning and activities; no text, no tool call, no state, no mark of a run."""
    detail = {kind.name for kind in BUILTIN_KINDS if kind.detail}
    assert detail == {
        *_PAIRS,
        *_PAIRS.values(),
        "REASONING_MESSAGE_CONTENT",
        "ACTIVITY_SNAPSHOT",
        "ACTIVITY_DELTA",
    }


def test_a_step_that_is_shown_is_ended() -> None:
    """The level rises inside a step: its end passes; a step that was left out has no end either, however calm it is."""
    session = _Session()
    assert session.at(0, _event("STEP_STARTED", stepName="a")) == [True]
    assert session.at(2, _event("STEP_STARTED", stepName="b"), _event("STEP_FINISHED", stepName="a")) == [False, True]
    assert session.at(0, _event("STEP_FINISHED", stepName="b", timestamp=7)) == [False]
    assert session.at(0, _event("STEP_STARTED", stepName="b"), _event("STEP_FINISHED", stepName="b")) == [True, True]
    assert session.thinner.omitted == {}


def test_steps_of_one_name_are_told_apart_by_run_and_subagent() -> None:
    """What one left out says nothing about the other."""
    session = _Session()
    session.at(2, _event("STEP_STARTED", stepName="a"), _event("STEP_STARTED", stepName="b", subagentRunId="x"))
    others = [_event("STEP_FINISHED", run="q", stepName="a"), _event("STEP_FINISHED", stepName="b")]
    assert session.at(0, *others) == [True, True]
    own = [_event("STEP_FINISHED", stepName="a"), _event("STEP_FINISHED", stepName="b", subagentRunId="x")]
    assert session.at(0, *own) == [False, False]


def test_a_reasoning_is_left_out_whole() -> None:
    """Deltas and end follow their start; a message inside a reasoning that was left out is left out too."""
    session = _Session()
    assert session.at(2, _event("REASONING_START", "m")) == [False]
    inside = ["REASONING_MESSAGE_START", "REASONING_MESSAGE_CONTENT", "REASONING_MESSAGE_END", "REASONING_END"]
    assert session.at(0, *(_event(kind, "m") for kind in inside)) == [False] * 4
    assert session.at(0, *(_event(kind, "n") for kind in ("REASONING_START", *inside))) == [True] * 5


def test_a_patch_waits_for_a_snapshot() -> None:
    """Once one is left out, later patches of that activity are too, in any run, until a snapshot passes."""
    session = _Session()
    assert session.at(1, _event("ACTIVITY_SNAPSHOT", "a"), _event("ACTIVITY_DELTA", "a")) == [True, True]
    assert session.at(2, _event("ACTIVITY_DELTA", "a")) == [False]
    later = [_event("RUN_FINISHED"), _event("ACTIVITY_DELTA", "a", "next"), _event("ACTIVITY_DELTA", "other")]
    assert session.at(0, *later) == [True, False, True]
    assert session.at(0, _event("ACTIVITY_SNAPSHOT", "a"), _event("ACTIVITY_DELTA", "a")) == [True, True]


def test_the_end_of_a_run_ends_what_it_left_out() -> None:
    """Nothing of it comes again, so nothing is kept of it."""
    session = _Session()
    session.at(2, _event("STEP_STARTED", stepName="a"), _event("REASONING_START", "m"), _event("STEP_STARTED", run="q"))
    assert session.at(3, _event("RUN_ERROR")) == [True]
    assert {key[0] for key in session.thinner.omitted} == {"q"}


def test_kinds_of_ones_own_are_detail_if_they_say_so() -> None:
    """Each event by itself."""
    session = _Session()
    assert session.at(1, _event("TRACE")) == [True]
    assert session.at(2, _event("TRACE")) == [False]
    assert session.at(0, _event("TRACE")) == [True]


def test_what_is_remembered_is_bounded() -> None:
    """The oldest is forgotten, and a body that is no map does no harm."""
    session = _Session()
    session.at(2, *(_event("STEP_STARTED", stepName=str(number)) for number in range(1000)))
    assert len(session.thinner.omitted) == 256
    broken = (*_event("STEP_STARTED")[:11], b"\xff not a map", 0.0)
    assert session.at(2, broken) == [False]


_NAMES = st.sampled_from(["a", "b"])
_BLOCKS = st.lists(
    st.tuples(st.sampled_from(sorted(_PAIRS)), _NAMES, st.integers(0, 3), st.integers(0, 3)), max_size=30
)


@given(_BLOCKS)
def test_whatever_the_level_does_nothing_ends_that_did_not_begin(blocks: list[tuple[str, str, int, int]]) -> None:
    """Blocks that open at one level and close at another: what goes out is a sequence of whole blocks."""
    session = _Session()
    shown: list[tuple[str, str]] = []
    for kind, name, opens_at, closes_at in blocks:
        fields = {"stepName": name} if kind in _STEPS else {}
        entity = "" if fields else name
        for level, event in (
            (opens_at, _event(kind, entity, **fields)),
            (closes_at, _event(_PAIRS[kind], entity, **fields)),
        ):
            if session.at(level, event) == [True]:
                shown.append((event[KIND], event[ENTITY] + event[RUN]))
    assert len(shown) % 2 == 0
    for (begin, owner), (end, ended) in zip(shown[::2], shown[1::2], strict=True):
        assert (_PAIRS[begin], owner) == (end, ended)
    assert session.thinner.omitted == {}
