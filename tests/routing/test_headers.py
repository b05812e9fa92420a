from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from laneway.routing.envelope import envelope
from laneway.routing.errors import Draining, LaneFull
from laneway.routing.headers import HeaderQueue, notice, refused


def test_answers_gather_and_other_fields_keep_their_order():
    """Lists join one frame; a field that is taken begins the next."""
    queue = HeaderQueue()
    queue.add("ok", [[1, 1, "durable"]])
    queue.add("notice", {"code": "DRAIN"})
    queue.add("ok", [[2, 1, "durable"]])
    queue.add("notice", {"code": "SUPERSEDED"})
    queue.add("ok", [[3, 1, "durable"]])
    assert queue.waiting
    assert queue.take() == {"ok": [[1, 2, "durable"]], "notice": {"code": "DRAIN"}}
    assert queue.take() == {"notice": {"code": "SUPERSEDED"}, "ok": [[3, 1, "durable"]]}
    assert queue.take() == {}


def test_the_callers_list_stays_the_callers():
    """Later answers do not grow a list that was handed in."""
    mine = [[1, 1, "durable"]]
    queue = HeaderQueue()
    queue.add("ok", mine)
    queue.add("ok", [[2, 1, "durable"]])
    assert mine == [[1, 1, "durable"]]


def test_oks_that_go_on_are_one_row_and_weigh_one() -> None:
    """Thousands of events answered in order are no flood, however they were told."""
    queue = HeaderQueue()
    for number in range(20_000):
        queue.add("ok", [[1 + number, 1, "durable"]])
    assert not queue.overfull
    queue.add("ok", [[20_001, 64, "volatile"]])
    assert queue.take() == {"ok": [[1, 20_000, "durable"], [20_001, 64, "volatile"]]}


def test_only_the_newest_pong_is_sent():
    """A flood of pings costs one field."""
    queue = HeaderQueue()
    queue.add("pong", 1)
    for number in range(2, 100):
        queue.add("pong", number)
    assert queue.take() == {"pong": 99}
    assert not queue.waiting


def test_frames_stay_small_and_the_queue_says_when_nobody_reads():
    """1,024 answers a frame; beyond 8,192 waiting it is overfull, and taking them ends that."""
    queue = HeaderQueue()
    for number in range(8200):
        queue.add("ok", [[2 * number, 1, "durable"]])
    assert queue.overfull
    taken = 0
    while queue.waiting:
        taken += (size := len(queue.take()["ok"]))
        assert size <= 1024
    assert taken == 8200
    assert not queue.overfull


def test_a_notice_says_what_a_program_and_a_person_need():
    """Code, reason, sentence, whether and when to retry; fatal only if the link closes."""
    error = Draining("shutting down; connect elsewhere", retry_after_ms=500)
    assert notice(error) == {
        "code": "DRAINING",
        "reason": "",
        "message": "shutting down; connect elsewhere",
        "retryable": True,
        "retry_after_ms": 500,
    }
    assert notice(error, fatal=True)["fatal"] is True


def test_only_the_newest_quality_is_sent_and_it_does_not_wait():
    """A network that changes twice before a frame goes costs one field."""
    queue = HeaderQueue()
    queue.add("quality", {"grade": "fair"})
    queue.add("quality", {"grade": "poor"})
    assert not queue.patient
    assert queue.take() == {"quality": {"grade": "poor"}}


def test_refusals_are_spread_over_frames():
    """Each has a sentence: however many come at once, no frame's header is beyond its 64 KiB, and none is lost."""
    queue = HeaderQueue()
    rows = [[[number], "OVERLOADED", "POOL", f"{number}".ljust(200, "x"), 100] for number in range(1_000)]
    queue.add("refused", rows[:5])
    queue.add("refused", rows[5:])
    queue.add("ok", [[2 * number, 1, "durable"] for number in range(900)])
    taken = []
    while queue.waiting:
        taken.append(queue.take())
    assert [row for header in taken for row in header.get("refused", ())] == rows
    assert sum(len(header.get("ok", ())) for header in taken) == 900
    assert max(len(repr(header)) for header in taken) < 65_536
    assert queue.take() == {}


def test_refusals_with_one_word_are_one_row():
    """A flood costs a frame's one sentence and the counters; another delay is another word."""
    queue = HeaderQueue()
    queue.add("refused", [([1, 2], "LANE_FULL", "SESSION", "full", 100)])
    queue.add("refused", [([3], "LANE_FULL", "SESSION", "full", 100), ([4], "LANE_FULL", "SESSION", "full", 200)])
    assert queue.take() == {
        "refused": [[[1, 2, 3], "LANE_FULL", "SESSION", "full", 100], [[4], "LANE_FULL", "SESSION", "full", 200]]
    }
    assert queue.take() == {}


_ADDED = st.one_of(
    st.tuples(st.just("ok"), st.integers(1, 1_500)),
    st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 1_500)),
    st.tuples(st.just("pong"), st.just(1)),
    st.tuples(st.just("notice"), st.just(1)),
)


@given(st.lists(_ADDED, max_size=30))
def test_whatever_gathers_each_answer_is_sent_once_in_order(added):
    """However refusals, OKs and other fields mix: frames are bounded, and nothing is lost, doubled or out of order."""
    queue, number, told = HeaderQueue(), 0, {}
    for name, many in added:
        some = list(range(number, number + many))
        if name == "ok":
            queue.add("ok", [[each, 1, "durable"] for each in some])
        elif len(name) == 1:
            queue.add("refused", [(some, "REFUSED", name, "no", None)])
        else:
            queue.add(name, number)
            continue
        told.update(dict.fromkeys(some, name))
        number += many
    seen = {}
    while header := queue.take():
        rows = header.get("refused", [])
        assert sum(len(row[0]) for row in rows) <= 1024
        assert len(header.get("ok", ())) <= 1024
        taken = [each for first, count, _ in header.get("ok", ()) for each in range(first, first + count)]
        for name, counters in [("ok", taken), *((row[2], row[0]) for row in rows)]:
            assert not seen.keys() & set(counters)
            seen.update(dict.fromkeys(counters, name))
    assert seen == told
    for name in set(told.values()):
        assert all(a < b for a, b in pairwise([each for each in seen if seen[each] == name]))


def test_events_that_share_an_error_share_a_row():
    """A row for each error, with the counters of its events in their order."""
    full, other = LaneFull("full", reason="SESSION", retry_after_ms=100), Draining("over")
    events = [envelope("K", producer="p", counter=n, tenant="t", session="s", lane=2) for n in range(1, 5)]
    assert refused(zip(events, (full, other, full, full), strict=True)) == [
        ([1, 3, 4], "LANE_FULL", "SESSION", "full", 100),
        ([2], "DRAINING", "", "over", None),
    ]
