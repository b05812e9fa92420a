"""The numbering rule on its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.actors.ports import Entry
from laneway.actors.sessions.keeping import Run
from laneway.engine.stores.continuity import MAX_STREAM, advanced, fenced, follows
from laneway.routing.envelope import envelope
from laneway.routing.errors import LocalProtocolError


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50))))
def test_heads_follow_any_interleaving(steps: list[tuple[int, int]]) -> None:
    """Streams are numbered apart; in one batch or in many the heads come out the same."""
    entries, heads = [], dict[int, tuple[int, int]]()
    for stream, weight in steps:
        seq, position = heads.get(stream, (0, 0))
        heads[stream] = (seq + 1, position + weight)
        entries.append(Entry(stream, seq + 1, position + weight, b""))
    assert advanced("k", {}, entries) == heads
    singly: dict[int, tuple[int, int]] = {}
    for entry in entries:
        singly |= advanced("k", singly, [entry])
    assert singly == heads


@given(st.integers(-5, 20), st.integers(0, 10))
def test_nothing_but_the_next_seq_follows(seq: int, head: int) -> None:
    """Any other seq is refused, naming log, stream and head."""
    entry = Entry(1, seq, 100, b"")
    if seq == head + 1:
        assert advanced("k", {1: (head, 0)}, [entry]) == {1: (seq, 100)}
    else:
        with pytest.raises(LocalProtocolError, match=f"log k stream 1 ends at seq {head}"):
            advanced("k", {1: (head, 0)}, [entry])


def test_streams_have_a_range() -> None:
    """A stream outside 0 to 65,535 is refused."""
    advanced("k", {}, [Entry(MAX_STREAM, 1, 1, b"")])
    with pytest.raises(LocalProtocolError, match="outside"):
        advanced("k", {}, [Entry(MAX_STREAM + 1, 1, 1, b"")])


def test_a_fenced_home_is_told_both_generations() -> None:
    """The message says which claim is over and which holds."""
    assert "generation 3 of log k is over, it is at 5" in fenced("k", 3, 5).message


def test_a_run_follows_its_head() -> None:
    """As its first and last event say; a stream that is new begins at seq 1."""
    env = envelope("CUSTOM", producer="p", counter=1, tenant="t", session="s", lane=2)
    run = Run(1, [(3, 60, env), (4, 80, env)], lambda env: b"")
    assert follows("k", 1, (2, 40), run) == (4, 80)
    for head in (None, (3, 60), (2, 61)):
        with pytest.raises(LocalProtocolError, match="cannot follow"):
            follows("k", 1, head, run)
    with pytest.raises(LocalProtocolError, match="outside"):
        follows("k", MAX_STREAM + 1, (2, 40), run)
