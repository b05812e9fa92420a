"""Quotas of tenants and subjects: each refusal names its quota; what is charged is given back, once."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.admission import Admission
from laneway.routing.envelope import Envelope, envelope
from laneway.routing.errors import ConfigError, LanewayError
from laneway.routing.lanes import Lane
from laneway.routing.limits import AdmissionPolicy
from laneway.routing.quotas import Quota, QuotaPolicy, Quotas

_FREE = AdmissionPolicy(rate_per_s=inf)
_ANY = Quota()


def _event(number: int, session: str = "s", tenant: str = "t", producer: str = "p", lane: int = Lane.HIGH) -> Envelope:
    return envelope("K", producer=producer, counter=number, tenant=tenant, session=session, lane=lane)


def _admission(tenant: Quota = _ANY, principal: Quota = _ANY, **tenants: Quota) -> Admission:
    return Admission(_FREE, QuotaPolicy(tenant, principal, tenants))


def _told(answer: Envelope | LanewayError) -> tuple[str, str, int | None]:
    assert isinstance(answer, LanewayError)
    assert answer.retryable
    return answer.code, answer.reason, answer.retry_after_ms


@pytest.mark.parametrize(
    ("quota", "told"),
    [
        ({"rate_per_s": 10, "burst": 3}, ("RATE_LIMITED", "TENANT_RATE", 100)),
        ({"events": 3}, ("LANE_FULL", "TENANT_EVENTS", 100)),
        ({"bytes": 600}, ("LANE_FULL", "TENANT_BYTES", 100)),
        ({"runs": 3}, ("LANE_FULL", "TENANT_RUNS", 1000)),
        ({"sessions": 3}, ("LANE_FULL", "TENANT_SESSIONS", 1000)),
    ],
)
def test_a_tenant_beyond_its_quota_is_told_which_and_when(quota: dict[str, Any], told: tuple[str, str, int]) -> None:
    """Over all its sessions together; another tenant does not feel it, nor one with a quota of its own."""
    admission = _admission(Quota(**quota), vip=Quota())
    for number in range(1, 4):
        assert isinstance(admission.admit(_event(number, f"s{number}"), 0.0, starts_run=True), tuple)
    assert _told(admission.admit(_event(9, "s9"), 0.0, starts_run=True)) == told
    assert isinstance(admission.admit(_event(1, tenant="u"), 0.0, starts_run=True), tuple)
    assert isinstance(admission.admit(_event(10, "s1", lane=Lane.CRITICAL), 0.0), tuple)
    for number in range(1, 10):
        assert isinstance(admission.admit(_event(number, f"s{number}", tenant="vip"), 0.0, starts_run=True), tuple)
    assert admission.release((_event(1, "s1"),))
    assert isinstance(admission.admit(_event(11, "s2" if "sessions" in quota else "s11"), 1.0, starts_run=True), tuple)


def test_a_subject_is_limited_over_its_sessions_and_clients() -> None:
    """Two clients of one person count together; another person of the tenant does not feel it."""
    admission = _admission(principal=Quota(events=2))
    quotas = admission.quotas
    assert quotas is not None
    for session, producer, subject in (("a", "phone", "ann"), ("b", "desk", "ann"), ("b", "tab", "bob")):
        quotas.introduce("t", session, producer, subject)
    assert isinstance(admission.admit(_event(1, "a", producer="phone"), 0.0), tuple)
    assert isinstance(admission.admit(_event(1, "b", producer="desk"), 0.0), tuple)
    assert _told(admission.admit(_event(2, "b", producer="desk"), 0.0)) == ("LANE_FULL", "SUBJECT_EVENTS", 100)
    assert isinstance(admission.admit(_event(1, "b", producer="tab"), 0.0), tuple)
    assert isinstance(admission.admit(_event(1, "b", producer="engine/run"), 0.0), tuple)
    assert not admission.settled("t", "b", "desk", 2)


def test_a_refusal_costs_neither_the_tenant_nor_the_session() -> None:
    """What the subject's quota refuses is not charged to the tenant, nor to the session's rate."""
    admission = Admission(
        AdmissionPolicy(rate_per_s=1, burst=2), QuotaPolicy(Quota(rate_per_s=1, burst=2), Quota(events=1))
    )
    assert admission.quotas is not None
    admission.quotas.introduce("t", "s", "p", "ann")
    assert isinstance(admission.admit(_event(1), 0.0), tuple)
    for number in range(2, 50):
        assert _told(admission.admit(_event(number), 0.0))[1] == "SUBJECT_EVENTS"
    assert admission.release((_event(1),))
    assert isinstance(admission.admit(_event(50), 0.0), tuple)


def test_who_speaks_is_forgotten_with_the_session() -> None:
    """With the account, once it is at rest: then events are the tenant's alone, until somebody is introduced."""
    admission = _admission(Quota(), Quota(events=1))
    assert admission.quotas is not None
    admission.quotas.introduce("t", "s1", "p", "ann")
    assert isinstance(admission.admit(_event(1, "s1"), 0.0), tuple)
    assert not admission.forget("t", "s1", 0.0)
    assert _told(admission.admit(_event(2, "s1"), 0.0))[1] == "SUBJECT_EVENTS"
    assert admission.release((_event(1, "s1"),))
    assert admission.forget("t", "s1", 9.0)
    assert [type(admission.admit(_event(number, "s1"), 9.0)) for number in (3, 4)] == [tuple, tuple]


