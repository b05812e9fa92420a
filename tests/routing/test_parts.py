"""Parts of a large text join to the same bytes, and nobody can forge one."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from laneway.routing.envelope import BODY, Envelope, cost_bytes, envelope
from laneway.routing.errors import LocalProtocolError
from laneway.routing.parts import PART_BYTES, Reassembler, cut, part_of


def _event(body: bytes, counter: int = 1) -> Envelope:
    return envelope("K", producer="p", counter=counter, tenant="t", session="s", lane=1, body=body)


@settings(deadline=None)
@given(text=st.text(max_size=300), limit=st.integers(4, 50))
def test_parts_join_to_the_same_bytes(text: str, limit: int) -> None:
    """Each part is within the limit, valid UTF-8, with the event's own address; joined they are the event."""
    whole, reassembler = _event(text.encode()), Reassembler()
    parts = cut(whole, limit)
    joined = [reassembler.offer(part) for part in parts]
    assert joined == [None] * (len(parts) - 1) + [whole]
    assert len(reassembler) == 0
    for index, part in enumerate(parts, 1):
        assert len(part[BODY]) <= limit
        part[BODY].decode()
        assert part_of(part) == ((index, len(parts)) if len(parts) > 1 else None)
        assert (*part[:10], part[12]) == (*whole[:10], whole[12])


@settings(deadline=None)
@given(body=st.binary(max_size=300), limit=st.integers(4, 50))
@example(body=b"\x00" + b"\x80" * 4, limit=4)
def test_any_bytes_survive(body: bytes, limit: int) -> None:
    """A body that is not text after all is cut anywhere and joined exactly; no part is empty."""
    parts = cut(_event(body), limit)
    assert b"".join(part[BODY] for part in parts) == body
    assert all(0 < len(part[BODY]) <= limit for part in parts) or body == b""


def test_cuts_fall_at_lines_and_words() -> None:
    """A line end near the limit is preferred to a blank, a blank to the middle of a word."""
    assert [part[BODY] for part in cut(_event(b"one two\nthree four"), 12)] == [b"one two\n", b"three four"]
    assert [part[BODY] for part in cut(_event(b"one two three"), 9)] == [b"one two ", b"three"]
    assert [part[BODY] for part in cut(_event("ééé".encode()), 5)] == ["éé".encode(), "é".encode()]


def test_sixteen_kibibytes_stay_whole() -> None:
    """The default limit; what is just above it becomes two parts, each of ordinary weight."""
    assert len(cut(_event(b"x" * PART_BYTES))) == 1
    parts = cut(_event(b"x" * (PART_BYTES + 1)))
    assert [cost_bytes(part) for part in parts] == [PART_BYTES + 200, 201]


def test_interleaved_events_are_kept_apart() -> None:
    """Parts of several events may mix; what was dropped is forgotten."""
    first, second = _event(b"a" * 9, 1), _event(b"b" * 9, 2)
    reassembler = Reassembler()
    one, two = cut(first, 4), cut(second, 4)
    assert [reassembler.offer(part) for part in (one[0], two[0], one[1], two[1], one[2])][-1] == first
    reassembler.drop(second)
    assert len(reassembler) == 0
    reassembler.drop(second)


def test_a_hole_is_a_bug_of_the_caller() -> None:
    """Parts out of order, or of a place that did not see the first, are refused."""
    parts = cut(_event(b"a" * 9), 4)
    with pytest.raises(LocalProtocolError):
        Reassembler().offer(parts[1])
    with pytest.raises(LocalProtocolError):
        cut(parts[0], 3)


def test_an_ordinary_event_is_no_part() -> None:
    """What a client writes into `after` is no mark."""
    assert part_of(_event(b"")) is None
    assert part_of(envelope("K", producer="p", counter=2, tenant="t", session="s", lane=1, after="p:1")) is None
