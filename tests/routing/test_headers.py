from laneway.routing.errors import Draining
from laneway.routing.headers import HeaderQueue, notice


def test_answers_gather_and_other_fields_keep_their_order():
    """Lists join one frame; a field that is taken begins the next."""
    queue = HeaderQueue()
    queue.add("ok", [[1, "durable"]])
    queue.add("notice", {"code": "DRAIN"})
    queue.add("ok", [[2, "durable"]])
    queue.add("notice", {"code": "SUPERSEDED"})
    queue.add("ok", [[3, "durable"]])
    assert len(queue) == 2
    assert queue.take() == {"ok": [[1, "durable"], [2, "durable"]], "notice": {"code": "DRAIN"}}
    assert queue.take() == {"notice": {"code": "SUPERSEDED"}, "ok": [[3, "durable"]]}
    assert queue.take() == {}


def test_the_callers_list_stays_the_callers():
    """Later answers do not grow a list that was handed in."""
    mine = [[1, "durable"]]
    queue = HeaderQueue()
    queue.add("ok", mine)
    queue.add("ok", [[2, "durable"]])
    assert mine == [[1, "durable"]]


def test_only_the_newest_pong_is_sent():
    """A flood of pings costs one field."""
    queue = HeaderQueue()
    queue.add("pong", 1)
    for number in range(2, 100):
        queue.add("pong", number)
    assert queue.take() == {"pong": 99}
    assert len(queue) == 0


def test_frames_stay_small_and_the_queue_says_when_nobody_reads():
    """1,024 answers a frame; beyond 8,192 waiting it is overfull, and taking them ends that."""
    queue = HeaderQueue()
    for number in range(8200):
        queue.add("ok", [[number, "durable"]])
    assert queue.overfull
    taken = 0
    while len(queue):
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
    rows = [[number, "OVERLOADED", "POOL", "x" * 200, 100] for number in range(1_000)]
    queue.add("refused", rows[:5])
    queue.add("refused", rows[5:])
    queue.add("ok", [[number, "durable"] for number in range(900)])
    taken = [queue.take() for _ in range(len(queue))]
    assert [row for header in taken for row in header.get("refused", ())] == rows
    assert sum(len(header.get("ok", ())) for header in taken) == 900
    assert max(len(repr(header)) for header in taken) < 65_536
    assert queue.take() == {}
