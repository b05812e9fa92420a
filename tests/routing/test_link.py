"""The central property: whatever the cuts, merges, grants and delays, the receiver has what was appended."""

from dataclasses import dataclass, field

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.classify import KindTable
from laneway.routing.envelope import BODY, ENTITY, KIND, RUN, Envelope, envelope
from laneway.routing.errors import (
    LinkClosed,
    LinkLost,
    LocalProtocolError,
    PeerProtocolError,
    SlowConsumer,
    Superseded,
)
from laneway.routing.handshake import LinkPlan
from laneway.routing.inbox import Inbox, Received
from laneway.routing.lanes import Lane
from laneway.routing.link import DATA, URGENT, Cursor, Link, LinkFrame
from laneway.routing.replay import ReplayRing
from laneway.routing.shedding import Shedding

KINDS = KindTable()
TEXT = "TEXT_MESSAGE_CONTENT"
PIECES = ["a", "Hello ", "wörld. ", "日本", "。", "👩‍👩‍👧", "🇩🇪", "e\u0301", "", "x" * 20, "One. Two! ", "\r\n"]


def make(
    kind: str = TEXT, body: str | bytes = b"", *, entity: str = "m1", run: str = "r1", counter: int = 1
) -> Envelope:
    lane = (
        Lane.CRITICAL if kind in ("RUN_ERROR", "SESSION_EXPIRED") else Lane.LOW if kind == "PROGRESS" else Lane.NORMAL
    )
    raw = body.encode() if isinstance(body, str) else body
    return envelope(
        kind, producer="e", counter=counter, tenant="t", session="s", lane=lane, run=run, entity=entity, body=raw
    )


@dataclass
class Session:
    """Both rings and their log, as a session home holds them; also a link's shell for log reads."""

    rings: tuple[ReplayRing, ReplayRing]
    log: tuple[list[tuple[int, int, Envelope]], list[tuple[int, int, Envelope]]] = field(
        default_factory=lambda: ([], [])
    )

    def emit(self, env: Envelope, *, commit: bool = True) -> None:
        stream = URGENT if env[7] == Lane.CRITICAL else DATA
        seq, position, _ = self.rings[stream].append(env)
        self.log[stream].append((seq, position, env))
        if commit:
            self.rings[stream].commit(seq)

    def link(self, cursor: Cursor, now: float, plan: LinkPlan | None = None) -> Link:
        return Link(plan or LinkPlan(), *self.rings, cursor, KINDS, now)

    def poll(self, link: Link, now: float, page: int = 5) -> list[LinkFrame]:
        while (missing := link.missing()) is not None:
            stream, seq = missing
            link.fill(stream, self.log[stream][seq - 1 : seq - 1 + page])
        return link.poll(now)


def session(max_events: int = 1000, max_bytes: int = 262_144) -> Session:
    return Session((ReplayRing(max_events, max_bytes), ReplayRing(max_events, max_bytes)))


def welcome(link: Link, cursor: Cursor, resume: str) -> dict[str, object]:
    return {
        "welcome": {
            "resume": resume,
            "cursor": list(cursor[:3]),
            "position": link.start_position,
            "grant": link.granted,
        }
    }


class Client:
    """An application behind an inbox, with the history it was given."""

    def __init__(self, home: Session, plan: LinkPlan) -> None:
        self.home = home
        self.plan = plan
        self.inbox = Inbox()
        self.given: list[Received] = []
        self.link: Link | None = None
        self.wire: list[LinkFrame] = []

    def connect(self, now: float, *, honour_skip: bool = True) -> None:
        fresh = not self.inbox.cursor.epoch
        cursor = Cursor("e1", 0, 0) if fresh else self.inbox.cursor
        self.link = self.home.link(cursor if honour_skip else cursor._replace(skip=0), now, self.plan)
        self.wire = [LinkFrame(welcome(self.link, cursor, "new" if fresh else "resumed"), [])]

    def work(self, now: float) -> None:
        """Let the link write what is due."""
        assert self.link is not None
        for frame in self.home.poll(self.link, now):
            self.check(frame)
            self.wire.append(frame)

    def check(self, frame: LinkFrame) -> None:
        assert self.link is not None
        if frame.envelopes:
            stream = frame.header["stream"]
            assert self.link.sent[1 + stream] <= self.home.rings[stream].committed

    def read(self, now: float, frames: int) -> None:
        for frame in self.wire[:frames]:
            self.given.extend(self.inbox.receive(frame.header, frame.envelopes, now))
        del self.wire[:frames]

    def answer(self, now: float) -> None:
        assert self.link is not None
        header = self.inbox.ack_due(now)
        if header is not None:
            self.link.receive(header, now)


