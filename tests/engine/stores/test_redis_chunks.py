"""Entries in chunks."""

from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.actors.ports import Entry
from laneway.engine.stores.continuity import MAX_STREAM
from laneway.engine.stores.redis_chunks import chunked, entries_of
from laneway.routing.errors import LocalProtocolError


def log(steps: list[tuple[int, int]]) -> list[Entry]:
    """Entries of (stream, size) in an order that a log may have."""
    heads: dict[int, tuple[int, int]] = {}
    found = []
    for stream, size in steps:
        seq, position = heads.get(stream, (4, 100))
        heads[stream] = (seq + 1, position + size)
        found.append(Entry(stream, seq + 1, position + size, bytes(size)))
    return found


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 70_000)), max_size=30), st.integers(0, 40))
def test_chunks_hold_what_was_put_in(steps: list[tuple[int, int]], first: int) -> None:
    """Per stream, in order, from any seq; each chunk says where it begins and ends."""
    entries = log(steps)
    flat = chunked("k", entries)
    bodies: dict[int, bytes] = {}
    ends: dict[int, tuple[int, int]] = {}
    for stream, begin, begins_at, last, position, body in zip(*[iter(flat)] * 6, strict=True):
        assert isinstance(stream, int)
        assert isinstance(body, bytes)
        seq, at = ends.get(stream, (4, 0))
        assert begin == seq + 1
        assert begins_at >= at
        ends[stream] = (last, position)
        bodies[stream] = bodies.get(stream, b"") + body
    for stream, its in groupby(sorted(entries), lambda entry: entry.stream):
        wanted = list(its)
        assert ends[stream] == (wanted[-1].seq, wanted[-1].position)
        found = entries_of(stream, bodies[stream], first, 10**9)
        assert found == [entry for entry in wanted if entry.seq >= first]


def test_a_large_append_is_cut_and_a_large_entry_is_not() -> None:
    """A page never drags more than one chunk of 64 KiB with it; an entry above that has one for itself."""
    flat = chunked("k", log([(1, 30_000)] * 5 + [(1, 200_000), (1, 1)]))
    assert [(flat[at + 1], flat[at + 3]) for at in range(0, len(flat), 6)] == [
        (5, 6),
        (7, 8),
        (9, 9),
        (10, 10),
        (11, 11),
    ]


def test_a_page_has_about_as_many_bytes_as_asked_for() -> None:
    """And at least one entry."""
    body = chunked("k", log([(1, 100)] * 10))[5]
    assert isinstance(body, bytes)
    assert [entry.seq for entry in entries_of(1, body, 7, 1)] == [7]
    assert [entry.seq for entry in entries_of(1, body, 7, 250)] == [7, 8]
    assert entries_of(1, body, 15, 250) == []
    assert entries_of(1, b"", 1, 250) == []


@pytest.mark.parametrize(
    "entries",
    [
        [Entry(1, 1, 10, b""), Entry(1, 3, 20, b"")],
        [Entry(1, 1, 10, b""), Entry(1, 1, 10, b"")],
        [Entry(1, 1, 10, b""), Entry(1, 2, 9, b"")],
        [Entry(MAX_STREAM + 1, 1, 1, b"")],
        [Entry(-1, 1, 1, b"")],
    ],
)
def test_entries_that_do_not_follow_each_other_are_refused(entries: list[Entry]) -> None:
    """Before anything is sent."""
    with pytest.raises(LocalProtocolError, match="log k"):
        chunked("k", entries)
