import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.routing.envelope import Envelope, envelope
from laneway.routing.errors import PeerProtocolError
from laneway.routing.inbox import SNAPSHOT, Inbox
from laneway.routing.packed import pack_map
from laneway.routing.replay import Cursor


def make(body: bytes = b"", *, kind: str = "TEXT_MESSAGE_CONTENT", run: str = "r") -> Envelope:
    return envelope(kind, producer="e", counter=1, tenant="t", session="s", lane=2, run=run, entity="m", body=body)


def welcome(cursor: list[object], *, resume: str = "new", position: int | None = 0, grant: int | None = 65_536) -> dict:
    return {"welcome": {"cursor": cursor, "resume": resume, "position": position, "grant": grant}}


def started() -> Inbox:
    inbox = Inbox()
    inbox.receive(welcome(["e", 0, 0]), [], 0.0)
    return inbox


def refusal(inbox: Inbox, header: dict, *bodies: bytes) -> str:
    with pytest.raises(PeerProtocolError) as refused:
        inbox.receive(header, [make(body) for body in bodies], 0.0)
    return refused.value.reason


def test_items_move_the_cursor_and_the_position():
    """Whole seqs count with their cost, halves with their bytes only."""
    inbox = started()
    given = inbox.receive({"stream": 1, "first": 1, "shape": [[2, 0], [1, 3]]}, [make(b"abcd"), make(b"xyz")], 0.0)
    assert [(item.first, item.last, item.whole) for item in given] == [(1, 2, True), (3, 3, False)]
    assert inbox.cursor == Cursor("e", 0, 2, 3)
    assert inbox.position == 4 + 32 + 3
    inbox.receive({"stream": 1, "first": 3, "skip": 3}, [make(b"!")], 0.0)
    assert (inbox.cursor, inbox.position) == (Cursor("e", 0, 3), 4 + 48 + 4)


def test_a_resend_is_trimmed_to_the_byte_whatever_its_merge_boundaries():
    """After half of seq 3, a resend of 3..5 merged gives only what is new; full repeats give nothing."""
    inbox = started()
    inbox.receive({"stream": 1, "first": 1, "shape": [[2, 0], [1, 3]]}, [make(b"abcd"), make(b"xyz")], 0.0)
    (item,) = inbox.receive({"stream": 1, "first": 3, "shape": [[3, 0]]}, [make(b"xyz!more")], 0.0)
    assert (item.first, item.last, item.envelope[11]) == (3, 5, b"!more")
    assert not inbox.receive({"stream": 1, "first": 3, "shape": [[3, 0]]}, [make(b"xyz!more")], 0.0)
    assert not inbox.receive({"stream": 1, "first": 1}, [make(b"ab"), make(b"cd")], 0.0)
    assert inbox.cursor == Cursor("e", 0, 5)


def test_holes_overlaps_and_broken_shapes_are_errors():
    """Nothing is skipped over silently; the cursor stays where it was."""
    inbox = started()
    inbox.receive({"stream": 1, "first": 1, "shape": [[1, 0], [1, 2]]}, [make(b"a"), make(b"bc")], 0.0)
    before = inbox.cursor
    assert refusal(inbox, {"stream": 1, "first": 3}, b"x") == "HOLE"
    assert refusal(inbox, {"stream": 1, "first": 2, "skip": 3}, b"x") == "HOLE"
    assert refusal(inbox, {"stream": 1, "first": 1, "shape": [[3, 0]]}, b"x") == "OVERLAP"
    assert refusal(inbox, {"stream": 1, "first": 2, "shape": [[1, 9]]}, b"bcd") == "BAD_SHAPE"
    assert refusal(inbox, {"stream": 1, "first": 2}, b"b") == "BAD_SHAPE"
    assert refusal(inbox, {"stream": 2, "first": 1}, b"x") == "BAD_SHAPE"
    assert refusal(inbox, {"first": 1}, b"x") == "BAD_SHAPE"
    assert refusal(inbox, {"stream": 1}, b"x") == "BAD_SHAPE"
    assert refusal(inbox, {"stream": 1, "first": 2, "shape": []}, b"x") == "BAD_SHAPE"
    assert refusal(inbox, {"stream": 1, "first": 2, "shape": [[0, 0]]}, b"x") == "BAD_SHAPE"
    assert refusal(inbox, {"stream": 1, "first": 2, "shape": ["no"]}, b"x") == "BAD_SHAPE"
    assert inbox.cursor == before