def told(events: list[Envelope]) -> tuple[dict[tuple[str, str, str], bytes], list[tuple[str, str, bytes]]]:
    """Text per entity, and the events that are not text, in order."""
    texts: dict[tuple[str, str, str], bytes] = {}
    others = []
    for env in events:
        if env[KIND] == TEXT:
            key = (env[KIND], env[RUN], env[ENTITY])
            texts[key] = texts.get(key, b"") + env[BODY]
        else:
            others.append((env[KIND], env[ENTITY], env[BODY]))
    return texts, others


def covered(given: list[Received], stream: int) -> list[int]:
    """Every seq in the order in which it became whole."""
    seqs: list[int] = []
    for item in given:
        if item.stream == stream:
            seqs.extend(range(item.first, item.last + (1 if item.whole else 0)))
    return seqs


EVENT = st.one_of(
    st.tuples(
        st.just("text"), st.sampled_from(["m1", "m1", "m1", "m2"]), st.lists(st.sampled_from(PIECES), max_size=6)
    ),
    st.tuples(st.just("other"), st.integers(0, 30)),
    st.tuples(st.just("urgent"), st.integers(0, 9)),
)
STEP = st.one_of(
    EVENT.map(lambda event: ("emit", event)),
    EVENT.map(lambda event: ("emit", event)),
    st.tuples(st.just("work"), st.integers(0, 1)),
    st.tuples(st.just("read"), st.integers(0, 1), st.integers(1, 3)),
    st.tuples(st.just("answer"), st.integers(0, 1)),
    st.tuples(st.just("cut"), st.integers(0, 1), st.booleans()),
    st.tuples(st.just("wait"), st.sampled_from([0.001, 0.02, 0.6])),
)


def build(event: tuple, counter: int) -> Envelope:
    if event[0] == "text":
        return make(TEXT, "".join(event[2]), entity=event[1], counter=counter)
    if event[0] == "other":
        return make("CUSTOM", b"o" * event[1], entity=str(counter), counter=counter)
    return make("SESSION_EXPIRED", bytes([event[1]]), run="", entity="", counter=counter)


PLANS_TRIED = st.tuples(st.integers(1, 40), st.integers(1, 5), st.booleans())


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=60), PLANS_TRIED, PLANS_TRIED, st.integers(1, 12))
def test_two_clients_of_any_speed_get_exactly_what_was_appended(steps, first, second, ring_events):
    """Cuts, resumes, merges, splits, log reads and a second slower link change nothing that is told."""
    home = session(max_events=ring_events)
    clients = []
    for chars, items, hold in (first, second):
        client = Client(
            home, LinkPlan(chunk_chars=chars, max_items=items, hold_sentence=hold, heartbeat_s=1e6, dead_after_s=1e6)
        )
        client.connect(0.0)
        clients.append(client)
    events: list[Envelope] = []
    now = 0.0
    for step in steps:
        now += 0.001
        match step:
            case ("emit", event):
                events.append(build(event, len(events) + 1))
                home.emit(events[-1])
            case ("work", who):
                clients[who].work(now)
            case ("read", who, frames):
                clients[who].read(now, frames)
            case ("answer", who):
                clients[who].answer(now)
            case ("cut", who, honour):
                clients[who].connect(now, honour_skip=honour)
            case ("wait", pause):
                now += pause
    for client in clients:
        goal = Cursor("e1", len(home.log[URGENT]), len(home.log[DATA]))
        tries = 0
        while (client.inbox.cursor != goal or tries < 3) and tries < 20_000:
            tries += 1
            now += 1.0
            client.work(now)
            client.read(now, 99)
            client.answer(now)
        client.answer(now + 1.0)
        assert client.inbox.cursor == goal
        assert client.inbox.position == home.rings[DATA].head_position
        for stream in (URGENT, DATA):
            assert covered(client.given, stream) == list(range(1, len(home.log[stream]) + 1))
            told_here = [item.envelope for item in client.given if item.stream == stream]
            assert told(told_here) == told([env for _, _, env in home.log[stream]])
        link = client.link
        assert link is not None
        assert link.closed is None
        assert link.acked[:3] == link.sent[:3]
        assert link.acked_position == home.rings[DATA].head_position


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30_000), st.booleans()), min_size=1, max_size=30),
    st.lists(st.integers(0, 400_000), max_size=20),
)
def test_credit_is_never_exceeded_by_more_than_one_seq(sizes, grants):
    """No event starts at or beyond the highest grant; lowered and repeated grants do nothing."""
    home = session()
    for counter, (size, text) in enumerate(sizes, 1):
        home.emit(make(TEXT if text else "CUSTOM", b"z" * size, counter=counter))
    link = home.link(Cursor("e1"), 0.0)
    granted = 65_536
    now = 0.0
    for grant in [0, *grants]:
        granted = max(granted, grant)
        link.receive({"grant": grant}, now)
        for _ in range(60):
            now += 0.02
            home.poll(link, now, page=3)
        assert link.granted <= granted
        begun = link.sent.data + (1 if link.sent.skip else 0)
        if begun:
            last_start = home.log[DATA][begun - 1][1] - len(home.log[DATA][begun - 1][2][BODY]) - 16
            assert last_start < granted
        if begun < len(sizes):
            assert home.log[DATA][begun - 1][1] >= granted