def test_who_is_introduced_is_bounded() -> None:
    """Beyond 65,536 producers the session that spoke the longest ago goes, or the first of the one that there is."""
    quotas = Quotas(QuotaPolicy(principal=Quota(events=1)))
    for number in range(65_537):
        quotas.introduce("t", "s1", f"p{number}", "ann")
    asked = [_event(number, "s1", producer=f"p{producer}") for number, producer in ((1, 1), (2, 65_536), (3, 0))]
    charged = [quotas.charge(env, cost=1, starts_run=False, now=0.0) for env in asked]
    assert charged == [False, True, False], "the first is forgotten, so its tenant is charged alone"
    quotas.introduce("t", "s2", "p", "ann")
    assert not quotas.charge(_event(4, "s1", producer="p2"), cost=1, starts_run=False, now=0.0)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(["admit", "release"]), st.integers(1, 12), st.booleans()), max_size=80))
def test_what_is_charged_is_given_back(script: list[tuple[str, int, bool]]) -> None:
    """Whatever ends in whatever order: with nothing in flight nothing is charged, and the quota was never exceeded."""
    admission = _admission(Quota(events=5, bytes=900, runs=3), Quota(events=4))
    quotas = admission.quotas
    assert quotas is not None
    quotas.introduce("t", "s1", "p", "ann")
    held: set[int] = set()
    for what, number, run in script:
        env = _event(number, f"s{number % 2}")
        if what == "admit" and number not in held:
            if isinstance(admission.admit(env, 0.0, starts_run=run), tuple):
                held.add(number)
        elif what == "release":
            assert bool(admission.release((env,))) == (number in held)
            held.discard(number)
        assert len(quotas) == len(held) <= 4
    for number in held:
        admission.release((_event(number, f"s{number % 2}"),))
    assert len(quotas) == 0
    assert isinstance(admission.admit(_event(99), 0.0, starts_run=True), tuple)


def test_what_is_remembered_of_the_idle_is_bounded() -> None:
    """Ten thousand tenants that came and went are forgotten."""
    quotas = Quotas(QuotaPolicy(Quota(events=5)))
    for number in range(10_000):
        env = _event(1, tenant=f"t{number}")
        assert not quotas.charge(env, 200, False, float(number))
        quotas.refund((env, env))
    assert quotas.meters <= 1024


def test_the_idle_are_forgotten_beside_who_is_just_charged() -> None:
    """A tenant whose first event makes the idle be forgotten keeps what that event has used."""
    quotas = Quotas(QuotaPolicy(Quota(events=1), Quota(events=5)))
    for number in range(1023):
        env = _event(1, tenant=f"t{number}")
        assert not quotas.charge(env, 200, False, 0.0)
        quotas.refund((env,))
    quotas.introduce("new", "s", "p", "subject")
    assert not quotas.charge(_event(1, tenant="new"), 200, False, 0.0)
    assert quotas.charge(_event(2, tenant="new"), 200, False, 0.0)


def test_nobody_is_limited_unless_told() -> None:
    """Without a limit there is nothing to ask on the way of an event."""
    assert Admission().quotas is None
    assert _admission().quotas is None
    for wrong in ({"events": 0}, {"rate_per_s": 0}, {"burst": 0.5}):
        with pytest.raises(ConfigError):
            Quota(**wrong)