def test_a_gap_covers_its_seqs_and_their_weight():
    """The position after a GAP equals the one after the events it stands for."""
    inbox = started()
    body = msgpack.packb({"by_kind": {"PROGRESS": 2, "LOG": 1}, "bytes": 148, "reason": "OVERLOAD"})
    (item,) = inbox.receive({"stream": 1, "first": 1, "shape": [[3, 0]]}, [make(body, kind="GAP", run="")], 0.0)
    assert item.gap is not None
    assert dict(item.gap.by_kind) == {"PROGRESS": 2, "LOG": 1}
    assert (inbox.position, inbox.gapped, inbox.cursor.data) == (148, 3, 3)
    assert refusal_of_gap(inbox, {"by_kind": {}, "bytes": -1, "reason": ""}) == "BAD_TYPE"
    assert refusal_of_gap(inbox, [1]) == "BAD_TYPE"


def test_a_gap_over_a_half_received_seq_counts_it_once():
    """The bytes already had are part of the dropped seq's weight."""
    inbox = started()
    inbox.receive({"stream": 1, "first": 1, "shape": [[1, 3]]}, [make(b"abc")], 0.0)
    body = msgpack.packb({"by_kind": {"TICKER": 2}, "bytes": 60, "reason": "OVERLOAD"})
    inbox.receive({"stream": 1, "first": 1, "shape": [[2, 0]]}, [make(body, kind="GAP", run="")], 0.0)
    assert (inbox.position, inbox.cursor) == (60, Cursor("e", 0, 2))


def refusal_of_gap(inbox: Inbox, body: object) -> str:
    with pytest.raises(PeerProtocolError) as refused:
        inbox.receive({"stream": 1, "first": 4}, [make(msgpack.packb(body), kind="GAP")], 0.0)
    return refused.value.reason


def test_a_run_that_failed_says_nothing_more():
    """Data of a run up to the seq its error stands after is voided and counted; other runs go on."""
    inbox = started()
    inbox.receive({"stream": 1, "first": 1}, [make(b"a")], 0.0)
    error = make(msgpack.packb({"message": "x", "metadata": {"n": [1.5, None, True]}, "after": 3}), kind="RUN_ERROR")
    assert len(inbox.receive({"stream": 0, "first": 1}, [error], 0.0)) == 1
    given = inbox.receive({"stream": 1, "first": 2}, [make(b"b"), make(b"c"), make(b"d"), make(b"z", run="q")], 0.0)
    assert [item.envelope[11] for item in given] == [b"d", b"z"]
    assert (inbox.voided, inbox.cursor) == (2, Cursor("e", 1, 4 + 1))


def test_an_error_of_another_make_voids_nothing():
    """Bodies that do not say what they stand after are passed on as they are."""
    inbox = started()
    inbox.receive({"stream": 0, "first": 1}, [make(b"{}", kind="RUN_ERROR"), make(b"\xc1", kind="RUN_ERROR")], 0.0)
    assert len(inbox.receive({"stream": 1, "first": 1}, [make(b"b")], 0.0)) == 1


def test_acks_wait_for_company_but_not_for_urgent_events():
    """One ack per 100 ms or 256 events; an urgent event is acked at once."""
    inbox = started()
    assert inbox.ack_due(0.0) is None
    inbox.receive({"stream": 1, "first": 1}, [make(b"a")], 1.0)
    assert inbox.ack_due(1.0) is None
    assert inbox.deadline() == 1.1
    assert inbox.ack_due(1.1) == {"ack": ["e", 0, 1]}
    assert inbox.deadline() is None
    inbox.receive({"stream": 0, "first": 1}, [make(b"", kind="SESSION_EXPIRED")], 2.0)
    assert inbox.ack_due(2.0) == {"ack": ["e", 1, 1]}
    inbox.receive({"stream": 1, "first": 2}, [make()] * 256, 3.0)
    assert inbox.ack_due(3.0) == {"ack": ["e", 1, 257]}


def test_grants_follow_what_the_application_took():
    """Received but unread bytes hold the grant back, never the ack."""
    inbox = started()
    inbox.receive({"stream": 1, "first": 1}, [make(b"x" * 50_000)], 1.0)
    assert inbox.ack_due(1.1, unread_bytes=50_000) == {"ack": ["e", 0, 1]}
    assert inbox.grant == 65_536
    header = inbox.ack_due(1.1)
    assert header == {"ack": ["e", 0, 1], "grant": 50_016 + 65_536}
    assert inbox.grant == header["grant"]