def test_a_link_sends_nothing_above_the_commit():
    """Numbered is not enough: the store must have it."""
    home = session()
    home.emit(make(body="a"))
    home.emit(make(body="b"), commit=False)
    link = home.link(Cursor("e1"), 0.0)
    assert [f.envelopes[0][BODY] for f in link.poll(0.0)] == [b"a"]
    assert link.poll(1.0) == []
    home.rings[DATA].commit(2)
    assert [f.envelopes[0][BODY] for f in link.poll(1.0)] == [b"b"]
    with pytest.raises(LocalProtocolError):
        home.link(Cursor("e1", 0, 3), 0.0)


def test_first_event_after_silence_goes_at_once_and_company_waits_for_the_flush():
    """No timer in front of the first token; the next ones share a frame."""
    home = session()
    link = home.link(Cursor("e1"), 0.0)
    assert link.poll(0.0) == []
    home.emit(make(body="first"))
    assert len(link.poll(1.0)) == 1
    home.emit(make(body="b"))
    assert link.poll(1.002) == []
    assert link.deadline() == pytest.approx(1.012)
    home.emit(make(body="c"))
    assert link.poll(1.005) == []
    frames = link.poll(1.012)
    assert [(f.header["first"], f.header["shape"], f.envelopes[0][BODY]) for f in frames] == [(2, [(2, 0)], b"bc")]


def test_a_full_frame_does_not_wait():
    """64 waiting events are a frame."""
    home = session()
    link = home.link(Cursor("e1"), 0.0)
    home.emit(make("CUSTOM"))
    link.poll(0.0)
    for _ in range(64):
        home.emit(make("CUSTOM"))
    assert len(link.poll(0.001)[0].envelopes) == 64


def test_answers_ride_on_the_next_frame_and_do_not_wait_long_for_one():
    """An OK waits 1 ms, or until 2 ms after a frame, and no longer; it delays no data, and takes data along."""
    home = session()
    link = home.link(Cursor("e1"), 0.0)
    home.emit(make())
    link.poll(0.0)
    home.emit(make("CUSTOM"))
    assert link.poll(0.001) == []
    assert link.deadline() == 0.002
    link.tell(0.001, ok=[[1, 1, "durable"]])
    link.tell(0.0015, ok=[[2, 1, "durable"]], refused=[[[3], "LANE_FULL", "", "full", 50]])
    assert not link.speaks, "when they go is planned"
    assert link.deadline() == 0.002
    assert link.poll(0.0015) == []
    assert link.deadline() == 0.002
    (frame,) = link.poll(0.002)
    assert frame.header["ok"] == [[1, 2, "durable"]]
    assert frame.header["refused"][0][0] == [3]
    assert frame.header["first"] == 2


