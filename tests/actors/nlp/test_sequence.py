"""AG-UI sequence rules."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.actors.nlp import vocabulary as v
from laneway.actors.nlp.sequence import RunSequence
from laneway.actors.ports import Out
from laneway.routing.envelope import SEAL
from laneway.routing.errors import ModelFailed

STEP = v.mark("STEP_STARTED", {"stepName": "plan"})
SUBAGENT = v.mark("SUBAGENT_STARTED", {"subagentRunId": "sub", "name": "helper"})


def _all(sequence: RunSequence, *outs: Out) -> None:
    for out in outs:
        sequence.offer(out)


def test_a_whole_run_leaves_nothing_open() -> None:
    """Interleaved entities are legal, and what was ended needs no closing."""
    sequence = RunSequence()
    _all(sequence, STEP, v.text_start("m"), v.tool_start("c", "t"), v.text("m", "a"), v.tool_arguments("c", "{}"))
    _all(sequence, *v.reasoning_start("r"), v.reasoning("r", "hm"), v.tool_end("c"), v.text_end("m"))
    _all(sequence, *v.reasoning_end("r"), v.mark("STEP_FINISHED", {"stepName": "plan"}))
    assert len(sequence) == 0
    assert sequence.closing() == []


@pytest.mark.parametrize(
    "out",
    [
        v.text("m", "a"),
        v.text_end("m"),
        v.tool_arguments("c", "{"),
        v.tool_end("c"),
        v.reasoning("r", "x"),
        v.mark("STEP_FINISHED", {"stepName": "plan"}),
        v.mark("SUBAGENT_FINISHED", {"subagentRunId": "sub"}),
        v.mark("TEXT_MESSAGE_START", {}),
        Out("STEP_STARTED", b"\xc1"),
    ],
    ids=lambda out: out.kind,
)
def test_what_has_no_start_is_refused(out: Out) -> None:
    """Content and ends of something that is not open, and nameless starts, are SEQUENCE errors."""
    sequence = RunSequence()
    with pytest.raises(ModelFailed, match=out.kind) as caught:
        sequence.offer(out)
    assert caught.value.reason == "SEQUENCE"
    assert len(sequence) == 0


def test_a_second_start_is_refused_and_a_later_one_is_not() -> None:
    """An id may be opened again only after its end."""
    sequence = RunSequence()
    _all(sequence, v.text_start("m"))
    with pytest.raises(ModelFailed, match="open already"):
        sequence.offer(v.text_start("m"))
    _all(sequence, v.text_end("m"), v.text_start("m"))
    assert len(sequence) == 1


def test_closing_is_innermost_first_and_valid() -> None:
    """What closes a run is itself accepted, in reverse order of opening, with its owner."""
    sequence = RunSequence()
    owned = v.mark("TEXT_MESSAGE_START", {"messageId": "m", "role": "assistant", "subagentRunId": "sub"}, "m")
    _all(sequence, STEP, SUBAGENT, owned, v.tool_start("c", "t"), *v.reasoning_start("r"))
    closing = sequence.closing()
    assert [out.kind for out in closing] == [
        "REASONING_MESSAGE_END",
        "REASONING_END",
        "TOOL_CALL_END",
        "TEXT_MESSAGE_END",
        "SUBAGENT_FINISHED",
        "STEP_FINISHED",
    ]
    assert v.fields_of(closing[3]) == {"messageId": "m", "subagentRunId": "sub"}
    _all(sequence, *closing)
    assert len(sequence) == 0


def test_an_entity_keeps_its_owner() -> None:
    """A delta that names another subagent than its message is refused; a plain one inherits."""
    sequence = RunSequence()
    _all(sequence, SUBAGENT, v.mark("TEXT_MESSAGE_START", {"messageId": "m", "subagentRunId": "sub"}, "m"))
    _all(sequence, v.text("m", "mine"))
    foreign = Out("TEXT_MESSAGE_CONTENT", bytes([SEAL]) + msgpack.packb({"delta": "x", "subagentRunId": "o"}), "m")
    with pytest.raises(ModelFailed, match="belongs to"):
        sequence.offer(foreign)


def test_open_entities_are_bounded() -> None:
    """A model that opens for ever is stopped."""
    sequence = RunSequence()
    _all(sequence, *(v.text_start(f"m{n}") for n in range(1_024)))
    with pytest.raises(ModelFailed, match="1025"):
        sequence.offer(v.text_start("one-more"))


ATOMS = st.sampled_from(
    [
        make(name)
        for name in ("a", "b")
        for make in (
            v.text_start,
            v.text_end,
            v.tool_end,
            lambda n: v.text(n, "x"),
            lambda n: v.tool_start(n, "t"),
            lambda n: v.mark("STEP_STARTED", {"stepName": n}),
            lambda n: v.mark("STEP_FINISHED", {"stepName": n}),
        )
    ]
)


@given(st.lists(st.tuples(ATOMS, st.booleans()), max_size=40))
def test_whatever_came_the_closing_closes_it(steps: list[tuple[Out, bool]]) -> None:
    """After any stream, with refused and retracted events in it, closing() leaves nothing open."""
    sequence = RunSequence()
    for out, sent in steps:
        before = set(map(str, sequence.closing()))
        try:
            sequence.offer(out)
        except ModelFailed:
            assert set(map(str, sequence.closing())) == before
            continue
        if not sent:
            sequence.retract()
            assert set(map(str, sequence.closing())) == before
    _all(sequence, *sequence.closing())
    assert len(sequence) == 0
