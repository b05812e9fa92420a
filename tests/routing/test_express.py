"""A frame that passes whole leaves behind exactly what its events would one by one; else nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.admission import Admission
from laneway.routing.classify import IN, Kind, KindTable
from laneway.routing.dispatch import DispatchCore, DispatchPolicy, PoolRoute
from laneway.routing.envelope import NO_DEADLINE, Envelope, envelope
from laneway.routing.errors import LanewayError
from laneway.routing.frame import frame_of
from laneway.routing.lanes import Lane
from laneway.routing.limits import AdmissionPolicy
from laneway.routing.quotas import Quota, QuotaPolicy
from laneway.routing.verdicts import Verdict

_KINDS = (
    Kind("URGENT", Lane.CRITICAL, direction=IN),
    Kind("WORK", Lane.NORMAL, direction=IN),
    Kind("EDIT", Lane.HIGH, direction=IN),
    Kind("NOTE", Lane.LOW, direction=IN),
    Kind("ODD", Lane.NORMAL, direction=IN),
)
_POLICY = DispatchPolicy(
    admission=AdmissionPolicy(
        # a power of two: so many steps of the rate at once are the same number as one after the other
        rate_per_s=64,
        burst=48,
        critical_burst=2,
        session_events=40,
        session_bytes=30_000,
        tenant_events=60,
        process_bytes=60_000,
        max_sessions=3,
    ),
    part_bytes=2_000,
)
_QUOTAS = QuotaPolicy(Quota(rate_per_s=128, burst=64, events=50, sessions=2), Quota(bytes=20_000))


def _core(**policy: Any) -> DispatchCore:
    core = DispatchCore(KindTable(_KINDS), replace(_POLICY, **policy))
    core.add_pool(PoolRoute("p", ("URGENT", "WORK", "USER_MESSAGE")))
    core.add_pool(PoolRoute("n", ("NOTE",)))
    core.add_pool(PoolRoute("keyed", ("EDIT",), keyed="session"))
    core.add_pool(PoolRoute("choosy", ("ODD",), accepts=lambda env: len(env[11]) < 300))
    return core


def _whole(core: DispatchCore, envs: list[Envelope], now: float) -> list[Verdict]:
    """Offer events as `Door` does: as a frame if that goes."""
    frame = frame_of(envs)
    if frame is None or not core.express.admit(frame, now):
        return core.offer(envs, now)
    pools = core.express.enqueue(frame)
    if pools is None:
        core.enqueue(envs, now)
    else:
        assert set(pools) == {core.express.pool_of(kind) for kind in frame.kinds}
        assert not any(pools.values())
    return list(envs)


def _one_by_one(core: DispatchCore, envs: list[Envelope], now: float) -> list[Verdict]:
    return [core.offer([env], now)[0] for env in envs]


def _told(answers: list[Verdict]) -> list[object]:
    return [(a.code, a.reason, a.message, a.retry_after_ms) if isinstance(a, LanewayError) else a for a in answers]


def _accounts(admission: Admission) -> dict[tuple[str, str], tuple[object, ...]]:
    return {
        (tenant, session): (one.events, one.bytes, one.held, one.newest, one.refused, one.arrival, known.events)
        for tenant, known in admission._accounts.tenants.items()
        for session, one in known.accounts.items()
    }


_SIZES = st.sampled_from([0, 0, 0, 0, 40, 250, 2_500])
_PLAIN = st.lists(
    st.tuples(st.sampled_from([("WORK", 2), ("WORK", 2), ("WORK", 3), ("NOTE", 3), ("NOTE", 3), ("EDIT", 1)]), _SIZES),
    min_size=1,
    max_size=4,
)
_ANY = st.lists(
    st.tuples(
        st.tuples(
            st.sampled_from(["WORK", "NOTE", "EDIT", "ODD", "URGENT", "USER_MESSAGE", "NOPE"]), st.integers(0, 4)
        ),
        _SIZES,
    ),
    min_size=1,
    max_size=4,
)
_FRAMES = st.tuples(
    st.one_of(_PLAIN, _PLAIN, _PLAIN, _ANY),
    st.integers(1, 24),  # events
    st.sampled_from([1, 1, 1, 1, 3, -3, -20]),  # its first counter, after the last one sent
    st.sampled_from([1, 1, 1, 2]),  # from one counter to the next
    st.sampled_from("aabc"),
    st.sampled_from(["", "", "", "", "", "", "p:1"]),
    st.sampled_from([NO_DEADLINE, NO_DEADLINE, NO_DEADLINE, 1_000.5]),
)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(_FRAMES, st.integers(0, 12), st.sampled_from([0, 0, 0, 0, 1, 2, 3])), min_size=1, max_size=8),
    st.booleans(),
)
def test_a_frame_is_decided_as_its_events_one_by_one(steps: list[Any], quotas: bool) -> None:
    """The same answers, books, accounts, and order out, at every level of overload, with quotas and without."""
    policy = {"quotas": _QUOTAS} if quotas else {}
    whole, single = _core(**policy), _core(**policy)
    sent, now = 0, 1_000.0
    for core in (whole, single):
        core.introduce("t", "a", "p", "alice")
        for number, kind in enumerate(_KINDS, 1):  # a kind's first event is never a frame's
            seen = envelope(kind.name, producer="x", counter=number, tenant="t", session="a", lane=3)
            core.admit([seen], 0.0)
            core.release(seen)
    for (rows, count, first, step, session, after, deadline), done, level in steps:
        envs = []
        for index in range(count):
            (kind, lane), size = rows[index % len(rows)]
            counter = max(1, sent + first) + index * step
            envs.append(
                envelope(
                    kind,
                    producer="p",
                    counter=counter,
                    tenant="t",
                    session=session,
                    lane=lane,
                    after=after,
                    deadline=deadline,
                    body=bytes(size),
                    accepted=now,
                )
            )
        sent = max(sent, counter)
        for core in (whole, single):
            core.admission.set_level(level)
        assert _told(_whole(whole, envs, now)) == _told(_one_by_one(single, envs, now))
        assert whole.statistics() == single.statistics()
        assert _accounts(whole.admission) == _accounts(single.admission)
        now += 1 / 16
        for pool in ("p", "n", "keyed", "choosy"):
            taken = whole.take(pool, done, now)
            assert taken == single.take(pool, done, now)
            whole.done(taken)
            for env in taken:
                single.done([env])
        assert [whole.expired(), whole.dropped()] == [single.expired(), single.dropped()]
        assert _accounts(whole.admission) == _accounts(single.admission)


def _frame(count: int = 8, **fields: Any) -> list[Envelope]:
    return [
        envelope(
            fields.get("kind", "WORK"),
            producer="p",
            counter=counter,
            tenant="t",
            session="s",
            lane=2,
            deadline=fields.get("deadline", NO_DEADLINE),
        )
        for counter in range(1, count + 1)
    ]


def _passes(core: DispatchCore, envs: list[Envelope]) -> bool:
    frame = frame_of(envs)
    assert frame is not None
    return core.express.admit(frame, 0.0)


def test_a_plain_frame_of_a_new_session_passes_whole() -> None:
    """Once its kinds were seen; what meets a limit or starts runs goes one by one."""
    core = _core()
    assert not _passes(core, _frame())
    core.offer([envelope("WORK", producer="x", counter=1, tenant="t", session="x", lane=2)], 0.0)
    assert _passes(core, _frame())
    assert not _passes(core, _frame())
    assert not _passes(core, _frame(kind="USER_MESSAGE"))
    assert core.statistics().pending == 9


def test_a_frame_with_deadlines_is_queued_one_by_one() -> None:
    """The queue notes the soonest; nothing is queued twice."""
    core = _core()
    core.offer([envelope("WORK", producer="x", counter=1, tenant="t", session="x", lane=2)], 0.0)
    frame = frame_of(_frame(deadline=3.0))
    assert frame is not None
    assert core.express.admit(frame, 0.0)
    assert core.express.enqueue(frame) is None
    assert core.backlog("p") == 1