def test_refusals_that_name_a_delay_wait_a_whole_window_for_company():
    """Who may not come again for a while needs no word within a millisecond; what is wrong for good is told soon."""
    link = session().link(Cursor("e1"), 0.0)
    link.tell(0.0, refused=[([1], "LANE_FULL", "", "full", 50)])
    link.tell(0.0, ok=[[2, 1, "durable"]])
    assert link.poll(0.0) == []
    link.tell(0.0, refused=[([3], "LANE_FULL", "", "full", 50)])
    assert link.deadline() == 0.010
    (frame,) = link.poll(0.010)
    assert frame.header == {"ok": [[2, 1, "durable"]], "refused": [[[1, 3], "LANE_FULL", "", "full", 50]]}
    link.tell(0.020, refused=[([4], "MALFORMED", "", "what is it?", None)])
    assert link.poll(0.020) == []
    assert link.deadline() == 0.021


def test_a_notice_goes_at_once_with_the_answers_that_wait():
    """Only lists of answers wait for company."""
    link = session().link(Cursor("e1"), 0.0)
    link.tell(0.0, ok=[[1, 1, "durable"]])
    assert link.poll(0.0) == []
    assert [frame.header for frame in link.poll(0.001)] == [{"ok": [[1, 1, "durable"]]}]
    link.tell(0.002, ok=[[2, 1, "durable"]])
    assert link.poll(0.002) == []
    link.tell(0.002, notice={"code": "DRAINING"})
    assert link.speaks
    assert [set(frame.header) for frame in link.poll(0.002)] == [{"ok", "notice"}]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["text", "alone", "answer", "urgent"]), st.integers(0, 4)), max_size=80))
def test_what_merges_with_nothing_waits_a_gap_text_a_window_and_frames_stay_few(steps):
    """Asked at its deadlines only, a link keeps no text above 10 ms, no answer above 2 ms, no other event above
    2 ms for each item of the last frame, and sends at most one frame of data and one of answers a gap unless
    something urgent forces one."""
    home = session()
    link = home.link(Cursor("e1"), 0.0, LinkPlan(heartbeat_s=1e6, dead_after_s=1e6))
    waiting: dict[int, tuple[str, float]] = {}
    answers: dict[int, float] = {}
    frames: list[float] = []
    forced, now, items = 0, 1.0, 1

    def look(at: float) -> None:
        nonlocal items
        last = items
        for frame in link.poll(at):
            frames.append(at)
            if frame.header.get("stream") == DATA:
                items = len(frame.envelopes)
            for first, count, _ in frame.header.get("ok", ()):
                for counter in range(first, first + count):
                    assert at <= answers.pop(counter) + 0.002 + 1e-9
        for seq in [seq for seq in waiting if seq <= link.sent.data]:
            kind, since = waiting.pop(seq)
            assert at <= since + (min(0.010, 0.002 * last) if kind == "alone" else 0.010) + 1e-9

    def pass_(until: float) -> None:
        while (due := link.deadline()) is not None and due <= until:
            look(max(due, link._now))
        look(until)

    for number, (what, pause_ms) in enumerate(steps, 1):
        match what:
            case "text":
                home.emit(make(body="t", counter=number))
            case "alone":
                home.emit(make("CUSTOM", b"c", counter=number))
            case "answer":
                link.tell(now, ok=[[number, 1, "volatile"]])
                answers[number] = now
            case "urgent":
                home.emit(make("RUN_ERROR", counter=number))
                forced += 1
        if what in ("text", "alone"):
            waiting[home.rings[DATA].committed] = (what, now)
        if link.stirs or link.speaks:
            look(now)
        pass_(now := now + pause_ms / 1000)
        if link.sent.urgent:
            link.receive({"ack": ["e1", link.sent.urgent, link.sent.data]}, now)
    pass_(now + 0.02)
    assert not waiting
    assert not answers
    assert len(frames) <= 2 * ((now - 1.0) / 0.002 + 1) + 2 * forced + 11


def test_urgent_overtakes_a_full_data_window():
    """With no data credit left and a flush pending, an urgent event goes in the same poll, first."""
    home = session()
    link = home.link(Cursor("e1"), 0.0)
    for _ in range(4):
        home.emit(make("CUSTOM", b"d" * 40_000))
    sent = [frame for _ in range(9) for frame in link.poll(0.0)]
    assert link.sent.data == 2
    assert len(sent) == 2
    home.emit(make("RUN_ERROR"))
    (frame,) = link.poll(0.0)
    assert (frame.header["stream"], frame.envelopes[0][KIND]) == (URGENT, "RUN_ERROR")
    link.receive({"grant": 200_000}, 0.1)
    home.emit(make("RUN_ERROR"))
    assert [f.header["stream"] for f in link.poll(0.1)] == [URGENT, DATA]


