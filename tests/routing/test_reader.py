import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.routing.envelope import Envelope, envelope
from laneway.routing.errors import LocalProtocolError
from laneway.routing.items import Batch
from laneway.routing.reader import RESERVE_BYTES, RESERVE_EVENTS, StreamReader
from laneway.routing.replay import Numbered, ReplayRing


def make(body: bytes = b"") -> Envelope:
    return envelope("CUSTOM", producer="e", counter=1, tenant="t", session="s", lane=2, body=body)


def ring_of(count: int, *, keep: int = 1000, body: bytes = b"x") -> tuple[ReplayRing, list[Numbered]]:
    ring, log = ReplayRing(keep), []
    for _ in range(count):
        env = make(body)
        log.append(ring.append(env))
    ring.commit(count)
    return ring, log


def move(reader: StreamReader, seq: int, position: int) -> None:
    reader.advance(Batch(reader.next, 0, None, [], 0, seq, 0, position))


def test_a_reader_goes_from_the_log_into_the_ring_without_a_seam():
    """Pages first, then the ring; nothing is held but one page."""
    ring, log = ring_of(10, keep=3)
    reader = StreamReader(ring, 2)
    assert (reader.start, reader.position, reader.missing()) == (None, None, True)
    assert reader.entries(9) == ()
    reader.fill(log[0:6])
    assert reader.position == log[1][1]
    assert reader.entries(2) == log[2:4]
    assert list(reader.entries(9)) == log[2:6]
    move(reader, 7, log[5][1])
    assert reader.missing()
    reader.fill(log[6:8])
    move(reader, 9, log[7][1])
    assert not reader.missing()
    assert list(reader.entries(9)) == log[8:]
    assert reader.pending == 2


@given(st.integers(0, 12), st.integers(0, 12), st.integers(1, 12), st.integers(0, 12))
def test_what_is_ready_is_pending_and_here(count: int, committed: int, keep: int, have: int):
    """It begins where the reader stands; nothing is ready that must be read from the log first."""
    ring = ReplayRing(keep)
    log = [ring.append(make(b"x")) for _ in range(count)]
    ring.commit(min(committed, count))
    reader = StreamReader(ring, min(have, ring.committed))
    for _ in range(2):
        here = reader.pending and not reader.missing()
        assert reader.ready() == (reader.position if here else None)
        if reader.missing():
            reader.fill(log[reader.next - 1 :])


def test_a_page_is_cut_off_at_the_commit():
    """A log may hold more than what may be sent."""
    ring, log = ring_of(3)
    ring.append(make())
    reader = StreamReader(ring, 0)
    reader.fill([*log, (4, 999, make())])
    assert [seq for seq, _, _ in reader.entries(9)] == [1, 2, 3]


def test_a_wrong_page_is_a_bug_of_the_caller():
    """It must hold the seq that was asked for."""
    ring, log = ring_of(10, keep=2)
    reader = StreamReader(ring, 4)
    for page in ([], log[0:4], log[5:8]):
        with pytest.raises(LocalProtocolError):
            reader.fill(page)


def test_acks_move_forward_only():
    """Positions are known from the ring; an old ack is no news."""
    ring, log = ring_of(5)
    reader = StreamReader(ring, 0)
    move(reader, 6, log[4][1])
    assert reader.acknowledge(3)
    assert (reader.acked, reader.acked_position) == (3, log[2][1])
    assert not reader.acknowledge(2)
    assert reader.acknowledge(5)
    assert reader.acked_position == log[4][1]


def test_the_reserve_counts_live_events_and_replay_apart():
    """Replay waits for acks a reserve at a time; live events have their own and overrun it."""
    ring, log = ring_of(100)
    reader = StreamReader(ring, 0)
    assert reader.reserve_room() == RESERVE_EVENTS
    move(reader, 65, log[63][1])
    assert (reader.reserve_room(), reader.overrun()) == (0, False)
    reader.acknowledge(40)
    assert reader.reserve_room() == 40
    move(reader, 101, log[99][1])
    assert (reader.reserve_room(), reader.overrun()) == (0, False)
    for _ in range(RESERVE_EVENTS):
        ring.commit(ring.append(make())[0])
    assert reader.reserve_room() == RESERVE_EVENTS
    move(reader, 165, ring.head_position)
    ring.commit(ring.append(make())[0])
    assert (reader.reserve_room(), reader.overrun()) == (0, True)
    reader.acknowledge(164)
    assert (reader.reserve_room(), reader.overrun()) == (RESERVE_EVENTS, False)


def test_the_reserve_counts_bytes_too():
    """One large unacked event uses it up."""
    ring, _ = ring_of(0)
    reader = StreamReader(ring, 0)
    ring.append(make(b"x" * RESERVE_BYTES))
    ring.append(make())
    ring.commit(2)
    move(reader, 2, RESERVE_BYTES + 16)
    assert reader.overrun()


def test_the_first_text_of_a_message_is_alone_and_the_next_ones_are_not():
    """It stands right behind what opened the message, which may have been sent already."""
    ring = ReplayRing(100)
    reader = StreamReader(ring, 0)
    kinds = frozenset({"TEXT_MESSAGE_CONTENT"})
    seen, opening = [], []
    for kind, entity in (
        ("TEXT_MESSAGE_START", "m"), ("TEXT_MESSAGE_CONTENT", "m"), ("TEXT_MESSAGE_CONTENT", "m"),
        ("TEXT_MESSAGE_CONTENT", "n"), ("CUSTOM", ""), ("TEXT_MESSAGE_CONTENT", ""),
    ):  # fmt: skip
        env = envelope(kind, producer="e", counter=1, tenant="t", session="s", lane=2, entity=entity, body=b"x")
        seq, position, *_ = ring.append(env)
        ring.commit(seq)
        seen.append(reader.alone(kinds))
        opening.append(reader.opens)
        move(reader, seq + 1, position)
    assert seen == [True, True, False, False, True, False]
    assert opening == [False, True, False, False, False, False]
