"""A batch is answered per event, whatever its handler returns."""

from __future__ import annotations

import asyncio

import pytest

from laneway.actors.endings import cancelled
from laneway.actors.pools.batch import BatchTurn
from laneway.actors.ports import Out


def _batch(rig, handler, count=3):
    answers = rig.Answers()
    return BatchTurn([rig.event(n) for n in range(1, count + 1)], handler, rig.Context, answers), answers


def test_a_batch_is_answered_per_event(rig):
    """One exception in the list fails its event and no neighbour."""

    async def handler(events, contexts):
        return [b"one", ValueError("two"), Out("THREE")]

    turn, answers = _batch(rig, handler)
    asyncio.run(turn.run())
    assert answers.status() == {1: "handled", 2: "failed", 3: "handled"}
    assert answers[1].value == b"one"


@pytest.mark.parametrize("result", [[None], "abc", Out("A", b"", "")], ids=["short", "string", "one out"])
def test_a_batch_of_the_wrong_length_fails_whole(rig, result):
    """Results that cannot be matched to events are a failure of every event."""

    async def handler(events, contexts):
        return result

    turn, answers = _batch(rig, handler)
    asyncio.run(turn.run())
    assert set(answers.status().values()) == {"failed"}


def test_a_raising_batch_does_not_touch_events_already_answered(rig):
    """Cancelled neighbours keep their answer; the rest fail with the handler's error."""
    turn, answers = None, None

    async def handler(events, contexts):
        turn.stop(lambda env: env[1] == 2, cancelled(), asked=True)
        assert [context.cancelled for context in contexts] == [False, True, False]
        await contexts[1].emit(Out("LATE"))
        assert contexts[1].late == 1
        raise ValueError("whole batch")

    turn, answers = _batch(rig, handler)
    asyncio.run(turn.run())
    assert answers.status() == {1: "failed", 2: "cancelled", 3: "failed"}


def test_stop_reports_when_the_whole_batch_is_over(rig):
    """The worker is to be cancelled only when no event of the batch is left."""
    turn, answers = _batch(rig, None, count=2)
    assert turn.stop(lambda env: env[1] == 1, cancelled(), asked=True) == (1, False)
    assert turn.stop(lambda env: env[1] == 1, cancelled(), asked=True) == (0, False)
    assert turn.stop(lambda env: True, cancelled(), asked=True) == (1, True)
    assert len(answers) == 2


def test_contexts_of_a_plain_batch_are_silent_when_it_is_answered(rig):
    """Made before or after its end: what is emitted with them then is discarded."""
    kept = []

    async def handler(events, contexts):
        kept.extend([contexts, contexts[0]])
        return [None] * 3

    turn, answers = _batch(rig, handler)
    asyncio.run(turn.run())
    contexts, made = kept
    assert answers.status() == dict.fromkeys((1, 2, 3), "handled")
    assert made.over
    assert contexts[2].over
    assert turn.stop(lambda env: True, cancelled(), asked=True) == (0, False)
    assert turn.deadline() == float("inf")


def test_a_plain_batch_is_answered_as_a_list(rig):
    """Who takes lists is told once."""
    lists = []

    class Answers(rig.Answers):
        def all(self, ended):
            lists.append(len(ended))
            super().all(ended)

    async def handler(events, contexts):
        return [b"1", None, b""]

    answers = Answers()
    asyncio.run(BatchTurn([rig.event(n) for n in (1, 2, 3)], handler, rig.Context, answers).run())
    assert lists == [3]
    assert [answers[n].value for n in (1, 2, 3)] == [b"1", b"", b""]