def test_unread_urgent_events_close_the_link_and_are_not_lost():
    """The 65th unacked urgent event ends the link SLOW_CONSUMER; a resume replays them all, in reserves."""
    home = session()
    link = home.link(Cursor("e1"), 0.0)
    for _ in range(64):
        home.emit(make("RUN_ERROR"))
    link.poll(0.0)
    assert link.closed is None
    assert link.sent.urgent == 64
    home.emit(make("RUN_ERROR"))
    frames = link.poll(0.1)
    assert isinstance(link.closed, SlowConsumer)
    assert frames[-1].header["notice"]["code"] == "SLOW_CONSUMER"
    assert frames[-1].header["notice"]["fatal"] is True
    assert link.sent.urgent == 64
    for _ in range(35):
        home.emit(make("RUN_ERROR"))
    again = home.link(Cursor("e1"), 1.0)
    again.poll(1.0)
    assert again.sent.urgent == 64
    assert again.closed is None
    again.receive({"ack": ["e1", 64, 0]}, 1.1)
    again.poll(1.1)
    assert again.sent.urgent == 100


def test_a_large_urgent_burst_is_bounded_in_bytes():
    """64 KiB of unacked urgent bodies are the other half of the reserve."""
    home = session()
    link = home.link(Cursor("e1"), 0.0)
    for _ in range(4):
        home.emit(make("RUN_ERROR", b"e" * 30_000))
        link.poll(0.0)
    assert isinstance(link.closed, SlowConsumer)
    assert link.sent.urgent == 3


def test_an_urgent_burst_at_once_is_bounded_in_bytes_too():
    """However the burst arrives, at most one event starts below the end of the 64 KiB reserve and runs over it."""
    home = session()
    link = home.link(Cursor("e1"), 0.0)
    for _ in range(12):
        home.emit(make("RUN_ERROR", b"e" * 15_000))
    for moment in range(4):
        link.poll(float(moment) / 100)
    assert isinstance(link.closed, SlowConsumer)
    assert link.sent.urgent == 5


def test_tombstones_become_exact_gaps():
    """What was dropped is told by kind and weight, and text around it is untouched."""
    home = session(max_bytes=2_000)
    link = home.link(Cursor("e1"), 0.0)
    events = [make("PROGRESS", b"p" * 300), make("LOG", b"l" * 300)[:7] + make("PROGRESS")[7:11] + (b"l" * 300, 0.0)]
    for env in [make(body="start "), *events, *events, make(body="x" * 1500), make(body="end")]:
        home.emit(env)
    client = Client(home, LinkPlan())
    client.connect(0.0)
    for step in range(10):
        client.work(float(step))
        client.read(float(step), 9)
    gaps = [item for item in client.given if item.gap is not None]
    assert gaps
    for item in gaps:
        assert item.gap is not None
        dropped = home.log[DATA][item.first - 1 : item.last]
        assert dict(item.gap.by_kind) == {k: sum(e[2][KIND] == k for e in dropped) for k in item.gap.by_kind}
        assert sum(item.gap.by_kind.values()) == item.last - item.first + 1
        assert item.gap.bytes == sum(len(e[2][BODY]) + 16 for e in dropped)
        body = msgpack.unpackb(item.envelope[BODY])
        assert body == {"by_kind": dict(item.gap.by_kind), "bytes": item.gap.bytes, "reason": "OVERLOAD"}
    assert client.inbox.position == home.rings[DATA].head_position
    texts, _ = told([item.envelope for item in client.given])
    assert texts == {(TEXT, "r1", "m1"): b"start " + b"x" * 1500 + b"end"}
    assert client.link is not None
    counted = client.link.statistics()
    assert counted.gapped[DATA] == client.inbox.gapped == sum(item.last - item.first + 1 for item in gaps)
    assert counted.delivered[DATA] + counted.gapped[DATA] + counted.pending[DATA] == home.rings[DATA].committed
    assert link.statistics().pending[DATA] == home.rings[DATA].committed