def test_credit_does_not_wait_for_an_acks_company():
    """Half a window used up is granted anew at once, however long acks may wait; the ack goes along."""
    inbox = Inbox(ack_delay_s=60.0)
    inbox.receive({"welcome": {"resume": "new", "cursor": ["e", 0, 0], "position": 0, "grant": 65_536}}, [], 0.0)
    inbox.receive({"stream": 1, "first": 1}, [make(b"x" * 20_000)], 1.0)
    assert inbox.ack_due(1.0) is None
    inbox.receive({"stream": 1, "first": 2}, [make(b"x" * 20_000)], 1.0)
    header = inbox.ack_due(1.0)
    assert header["ack"] == ["e", 0, 2]
    assert header["grant"] > 65_536
    assert inbox.deadline() is None


def test_a_failed_resume_starts_where_the_engine_says():
    """New epoch, new cursor, no old offset; the snapshot is given outside the numbering."""
    inbox = Inbox(Cursor("old", 3, 9, 4))
    assert (inbox.skip, inbox.position, inbox.grant) == (4, None, None)
    inbox.receive(welcome(["new", 1, 7], resume="failed", position=500, grant=600), [], 0.0)
    assert inbox.cursor == Cursor("new", 1, 7)
    assert (inbox.position, inbox.grant) == (500, 600)
    (item,) = inbox.receive({"snapshot": True}, [make(b"all", kind="MESSAGES_SNAPSHOT")], 0.0)
    assert (item.stream, item.whole) == (SNAPSHOT, True)
    assert inbox.cursor == Cursor("new", 1, 7)


def test_a_resume_keeps_the_offset_and_learns_the_position_late():
    """Behind the engine's memory only the first data frame says where it starts."""
    inbox = Inbox(Cursor("e", 0, 1, 2))
    inbox.receive(welcome(["e", 0, 1], resume="resumed", position=None, grant=0), [], 0.0)
    assert inbox.grant is None
    inbox.receive({"stream": 1, "first": 2, "skip": 2, "position": 100}, [make(b"cd")], 0.0)
    assert inbox.position == 100 + 2 + 2 + 16
    assert inbox.grant == 100 + 65_536
    inbox.receive(welcome(["e", 0, 2], resume="resumed", position=None, grant=0), [], 1.0)
    assert inbox.position == 120


def test_a_wrong_welcome_is_refused():
    """A resume from elsewhere than asked would lose or repeat events."""
    inbox = started()
    assert refusal(inbox, welcome(["e", 0, 5], resume="resumed")) == "BAD_WELCOME"
    assert refusal(inbox, {"welcome": 1}) == "BAD_WELCOME"
    assert refusal(inbox, welcome(["e", 0])) == "BAD_TYPE"
    assert refusal(inbox, welcome(["e", 0, 0], position=-1)) == "NUMBER_RANGE"


FRAMES = st.lists(
    st.lists(st.tuples(st.binary(max_size=9), st.sampled_from(["CUSTOM", "CUSTOM", "GAP"])), max_size=6), max_size=6
)


@given(FRAMES, st.integers(0, 2))
def test_a_plain_frame_is_what_its_items_one_by_one_would_be(frames, again):
    """With and without a shape that says only what is so anyway: rows, cursor, position, gaps and acks are the same."""
    plain, shaped = started(), started()
    first = 1
    for frame in frames:
        gap = pack_map({"by_kind": {"LOG": 1}, "bytes": 40, "reason": "OVERLOAD"})
        envs = [make(gap if kind == "GAP" else body, kind=kind) for body, kind in frame]
        for begin in [first] + [first] * (again if first > 1 else 0):
            rows = plain.receive({"stream": 1, "first": begin}, envs, 1.0)
            wanted = shaped.receive({"stream": 1, "first": begin, "shape": [[1, 0]] * len(envs)}, envs, 1.0)
            assert list(rows) == list(wanted)
            assert list(rows.envelopes) == [row.envelope for row in wanted]
            assert (len(rows), bool(rows)) == (len(wanted), bool(wanted))
            assert [rows[place] for place in range(len(rows))] == list(rows[:])
        first += len(envs)
        for inbox in (plain, shaped):
            assert (inbox.cursor, inbox.position, inbox.gapped) == (shaped.cursor, shaped.position, shaped.gapped)
            assert inbox.ack_due(1.05) is None or inbox.deadline() is None
