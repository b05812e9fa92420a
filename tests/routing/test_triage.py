"""Batches in which events need a second look: each is answered as if it had come alone."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from laneway.routing.aimd import TICK_S
from laneway.routing.classify import IN, Kind, KindTable
from laneway.routing.dispatch import DispatchCore, DispatchPolicy, PoolRoute, Verdict
from laneway.routing.envelope import Envelope, envelope
from laneway.routing.lanes import Lane
from laneway.routing.limits import AdmissionPolicy

_KINDS = (
    Kind("URGENT", Lane.CRITICAL, direction=IN),
    Kind("EDIT", Lane.HIGH, direction=IN),
    Kind("WORK", Lane.NORMAL, direction=IN),
    Kind("ELSE", Lane.NORMAL, direction=IN),
    Kind("NOTE", Lane.LOW, direction=IN, durable=False),
)
_NAMES = ("URGENT", "EDIT", "WORK", "USER_MESSAGE", "NOTE")
_TARGET_S = 0.001


def _event(counter: int, kind: str, **more: Any) -> Envelope:
    fields: dict[str, Any] = {"producer": "p", "tenant": "t", "session": "s", "lane": 0, "accepted": 0.0}
    return envelope(kind, counter=counter, **{**fields, **more})


def _full(session_events: int = 10_000) -> tuple[DispatchCore, float]:
    """A pool whose normal lane is limited: 100 events of two sessions wait for far longer than they may."""
    policy = DispatchPolicy(admission=AdmissionPolicy(rate_per_s=1e9, burst=1e9, session_events=session_events))
    core = DispatchCore(KindTable(_KINDS), policy)
    core.add_pool(PoolRoute("p", _NAMES, target_wait_s=_TARGET_S))
    core.add_pool(PoolRoute("q", ("ELSE",), accepts=lambda env: env[11] == b"q"))
    core.add_pool(PoolRoute("r", ("ELSE",), target_wait_s=_TARGET_S))
    core.offer([_event(n, kind, session=f"x{n % 2}", producer="x") for n in range(1, 150) for kind in ("WORK",)], 0.0)
    now = 0.0
    for _ in range(20):
        now += TICK_S
        core.done(core.take("p", 2, now))
    assert core.statistics().limits["p"]["normal"] == 64
    return core, now


def _told(answer: Verdict) -> object:
    return answer if isinstance(answer, tuple) else (answer.code, answer.reason)


_OFFERED = st.tuples(
    st.sampled_from([*_NAMES, "ELSE", "NONSENSE"]),
    st.sampled_from(["s", "new", "x0"]),
    st.integers(0, 4),
    st.sampled_from(["", "", "p:1", "p:9", "bad"]),
    st.sampled_from([b"", b"q"]),
)


@given(st.lists(_OFFERED, max_size=60), st.sampled_from([8, 10_000]))
def test_a_frame_is_answered_as_its_events_one_by_one(
    offered: list[tuple[str, str, int, str, bytes]], session_events: int
) -> None:
    """Kinds, lanes, names, a full pool, a full session: the same decisions, the same books, the same memory."""
    (whole, now), (single, _) = _full(session_events), _full(session_events)
    envs = [
        _event(number, kind, session=session, lane=lane, after=after, body=body)
        for number, (kind, session, lane, after, body) in enumerate(offered, start=1)
    ]
    answers = whole.admit(envs, now)
    assert [_told(answer) for answer in answers] == [_told(single.admit([env], now)[0]) for env in envs]
    assert whole.statistics() == single.statistics()
    for env in envs:
        key = ("t", env[4], "p", env[1])  # what is refused before its session is known is remembered only in a frame
        assert single.admission.settled(*key) or not whole.admission.settled(*key)


def test_a_full_pool_refuses_a_class_of_a_session_with_one_error() -> None:
    """All that is alike in a frame shares one object; what is not alike goes on."""
    core, now = _full()
    envs = [_event(number, ("WORK", "EDIT")[number % 2], session="x0") for number in range(1, 65)]
    answers = core.admit(envs, now)
    assert [isinstance(answer, tuple) for answer in answers] == [env[2] == "EDIT" for env in envs]
    assert len({id(answer) for answer in answers if not isinstance(answer, tuple)}) == 1
    assert core.statistics().refused == {"OVERLOADED": 32}


def test_an_event_refused_behind_the_first_of_a_session_counts_as_not_yet_come() -> None:
    """What names it waits for it, though it was refused in the frame with which the session began."""
    core, now = _full()
    core.offer([_event(number, "WORK", session=f"z{number}") for number in range(1, 200)], now)
    answers = core.offer([_event(1, "EDIT"), _event(2, "WORK"), _event(3, "EDIT")], now)
    assert [isinstance(answer, tuple) for answer in answers] == [True, False, True]
    core.done(core.take("p", 1_000, now))
    assert [core.admission.settled("t", "s", "p", counter) for counter in (1, 2, 3)] == [True, False, True]


def test_who_has_more_time_is_asked_for_itself() -> None:
    """What a full pool said to an event holds for those with no more time, not for one that can wait longer."""
    core, now = _full()
    due = [now + 0.001, now + 0.04, now + 60.0]
    envs = [_event(number, "WORK", session="x0", deadline=at) for number, at in enumerate(due, start=1)]
    answers = core.admit(envs, now)
    assert answers[0] is answers[1]
    assert answers[2] is not answers[0]