def test_resume_with_zero_events_twice_in_a_row():
    """A client that has everything, or nothing, resumes into an empty gap and then goes on."""
    home = session()
    client = Client(home, LinkPlan())
    client.connect(0.0)
    client.read(0.0, 1)
    client.connect(0.1)
    client.connect(0.2)
    client.read(0.2, 1)
    assert client.inbox.cursor == Cursor("e1", 0, 0)
    home.emit(make(body="on"))
    client.work(0.3)
    client.read(0.3, 1)
    assert [item.envelope[BODY] for item in client.given] == [b"on"]


@pytest.mark.parametrize("honour", [True, False])
def test_resume_in_mid_delta_gives_the_rest_to_the_byte(honour):
    """A cut after half a delta: neither a byte lost nor one twice, even if the offset is not honoured."""
    home = session()
    text = "Ein Satz mit Ümlauten und 👩‍👩‍👧 darin, lang genug für zwei Stücke."
    home.emit(make(body=text))
    client = Client(home, LinkPlan(chunk_chars=16, max_items=1))
    client.connect(0.0)
    client.work(0.0)
    client.read(0.0, 9)
    assert 0 < client.inbox.skip < len(text.encode())
    for step in range(1, 9):
        client.connect(float(step), honour_skip=honour)
        client.work(float(step))
        client.read(float(step), 9)
        if not honour:
            for more in range(9):
                client.work(step + more / 10)
                client.read(step + more / 10, 9)
    assert b"".join(item.envelope[BODY] for item in client.given).decode() == text


def test_a_false_offset_does_no_harm():
    """An offset inside a character or beyond the delta is not believed: the delta is sent whole."""
    home = session()
    home.emit(make(body="日本"))
    for skip in (1, 6, 600):
        link = home.link(Cursor("e1", 0, 0, skip), 0.0)
        (frame,) = link.poll(0.0)
        assert (frame.header.get("skip", 0), frame.envelopes[0][BODY]) == (0, "日本".encode())


def test_behind_the_ring_the_log_is_asked_for_and_its_position_told():
    """missing() names the seq, fill() continues, the first data frame carries the position."""
    home = session(max_events=3)
    for counter in range(1, 11):
        home.emit(make("CUSTOM", b"c" * counter))
    link = home.link(Cursor("e1", 0, 2), 0.0)
    assert link.start_position is None
    assert link.granted == 0
    assert link.missing() == (DATA, 3)
    assert link.poll(0.0) == []
    with pytest.raises(LocalProtocolError):
        link.fill(DATA, home.log[DATA][3:5])
    link.fill(DATA, home.log[DATA][1:5])
    (frame,) = link.poll(0.0)
    assert frame.header["position"] == home.log[DATA][1][1]
    assert (frame.header["first"], len(frame.envelopes)) == (3, 3)
    assert link.granted == home.log[DATA][1][1] + 65_536
    assert link.missing() == (DATA, 6)
    link.fill(DATA, home.log[DATA][5:9])
    (frame,) = link.poll(1.0)
    assert "position" not in frame.header
    assert link.missing() is None
    assert [f.header["first"] for f in link.poll(2.0)] == [10]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"ack": ["e1", 0, 2]}, "OUT_OF_RANGE"),
        ({"ack": ["e1", 1, 0]}, "OUT_OF_RANGE"),
        ({"ack": ["e2", 0, 0]}, "EPOCH_MISMATCH"),
        ({"ack": [0, 0]}, "BAD_TYPE"),
        ({"ack": ["e1", 0, -1]}, "NUMBER_RANGE"),
        ({"grant": "1"}, "BAD_TYPE"),
        ({"grant": 2**63}, "NUMBER_RANGE"),
        ({"grant": -1}, "NUMBER_RANGE"),
        ({"ping": True}, "BAD_TYPE"),
    ],
)
def test_a_broken_header_is_refused_with_its_reason(header, reason):
    """Each has its own typed error, and the link is as it was."""
    home = session()
    home.emit(make(body="a"))
    link = home.link(Cursor("e1"), 0.0)
    link.poll(0.0)
    with pytest.raises(PeerProtocolError) as refused:
        link.receive(header, 0.1)
    assert refused.value.reason == reason
    assert (link.acked, link.granted, link.closed) == (Cursor("e1"), 65_536, None)


