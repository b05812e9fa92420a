import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.chunker import Cutter
from laneway.routing.envelope import BODY, KIND, SEAL, Envelope, envelope, with_body
from laneway.routing.errors import PeerProtocolError
from laneway.routing.graphemes import is_boundary
from laneway.routing.items import _folded, plan_items, read_gap, read_items
from laneway.routing.replay import TOMBSTONE, Numbered

TEXT = "TEXT_MESSAGE_CONTENT"
KINDS = frozenset([TEXT])
ROOM = {"grant": float("inf"), "max_items": 64, "room_bytes": 65_536}


def make(body: str | bytes = b"", *, kind: str = TEXT, run: str = "r", entity: str = "m") -> Envelope:
    raw = body.encode("utf-8", "surrogateescape") if isinstance(body, str) else body
    return envelope(kind, producer="e", counter=1, tenant="t", session="s", lane=2, run=run, entity=entity, body=raw)


def numbered(events: list[Envelope], *, weights: list[int] | None = None) -> list[Numbered]:
    entries, position = [], 0
    for seq, env in enumerate(events, 1):
        position += weights[seq - 1] if weights else len(env[BODY]) + 16
        entries.append((seq, position, env))
    return entries


BODIES = st.sampled_from(["", "a", "Hello ", "wörld. ", "日本語。", "👩‍👩‍👧", "e", "\u0301", "x" * 40])


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.sampled_from(["m", "n"]), st.sampled_from([TEXT, TEXT, "CUSTOM"]), BODIES), min_size=1),
    st.integers(1, 50),
    st.integers(1, 8),
    st.integers(1, 300),
)
def test_any_fold_reads_back_to_the_byte(events, chunk_chars, max_items, room_bytes):
    """Frame after frame: items chain without hole or overlap, and each item's bytes are its seqs' bytes."""
    entries = numbered([make(body, kind=kind, entity=entity) for entity, kind, body in events])
    seq, skip, position = 1, 0, 0
    while seq <= len(entries):
        batch = plan_items(
            entries[seq - 1 :],
            position,
            skip,
            KINDS,
            grant=float("inf"),
            chunk_chars=chunk_chars,
            max_items=max_items,
            room_bytes=room_bytes,
        )
        assert 1 <= len(batch.envelopes) <= max_items
        for item in read_items(batch.header(1), batch.envelopes):
            assert (item.first, item.skip) == (seq, skip)
            bodies = [env[BODY] for _, _, env in entries[item.first - 1 : item.first - 1 + item.span]]
            if item.tail:
                bodies[-1] = bodies[-1][: item.tail]
            bodies[0] = bodies[0][item.skip :]
            assert item.envelope[BODY] == b"".join(bodies)
            if item.tail:
                text = entries[item.first + item.span - 2][2][BODY].decode()
                assert is_boundary(text, len(text.encode()[: item.tail].decode()))
            seq, skip = (item.first + item.span - 1, item.tail) if item.tail else (item.first + item.span, 0)
        assert (batch.next_seq, batch.next_skip) == (seq, skip)
        position = batch.position
        assert position == (entries[seq - 2][1] if seq > 1 else 0)


def test_adjacent_text_of_one_message_becomes_one_item():
    """Same kind, entity and run merge; the header of the first is kept."""
    entries = numbered([make("Hel"), make("lo "), make("you", entity="n"), make("!", entity="n", run="q")])
    batch = plan_items(entries, 0, 0, KINDS, chunk_chars=200, **ROOM)
    assert [env[BODY] for env in batch.envelopes] == [b"Hello ", b"you", b"!"]
    assert batch.shape == [(2, 0), (1, 0), (1, 0)]
    assert batch.merged == 1


def test_sealed_deltas_are_neither_merged_nor_cut():
    """A delta that carries more than text travels as it is."""
    sealed = make(bytes([SEAL]) + b"\x81" + b"x" * 50)
    batch = plan_items(numbered([make("a"), sealed, make("b")]), 0, 0, KINDS, chunk_chars=16, **ROOM)
    assert [len(env[BODY]) for env in batch.envelopes] == [1, 52, 1]
    assert "shape" not in batch.header(1)


def test_bytes_that_are_not_utf8_travel_unchanged():
    """A broken producer's bytes are passed on, not guessed at, and every frame makes progress."""
    raw = b"\x80\xff" * 3 + b"ab\xe6\x97" * 30
    entries = numbered([make(b"a" + raw)])
    skip, body = 0, b""
    for _ in range(200):
        batch = plan_items(entries, 0, skip, KINDS, chunk_chars=16, **{**ROOM, "max_items": 1})
        body += batch.envelopes[0][BODY]
        skip = batch.next_skip
        if not skip:
            break
    assert body == b"a" + raw


