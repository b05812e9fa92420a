"""What a tenant, and one subject of it, may use together, over all their sessions.

Law of this file: an event is charged to its tenant and to the subject that sent it, both or neither; a
refusal names the quota and says when to retry, and costs nothing. What was charged is given back once, by
the event's id. What is idle is forgotten, so that memory is bounded by what is in flight and by what a
rate still remembers.

Critical events are not charged: they are policed per session, and an interrupt must not wait for a quota.
Events that the engine itself makes (tool calls of a run) are charged to the tenant alone: the run that
makes them was charged to its subject.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil, inf
from typing import Final

from laneway.routing.envelope import COUNTER, LANE, PRODUCER, SESSION, TENANT, Envelope, Key, cost_bytes, key_of
from laneway.routing.errors import ConfigError, LaneFull, LanewayError, RateLimited
from laneway.routing.frame import Frame
from laneway.routing.shaper import SLACK_S, Gcra

__all__ = ["Quota", "QuotaPolicy", "Quotas"]

_FULL_RETRY_MS: Final = 100
_RUNS_RETRY_MS: Final = 1000
"""A run takes seconds: to come back sooner would only be refused again."""
_SWEEP_FROM: Final = 1024
_MAX_PRODUCERS: Final = 65_536


@dataclass(frozen=True, slots=True)
class Quota:
    """What one tenant, or one subject, may use; infinity: no limit.

    Attributes:
        rate_per_s, burst: events in the long run, and at once.
        events, bytes: in flight. runs: runs at once. sessions: sessions with events (of a tenant only).

    Raises:
        ConfigError: a limit under which nothing would be admitted.
    """

    rate_per_s: float = inf
    burst: float = 1_000.0
    events: float = inf
    bytes: float = inf
    runs: float = inf
    sessions: float = inf

    def __post_init__(self) -> None:
        """Raise ConfigError for a quota that admits nothing."""
        if not self.rate_per_s > 0 or min(self.burst, self.events, self.bytes, self.runs, self.sessions) < 1:
            raise ConfigError("a quota is below 1 (or a rate 0), so nothing would be admitted; raise it")

    @property
    def free(self) -> bool:
        """True if nothing is limited."""
        return self == Quota(burst=self.burst)


@dataclass(frozen=True, slots=True)
class QuotaPolicy:
    """Who may use how much.

    Attributes:
        tenant: each tenant. principal: each subject of a tenant.
        tenants: tenant -> its own quota, instead of `tenant`.
    """

    tenant: Quota = Quota()
    principal: Quota = Quota()
    tenants: Mapping[str, Quota] = field(default_factory=dict)

    @property
    def free(self) -> bool:
        """True if nobody is limited."""
        return all(quota.free for quota in (self.tenant, self.principal, *self.tenants.values()))


class _Meter:
    """What one tenant or subject uses."""

    __slots__ = ("arrival", "bytes", "events", "quota", "rate", "runs", "who")

    def __init__(self, who: str, quota: Quota) -> None:
        self.who = who
        self.quota = quota
        self.rate = Gcra(quota.rate_per_s, quota.burst) if quota.rate_per_s < inf else None
        self.arrival = -inf
        self.events = self.bytes = self.runs = 0

    def refuse(self, cost: int, starts_run: bool, now: float) -> LanewayError | None:
        """Return why this one may not use more, or None."""
        quota, who = self.quota, self.who
        if self.events >= quota.events:
            return self._full("EVENTS", f"has {self.events} events in flight, all that it may", _FULL_RETRY_MS)
        if self.bytes + cost > quota.bytes and self.events:
            return self._full("BYTES", f"has {self.bytes} bytes in flight, all that it may", _FULL_RETRY_MS)
        if starts_run and self.runs >= quota.runs:
            return self._full("RUNS", f"has {self.runs} runs going on, all that it may", _RUNS_RETRY_MS)
        if self.rate is None:
            return None
        _, wait_s = self.rate.offer(self.arrival, now)
        if not wait_s:
            return None
        return RateLimited(
            f"the {who} sends more than {quota.rate_per_s:g} events a second; slow down",
            reason=f"{who.upper()}_RATE",
            retry_after_ms=max(1, ceil(wait_s * 1000)),
        )

    def _full(self, what: str, why: str, retry_ms: int) -> LaneFull:
        message = f"the {self.who} {why}; wait for some to end"
        return LaneFull(message, reason=f"{self.who.upper()}_{what}", retry_after_ms=retry_ms)

    def fits(self, events: int, cost: int, now: float) -> bool:
        """True if so many events that start no run, of so many bytes together, meet no limit."""
        quota, rate = self.quota, self.rate
        if self.events + events > quota.events or self.bytes + cost > quota.bytes:
            return False
        return rate is None or max(self.arrival, now) + events * rate.interval_s - now - rate.tolerance_s <= SLACK_S

    def charge(self, cost: int, runs: int, now: float, events: int = 1) -> None:
        """Use it."""
        self.events += events
        self.bytes += cost
        self.runs += runs
        if self.rate is not None:
            self.arrival = max(self.arrival, now) + events * self.rate.interval_s


class Quotas:
    """The meters of one dispatcher. Every call O(1) amortised."""

    def __init__(self, policy: QuotaPolicy) -> None:
        self._policy = policy
        self._meters: dict[tuple[str, ...], _Meter] = {}
        self._held: dict[Key, tuple[int, bool, tuple[_Meter, ...]]] = {}
        self._subjects: OrderedDict[tuple[str, str], dict[str, str]] = OrderedDict()
        """(tenant, session) -> producer -> subject; who spoke last is forgotten last."""
        self._introduced = 0
        self._sweep_at = _SWEEP_FROM
        self._refusal: LanewayError | None = None

    def __len__(self) -> int:
        return len(self._held)

    @property
    def meters(self) -> int:
        """Tenants and subjects that are remembered."""
        return len(self._meters)

    def introduce(self, tenant: str, session: str, producer: str, subject: str) -> None:
        """Say whose events those of a producer are. Until then they are charged to the tenant alone."""
        known = self._subjects.get((tenant, session))
        if known is None:
            known = self._subjects[tenant, session] = {}
        else:
            self._subjects.move_to_end((tenant, session))
        self._introduced += producer not in known
        known[producer] = subject
        while self._introduced > _MAX_PRODUCERS:
            self._introduced -= self._forget_one()

    def forget(self, tenant: str, session: str) -> None:
        """Forget who speaks in a session that nobody uses."""
        self._introduced -= len(self._subjects.pop((tenant, session), ()))

    def _forget_one(self) -> int:
        """Forget who is introduced for longest: a session, or of a single one a producer; returns how many."""
        if len(self._subjects) > 1:
            return len(self._subjects.popitem(last=False)[1])
        (known,) = self._subjects.values()
        del known[next(iter(known))]
        return 1

    def sessions(self, tenant: str) -> float:
        """Return how many sessions this tenant may have."""
        return self._of_tenant(tenant).sessions

    def charge(self, env: Envelope, cost: int, starts_run: bool, now: float) -> bool:
        """Charge an event to its tenant and its subject; True if one may not: ask `refused`, nobody was charged."""
        if not env[LANE]:
            return False
        meters = self._meters_of(env[TENANT], env[SESSION], env[PRODUCER], now)
        for meter in meters:
            self._refusal = meter.refuse(cost, starts_run, now)
            if self._refusal is not None:
                return True
        for meter in meters:
            meter.charge(cost, starts_run, now)
        self._held[key_of(env)] = (cost, starts_run, meters)
        return False

    def charge_frame(self, frame: Frame, now: float) -> bool:
        """Charge events that start no run, none of them critical; False if not all may: then nobody was charged."""
        tenant, session, producer, cost = frame.tenant, frame.session, frame.producer, frame.cost_bytes
        meters = self._meters_of(tenant, session, producer, now)
        if not all(meter.fits(len(frame), cost, now) for meter in meters):
            return False
        for meter in meters:
            meter.charge(cost, 0, now, len(frame))
        for env in frame:
            self._held[tenant, session, producer, env[COUNTER]] = (cost_bytes(env), False, meters)
        return True

    def _meters_of(self, tenant: str, session: str, producer: str, now: float) -> tuple[_Meter, ...]:
        """Return who pays for a producer's events."""
        if len(self._meters) >= self._sweep_at:  # before those are looked up that are about to be charged
            self._meters = {name: one for name, one in self._meters.items() if one.events or one.arrival > now}
            self._sweep_at = max(_SWEEP_FROM, 2 * len(self._meters))
        introduced = self._subjects.get((tenant, session))
        subject = None if introduced is None else introduced.get(producer)
        payer = self._meter(("tenant", tenant), self._of_tenant(tenant))
        if subject is None:
            return (payer,)
        return payer, self._meter(("subject", tenant, subject), self._policy.principal)

    def refused(self) -> LanewayError | None:
        """Return, once, why the last `charge` said no; None if it did not."""
        refusal, self._refusal = self._refusal, None
        return refusal

    def refund(self, envs: Iterable[Envelope]) -> None:
        """Give back what these were charged for; without effect for those that were not, or are over already."""
        for env in envs:
            held = self._held.pop(key_of(env), None)
            if held is not None:
                cost, starts_run, meters = held
                for meter in meters:
                    meter.events -= 1
                    meter.bytes -= cost
                    meter.runs -= starts_run

    def _of_tenant(self, tenant: str) -> Quota:
        return self._policy.tenants.get(tenant, self._policy.tenant)

    def _meter(self, key: tuple[str, ...], quota: Quota) -> _Meter:
        meter = self._meters.get(key)
        if meter is None:
            meter = self._meters[key] = _Meter(key[0], quota)
        return meter