def test_acks_backwards_and_unknown_keys_are_ignored():
    """Neither old acks nor a newer protocol's fields disturb."""
    home = session()
    for _ in range(3):
        home.emit(make("CUSTOM"))
    link = home.link(Cursor("e1"), 0.0)
    link.poll(0.0)
    link.receive({"ack": ["e1", 0, 3], "grant": 5, "colour": "red"}, 0.1)
    link.receive({"ack": ["e1", 0, 1]}, 0.1)
    assert link.acked == Cursor("e1", 0, 3)
    assert link.acked_position == 48


def test_heartbeats_go_both_ways_and_silence_ends_the_link():
    """Ping after 10 s, pong at once, LINK_LOST after 25 s without a frame."""
    link = session().link(Cursor("e1"), 0.0)
    assert link.deadline() == 10.0
    assert link.poll(10.0)[0].header == {"ping": 1}
    link.receive({"pong": 1, "ping": 77}, 10.2)
    link.receive({"pong": 1}, 10.2 + 9.0)
    assert link.quality.rtt_s == pytest.approx(0.2)
    assert link.poll(19.2)[0].header == {"pong": 77}
    link.poll(20.0)
    frames = link.poll(44.2)
    assert isinstance(link.closed, LinkLost)
    assert frames[-1].header["notice"]["retryable"] is True
    assert link.poll(45.0) == []
    assert link.deadline() is None


def test_closing_gives_what_is_due_then_the_notice():
    """Events within credit and answers go out before the fatal notice; then nothing."""
    home = session()
    link = home.link(Cursor("e1"), 0.0)
    assert link.state == "OPEN"
    for counter in range(200):
        home.emit(make("CUSTOM", counter=counter))
    link.tell(0.0, ok=[[9, 1, "durable"]])
    link.close(Superseded("newer link"))
    link.close(SlowConsumer("second error"))
    assert link.state == "CLOSING"
    frames = link.poll(0.0)
    assert sum(len(frame.envelopes) for frame in frames) == 200
    assert frames[0].header["ok"] == [[9, 1, "durable"]]
    assert frames[-1].header["notice"]["code"] == "SUPERSEDED"
    assert (link.state, link.poll(1.0), link.deadline()) == ("CLOSED", [], None)
    link.receive({"ack": ["other", 99, 99]}, 1.0)


def test_bye_ends_the_link_without_more_frames():
    """The client's goodbye is the end; its session goes on."""
    home = session()
    home.emit(make(body="a"))
    link = home.link(Cursor("e1"), 0.0)
    link.receive({"bye": True}, 0.0)
    assert isinstance(link.closed, LinkClosed)
    assert link.poll(0.0) == []


def test_answers_nobody_reads_end_the_link():
    """Header content is bounded too."""
    link = session().link(Cursor("e1"), 0.0)
    for counter in range(9000):
        link.tell(0.0, ok=[[2 * counter, 1, "durable"]])
    assert isinstance(link.closed, SlowConsumer)


def test_a_client_that_never_grants_is_paced_and_needs_no_ack():
    """10 KB/s leave in the long run; producers may run one window ahead of what was sent."""
    home = session()
    for _ in range(60):
        home.emit(make("CUSTOM", b"c" * 1000))
    link = home.link(Cursor("e1"), 0.0, LinkPlan(grants=False, pace_bytes_per_s=10_000))
    now, ends = 0.0, {}
    while link.statistics().pending[DATA] and now < 60:
        for frame in link.poll(now):
            ends[now] = link.statistics().bytes
            assert frame.envelopes
        deadline = link.deadline()
        now = max(now + 0.001, deadline if deadline is not None else now)
    assert link.statistics().bytes == 60_000
    assert all(total <= 10_000 * at + 2_500 + 1_001 for at, total in ends.items())
    assert 5.0 < now < 7.0
    assert link.acked.data == 60
    assert link.granted == link.position + 65_536