def test_tombstones_fold_into_one_exact_gap():
    """Count by kind and the sum of the weights, even after the bodies are gone."""
    low = [make(kind=kind, entity="") for kind in ("PROGRESS", "LOG", "PROGRESS")]
    events = [make("a"), *[with_body(env, TOMBSTONE) for env in low], make("b")]
    entries = numbered(events, weights=[17, 100, 200, 300, 17])
    batch = plan_items(entries, 0, 0, KINDS, chunk_chars=200, **ROOM)
    assert [env[KIND] for env in batch.envelopes] == [TEXT, "GAP", TEXT]
    assert batch.shape == [(1, 0), (3, 0), (1, 0)]
    assert batch.gapped == 3
    gap = read_gap(batch.envelopes[1])
    assert (dict(gap.by_kind), gap.bytes) == ({"PROGRESS": 2, "LOG": 1}, 600)


def test_credit_stops_before_an_event_that_begins_beyond_it():
    """One event may overshoot; the next waits; a begun one goes on."""
    entries = numbered([make("a" * 84), make("b" * 84, entity="n"), make("c", entity="o")])
    batch = plan_items(entries, 0, 0, KINDS, chunk_chars=200, **{**ROOM, "grant": 101})
    assert len(batch.envelopes) == 2
    assert plan_items(entries, 100, 0, KINDS, chunk_chars=200, **{**ROOM, "grant": 100}).envelopes == []
    assert len(plan_items(entries, 0, 5, KINDS, chunk_chars=200, **{**ROOM, "grant": 0}).envelopes) == 1


def test_a_frame_stops_growing_at_its_room_but_takes_at_least_one():
    """Large events travel alone."""
    entries = numbered([make(b"x" * 90, kind="CUSTOM"), make(b"y" * 90, kind="CUSTOM")])
    assert len(plan_items(entries, 0, 0, KINDS, chunk_chars=200, **{**ROOM, "room_bytes": 1}).envelopes) == 1
    assert len(plan_items(entries, 0, 0, KINDS, chunk_chars=200, **{**ROOM, "room_bytes": 180}).envelopes) == 2


def test_held_text_stops_at_its_last_sentence_end():
    """With `hold`, the unfinished sentence stays; anything after it releases it."""
    entries = numbered([make("Done. "), make("Not y")])
    batch = plan_items(entries, 0, 0, KINDS, chunk_chars=200, hold=True, **ROOM)
    assert [env[BODY] for env in batch.envelopes] == [b"Done. "]
    assert batch.held
    followed = [*entries, (3, 99, make(kind="TEXT_MESSAGE_END"))]
    batch = plan_items(followed, 0, 0, KINDS, chunk_chars=200, hold=True, **ROOM)
    assert [env[BODY] for env in batch.envelopes] == [b"Done. Not y", b""]


@pytest.mark.parametrize(
    "header",
    [{}, {"first": 0}, {"first": "1"}, {"first": 1, "skip": -1}, {"first": 1, "shape": [[1, -1]]}, {"first": True}],
)
def test_a_frame_that_does_not_fit_together_is_refused(header):
    """Types and ranges are checked before anything is believed."""
    with pytest.raises(PeerProtocolError) as refused:
        read_items(header, [make("a")])
    assert refused.value.reason == "BAD_SHAPE"


_OTHERS = st.sampled_from(["CUSTOM", "LOG", "CUSTOM", TEXT, "STATE_SNAPSHOT"])


@given(
    st.one_of(
        st.lists(st.tuples(_OTHERS, st.integers(0, 40)), min_size=1, max_size=30),
        st.lists(st.tuples(st.just("CUSTOM"), st.integers(0, 40)), min_size=1, max_size=30),
    ),
    st.integers(1, 40),
    st.integers(1, 600),
    st.integers(0, 1200),
    st.one_of(st.just(set()), st.sets(st.integers(0, 29), max_size=2)),
)
def test_events_that_go_as_they_are_go_as_if_they_had_been_folded(events, max_items, room, grant, dropped):
    """The short way for events that neither merge nor were dropped gives what the long one gives, in any bounds."""
    position, entries = 0, []
    for seq, (kind, size) in enumerate(events, 1):
        position += size + 16
        body = TOMBSTONE if seq - 1 in dropped else b"x" * size
        entries.append((seq, position, with_body(make(kind=kind), body)))
    bounds = {"grant": grant, "chunk_chars": 50, "max_items": max_items, "room_bytes": room}
    short = plan_items(entries, 0, 0, frozenset({TEXT}), **bounds)
    assert short == _folded(entries, 0, 0, frozenset({TEXT}), *bounds.values(), False, Cutter())
