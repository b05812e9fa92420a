"""Results of one process: the answers of a store's record, for a time, within bytes."""

from __future__ import annotations

import gc

from hypothesis import given
from hypothesis import strategies as st

from laneway.actors.tools.entries import CallKey, Settled, pack_entry, unpack_entry
from laneway.actors.tools.lifecycle import State
from laneway.actors.tools.recall import Recall

KEY = CallKey("t", "s", "r", "c")


class Clock:
    at = 0.0

    def now(self):
        return self.at


def _key(number):
    return KEY._replace(call_id=str(number))


@given(
    st.sampled_from([State.SUCCEEDED, State.FAILED, State.CANCELLED, State.TIMED_OUT]),
    st.sampled_from(["", "1", "é" * 20_000, "x" * 65_536, "x" * 65_537, "é" * 40_000]),
    st.sampled_from(["", "TOOL_ERROR"]),
    st.booleans(),
)
def test_it_answers_as_a_stores_record_would(state, content, code, retryable):
    """Also what is said of a result that was too large to keep."""
    recall, result = Recall(Clock()), Settled(state, content, code, retryable)
    recall.keep(KEY, b"h", result)
    assert recall.find(KEY) == unpack_entry(pack_entry(state, b"h", result))[1:]


def test_the_oldest_are_forgotten_beyond_the_bytes():
    """Nothing is held for what is gone; the newest stays however large it is."""
    recall = Recall(Clock(), max_bytes=20_000)
    for number in range(100):
        recall.keep(_key(number), b"h", Settled(State.SUCCEEDED, "x" * 500))
        assert recall.used_bytes <= 20_000
    assert 10 < len(recall) < 40
    assert recall.find(_key(0)) is None
    assert recall.find(_key(99)) is not None
    recall.keep(_key(100), b"h", Settled(State.SUCCEEDED, "x" * 30_000))
    assert (len(recall), recall.find(_key(100)) is None) == (1, False)


def test_a_result_is_known_for_its_time_and_no_longer():
    """The last word counts; what has ended is forgotten when something new comes."""
    clock = Clock()
    recall = Recall(clock, ttl_s=10)
    recall.keep(_key(1), b"h", Settled(State.OUTCOME_UNKNOWN, "?"))
    clock.at = 5.0
    recall.keep(_key(1), b"h", Settled(State.SUCCEEDED, "1"))
    used = recall.used_bytes
    clock.at = 14.0
    assert recall.find(_key(1))[1].content == "1"
    clock.at = 15.0
    assert recall.find(_key(1)) is None
    recall.keep(_key(2), b"h", Settled(State.SUCCEEDED, "2"))
    assert (len(recall), recall.used_bytes) == (1, used)


def test_the_garbage_collector_does_not_look_at_rows():
    """A hundred thousand of them would be a pause."""
    recall = Recall(Clock())
    recall.keep(KEY, b"h", Settled(State.SUCCEEDED, "1"))
    gc.collect()
    assert not any(map(gc.is_tracked, recall._rows.values()))
    assert not any(map(gc.is_tracked, recall._rows))