def test_whole_sentences_are_held_for_half_a_second_at_most():
    """Opt-in for speech: text waits for its sentence end, but never for long, and other events release it."""
    home = session()
    link = home.link(Cursor("e1"), 0.0, LinkPlan(hold_sentence=True))
    home.emit(make(body="It is done. And no"))
    (frame,) = link.poll(0.0)
    assert (frame.envelopes[0][BODY], frame.header["shape"]) == (b"It is done. ", [(1, 12)])
    assert link.poll(0.1) == []
    assert link.deadline() == pytest.approx(0.5)
    home.emit(make(body="w more. "))
    assert link.poll(0.2) == []
    (frame,) = link.poll(0.5)
    assert (frame.header["first"], frame.header["skip"], frame.envelopes[0][BODY]) == (1, 12, b"And now more. ")
    home.emit(make(body="Left"))
    assert link.poll(1.0) == []
    home.emit(make("TEXT_MESSAGE_END"))
    (frame,) = link.poll(1.1)
    assert [env[BODY] for env in frame.envelopes] == [b"Left", b""]


def test_grants_let_producers_run_one_mebibyte_ahead_at_most():
    """A client that grants the sky does not make a session's producers run without bound."""
    link = session().link(Cursor("e1"), 0.0)
    link.receive({"grant": 2**60}, 0.0)
    assert link.granted == 1_048_576


def test_a_commit_stirs_a_link_only_if_it_would_look_too_late_by_itself():
    """While a look at waiting data is planned, more of it changes nothing: until a frame is full, or it is urgent."""
    home = session()
    link = home.link(Cursor("e1"), 0.0, LinkPlan(max_items=4))
    assert link.stirs
    home.emit(make())
    assert link.poll(0.0)
    assert link.stirs, "nothing is planned"
    home.emit(make())
    assert link.poll(0.001) == []
    home.emit(make())
    assert not link.stirs
    assert link.deadline() == pytest.approx(0.011)
    home.emit(make("RUN_ERROR"))
    assert link.stirs
    assert link.poll(0.002)
    for _ in range(4):
        home.emit(make())
    assert link.stirs


def test_an_idle_link_has_nothing_to_send_whatever_its_client_says():
    """After everything went, acks and grants give `poll` nothing to do; an event, an answer or the end does."""
    home = session()
    link = home.link(Cursor("e"), 0.0)
    assert not link.idle
    link.poll(0.0)
    assert link.idle
    home.emit(make("TEXT_MESSAGE_START"))
    assert not link.idle
    assert link.poll(0.0)
    link.receive({"ack": ["e", 0, 1], "grant": 1_000_000}, 0.001)
    assert link.idle
    assert link.poll(0.001) == []
    link.tell(0.001, ok=[[1, 1, "durable"]])
    assert link.idle, "answers go at the deadline"
    assert link.deadline() == 0.002
    link.tell(0.001, notice={"code": "DRAINING"})
    assert not link.idle


def _texts(frames: list[LinkFrame]) -> list[str]:
    return [env[BODY].decode() for frame in frames for env in frame.envelopes if env[KIND] == TEXT]


@pytest.mark.parametrize("level", range(4))
def test_at_every_level_of_overload_heartbeats_answers_and_urgent_events_go_at_once(level: int) -> None:
    """And so does the first text of an answer; only text that goes on waits longer."""
    shedding = Shedding()
    shedding.set_level(level)
    s = session()
    link = Link(LinkPlan(), *s.rings, Cursor("e"), KINDS, 0.0, shedding)
    link.poll(0.0)
    s.emit(make("RUN_STARTED", b"\x80"))
    s.emit(make("TEXT_MESSAGE_START", b"\x80"))
    assert len(link.poll(0.5)) == 1
    s.emit(make(body="first"))
    assert _texts(link.poll(0.5001)) == ["first"], "right behind the frame that opened the message"
    for tick in range(3):
        s.emit(make(body=f" {tick}"))
        link.poll(0.501 + tick / 1000)
    assert link.deadline() == pytest.approx(0.501 + (0.010, 0.025, 0.050, 0.050)[level])
    link.receive({"ping": 7}, 0.520)
    assert link.poll(0.5201)[0].header["pong"] == 7
    s.emit(make("RUN_ERROR", b"\x80"))
    (frame, *_) = link.poll(0.5301)
    assert frame.header["stream"] == URGENT
    link.receive({"ack": ["e", 1, link.sent.data]}, 0.54)
    assert link.poll(11.1)[0].header["ping"] == 2, "the first one rode on a data frame"
    assert link.closed is None
