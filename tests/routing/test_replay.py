import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.envelope import BODY, KIND, Envelope, envelope
from laneway.routing.errors import LocalProtocolError
from laneway.routing.lanes import Lane
from laneway.routing.replay import SEQ_COST_BYTES, TOMBSTONE, ReplayRing, weight_bytes


def make(counter: int, body: bytes = b"", kind: str = "CUSTOM") -> Envelope:
    lane = Lane.LOW if kind == "PROGRESS" else Lane.NORMAL
    return envelope(kind, producer="p", counter=counter, tenant="t", session="s", lane=lane, body=body)


EVENTS = st.lists(
    st.tuples(st.sampled_from(["CUSTOM", "PROGRESS"]), st.integers(0, 60), st.sampled_from(["keep", "release"])),
    max_size=80,
)


def held(ring):
    """Return all that a ring would answer, and what it remembers for later."""
    return (
        ring.head, ring.head_position, ring.first, ring.bytes, ring.committed, ring.read(ring.first, 1000),
        list(ring._low or ()), list(ring._buried or ()),
    )  # fmt: skip


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 60), st.sampled_from(["CUSTOM", "PROGRESS"])), max_size=40)),
    st.integers(1, 40),
    st.integers(1, 700),
)
def test_events_numbered_together_are_the_same_as_one_by_one(lists, max_events, max_bytes):
    """Whatever is full in the midst of them: numbers, positions, tombstones and what is left are the same."""
    together, single = ReplayRing(max_events, max_bytes), ReplayRing(max_events, max_bytes)
    for events in lists:
        envs = [make(number, b"x" * size, kind) for number, (size, kind) in enumerate(events)]
        rows = together.numbered(envs)
        together.extend(rows)
        assert rows == [single.append(env) for env in envs]
        for ring in (together, single):
            ring.commit(ring.head)
        assert held(together) == held(single)


@settings(deadline=None)
@given(EVENTS, st.integers(1, 20), st.integers(1, 600))
def test_a_ring_of_any_size_keeps_numbers_positions_and_bounds(events, max_events, max_bytes):
    """Whatever was evicted: seqs are contiguous, positions are sums of weights, bounds hold, only droppables die."""
    ring = ReplayRing(max_events, max_bytes)
    log: list[tuple[int, int, Envelope]] = []
    position = 0
    for counter, (kind, size, action) in enumerate(events, 1):
        env = make(counter, b"x" * size, kind)
        position += weight_bytes(env)
        assert ring.append(env) == (counter, position, env)
        log.append((counter, position, env))
        ring.commit(counter)
        if action == "release":
            ring.release(counter - 3)
        assert len(ring) <= max_events + max_events // 16
        assert ring.bytes <= max_bytes or len(ring) == 1
        assert ring.head_position == position
        held = ring.read(ring.first, 1000)
        assert [entry[:2] for entry in held] == [entry[:2] for entry in log[ring.first - 1 :]]
        for seq, _, kept in held:
            original = log[seq - 1][2]
            if kept[BODY] is TOMBSTONE:
                assert original[KIND] == kept[KIND] == "PROGRESS"
                assert ring.get(seq) is None
            else:
                assert kept == original == ring.get(seq)
            assert ring.position_before(seq) == (log[seq - 2][1] if seq > 1 else 0)
        assert ring.position_before(ring.first - 1) is ring.position_before(counter + 2) is None
        assert ring.bytes == sum(SEQ_COST_BYTES if e[2][BODY] is TOMBSTONE else weight_bytes(e[2]) for e in held)


@settings(deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.integers(0, 30))
def test_a_restored_ring_goes_on_where_the_log_ended(sizes, skip):
    """Seqs, positions and contents after a restart equal those without one."""
    whole, log = ReplayRing(), []
    for counter, size in enumerate(sizes, 1):
        env = make(counter, b"y" * size)
        log.append(whole.append(env))
    whole.commit(len(sizes))
    again = ReplayRing()
    tail = log[skip:]
    again.restore(tail, head=len(sizes), head_position=log[-1][1])
    assert again.committed == again.head == len(sizes)
    assert again.append(make(99)) == whole.append(make(99))
    assert again.position_before(len(sizes) + 1) == log[-1][1]
    if tail:
        assert again.read(tail[0][0], 99) == tail
        assert again.position_before(tail[0][0]) == whole.position_before(tail[0][0])


def test_nothing_above_the_commit_is_readable():
    """A link cannot read what the store does not have, even after evictions passed the commit."""
    ring = ReplayRing(max_events=2)
    for counter in range(1, 6):
        ring.append(make(counter))
    assert ring.read(ring.first, 10) == []
    ring.commit(4)
    assert [seq for seq, _, _ in ring.read(4, 10)] == [4]
    assert ring.read(1, 10) == []
    assert ring.read(6, 10) == []
    ring.commit(2)
    assert ring.committed == 4
    with pytest.raises(LocalProtocolError):
        ring.commit(6)


def test_oldest_droppable_bodies_die_before_anything_leaves():
    """Bytes are won from the oldest progress first; text stays."""
    ring = ReplayRing(100, 400)
    ring.append(make(1, b"a" * 100, "PROGRESS"))
    ring.append(make(2, b"b" * 100))
    ring.append(make(3, b"c" * 100, "PROGRESS"))
    ring.append(make(4, b"d" * 100))
    assert (ring.first, ring.get(1), ring.get(3) is not None) == (1, None, True)
    assert ring.position_before(1) == 0
    assert ring.position_before(2) == 116


def test_the_newest_event_is_kept_whatever_it_weighs():
    """Even a droppable body larger than the ring is there until the next one comes."""
    ring = ReplayRing(100, 50)
    ring.append(make(1, b"a" * 500, "PROGRESS"))
    assert ring.get(1) is not None
    ring.append(make(2, b"b"))
    assert (ring.get(1), ring.first, ring.get(2)) == (None, 1, make(2, b"b"))


def test_a_misused_ring_says_so():
    """Empty bounds, holes and restoring a used ring are bugs of the caller."""
    with pytest.raises(LocalProtocolError):
        ReplayRing(0)
    with pytest.raises(LocalProtocolError):
        ReplayRing().restore([(1, 16, make(1)), (3, 48, make(3))])
    ring = ReplayRing()
    ring.append(make(1))
    with pytest.raises(LocalProtocolError):
        ring.restore([])
