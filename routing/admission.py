"""Who may put one more event in: rates, caps and budgets, answered at the door.

Law of this file: an event is admitted and reserved, or refused with a typed error that says when to
retry; nothing is kept of a refused one and nothing admitted is dropped later. A reservation ends
once, by the event's id, with exactly what it took. Caps count what is *in flight* (from admission
until it is over), in events and in bytes, per session, per tenant and per process, so that neither a
flood nor a stuck handler can fill memory.

Critical events are policed instead of capped: 20 a second and 50 at once per session go ahead, the
excess is demoted to high and meets the ordinary limits. So nobody gets ahead of others by flooding,
and a cancel is never refused for what else its session has queued (within a small reserve of its own).

Under overload (`set_level`) load is shed from the bottom: 1 the low lane, 2 sessions not known here,
3 new runs. What is going on is never shed. Load shedding by class and retry-after as in Google's
SRE book, chapter 21; policing of the strict class as in every strict priority scheduler (RFC 3246).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import ceil, inf
from typing import Final

from laneway.routing.envelope import Envelope, envelope_id
from laneway.routing.errors import (
    ConfigError,
    LaneFull,
    LanewayError,
    LocalProtocolError,
    Overloaded,
    PeerProtocolError,
    RateLimited,
)
from laneway.routing.lanes import LANE_NAMES
from laneway.routing.shaper import SLACK_S, Gcra

__all__ = ["Admission", "AdmissionPolicy"]

_RUN: Final = 4
"""Row of the limit tables for events that start a run; rows 0 to 3 are the lanes."""
_REMEMBER_S: Final = 60.0
"""How long an idle session counts as known."""
_SWEEP_EVERY_S: Final = 1.0
_MAX_PRODUCERS: Final = 64
_MAX_REFUSED: Final = 256
_MAX_LEVEL: Final = 3
_LEVEL_RETRY_MS: Final = 1000
"""Times the level: shed load returns the later the worse it is."""


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """The limits of one dispatcher. Infinity or a huge number means no limit.

    Attributes:
        rate_per_s, burst: events of one session in the long run, and at once.
        critical_per_s, critical_burst: critical events of one session before the rest is demoted.
        session_events, session_bytes: in flight per session. An event larger than the cap is
            admitted when its session has nothing else in flight.
        bulk_share: how much of the session's caps run-starting and low events may take, so that
            the tool calls of running runs still find room.
        critical_bytes: what critical events may take beyond the session's cap (and `critical_burst`
            of them).
        tenant_events, tenant_bytes: in flight per tenant; critical events are exempt.
        process_bytes: budget of all bodies in flight.
        spill_ratio, refuse_ratio: from which share of the budget on low, and all but critical
            events, are refused.
        max_sessions: sessions known at once; beyond it new ones are refused.
        full_retry_s: what a full session or tenant is told to wait: a few batches' time.
    """

    rate_per_s: float = 1_000.0
    burst: float = 2_000.0
    critical_per_s: float = 20.0
    critical_burst: int = 50
    session_events: int = 256
    session_bytes: int = 262_144
    bulk_share: float = 0.75
    critical_bytes: int = 65_536
    tenant_events: int = 65_536
    tenant_bytes: int = 67_108_864
    process_bytes: int = 1 << 30
    spill_ratio: float = 0.8
    refuse_ratio: float = 0.9
    max_sessions: int = 65_536
    full_retry_s: float = 0.1

    def __post_init__(self) -> None:
        """Raise ConfigError for limits under which nothing could be admitted."""
        lowest = min(self.session_events, self.session_bytes, self.tenant_events, self.tenant_bytes)
        if min(lowest, self.process_bytes, self.max_sessions, self.critical_burst) < 1:
            raise ConfigError("a cap of admission is below 1, so nothing would be admitted; raise it")
        if not 0.0 < self.bulk_share <= 1.0 or not 0.0 < self.spill_ratio <= self.refuse_ratio <= 1.0:
            raise ConfigError("shares of admission must lie in (0, 1], with spill_ratio not above refuse_ratio")


class _Tenant:
    """What one tenant has in flight, and its sessions."""

    __slots__ = ("accounts", "bytes", "events")

    def __init__(self) -> None:
        self.events = self.bytes = 0
        self.accounts: dict[str, _Account] = {}


class _Account:
    """What one session has in flight, and its rates."""

    __slots__ = ("arrival", "bytes", "critical_arrival", "held", "newest", "refused", "tenant")

    def __init__(self, tenant: _Tenant) -> None:
        self.tenant = tenant
        self.bytes = 0
        self.arrival = self.critical_arrival = -inf
        self.held: dict[tuple[str, int], int] = {}
        """(producer, counter) -> cost in bytes, of each event in flight."""
        self.newest: dict[str, int] = {}
        """producer -> highest counter admitted."""
        self.refused: dict[tuple[str, int], None] = {}
        """Ids refused lately and not admitted since."""


class Admission:
    """Accounts of sessions, tenants and the process. Every method O(1) amortised."""

    def __init__(self, policy: AdmissionPolicy | None = None) -> None:
        self._policy = p = policy or AdmissionPolicy()
        rate = Gcra(p.rate_per_s, p.burst)
        self._interval_s, self._tolerance_s = rate.interval_s, rate.tolerance_s
        self._critical = Gcra(p.critical_per_s, p.critical_burst)
        bulk_events, bulk_bytes = ceil(p.session_events * p.bulk_share), ceil(p.session_bytes * p.bulk_share)
        refuse, spill = p.process_bytes * p.refuse_ratio, p.process_bytes * p.spill_ratio
        events, size, tenant = p.session_events, p.session_bytes, (p.tenant_events, p.tenant_bytes)
        self._limits: tuple[tuple[float, float, float, float, float], ...] = (
            (events + p.critical_burst, size + p.critical_bytes, inf, inf, inf),
            (events, size, *tenant, refuse),
            (events, size, *tenant, refuse),
            (bulk_events, bulk_bytes, *tenant, spill),
            (bulk_events, bulk_bytes, *tenant, refuse),
        )
        """Per row: session events and bytes, tenant events and bytes, process bytes."""
        self._tenants: dict[str, _Tenant] = {}
        self._sessions = self._bytes = self._level = 0
        self._sweep_at, self._next_sweep = min(1024, p.max_sessions), -inf
        self.demoted = 0
        """Critical events that were beyond their rate and went on as high."""
        self.refusals: Counter[str] = Counter()
        """Refused events by error code."""

    @property
    def events(self) -> int:
        """Events in flight. O(tenants)."""
        return sum(tenant.events for tenant in self._tenants.values())

    @property
    def bytes(self) -> int:
        """Their cost."""
        return self._bytes

    @property
    def sessions(self) -> int:
        """Sessions known."""
        return self._sessions

    @property
    def level(self) -> int:
        """Overload level, 0 (none) to 3."""
        return self._level

    def set_level(self, level: int) -> None:
        """Set the overload level. Raises LocalProtocolError outside 0 to 3."""
        if not 0 <= level <= _MAX_LEVEL:
            raise LocalProtocolError(f"overload level {level} is not 0 to {_MAX_LEVEL}")
        self._level = level

    @property
    def pressure(self) -> int:
        """0 below the spill ratio of the process budget, 1 from there (spill to the log), 2 when refusing."""
        return (self._bytes >= self._limits[3][4]) + (self._bytes >= self._limits[1][4])

    def admit(self, env: Envelope, now: float, starts_run: bool = False) -> Envelope | LanewayError:
        """Reserve for one event of a known lane.

        Args:
            env: classified: its lane is the one it will wait in.
            now: monotonic seconds.
            starts_run: its handling is a run (bulk share of the caps, shed at level 3).

        Returns:
            The envelope to go on with (a critical one may have been demoted to high), or the refusal.
        """
        try:
            account = self._tenants[env[3]].accounts[env[4]]
        except KeyError:
            account = None
        if account is None or self._level:
            shed = self._shed(env, now, starts_run, account is None)
            if shed is not None:
                return shed
            if account is None:
                account = self._open(env)
        lane = env[7]
        if not lane:
            env = self._police(account, env, now)
            lane = env[7]
        row = _RUN if starts_run and lane else lane
        producer, counter = key = (env[0], env[1])
        held, tenant = account.held, account.tenant
        cost = 200 + len(env[11])
        used, tenant_used, total = account.bytes + cost, tenant.bytes + cost, self._bytes + cost
        max_events, max_bytes, tenant_events, tenant_bytes, budget = self._limits[row]
        if (
            len(held) >= max_events
            or tenant.events >= tenant_events
            or (used > max_bytes and held)
            or (tenant_used > tenant_bytes and tenant.events)
            or (total > budget and total > cost)
            or key in held
        ):
            return self._full(account, env, row, cost)
        if lane:  # GCRA (see shaper.py), in line: a call would double the cost of the common case
            after = (account.arrival if account.arrival > now else now) + self._interval_s
            if after - now - self._tolerance_s > SLACK_S:
                return self._too_fast(account, env, after - now - self._tolerance_s)
            account.arrival = after
        held[key] = cost
        account.bytes = used
        tenant.events += 1
        tenant.bytes = tenant_used
        self._bytes = total
        newest = account.newest
        if producer not in newest:
            self._meet(account, producer, counter)
        elif counter > newest[producer]:
            newest[producer] = counter
        if account.refused:
            account.refused.pop(key, None)
        return env

    def release(self, env: Envelope) -> bool:
        """End the reservation of the event with this id; False if there is none (it ended before)."""
        try:
            account = self._tenants[env[3]].accounts[env[4]]
            cost = account.held.pop((env[0], env[1]))
        except KeyError:
            return False
        account.bytes -= cost
        tenant = account.tenant
        tenant.events -= 1
        tenant.bytes -= cost
        self._bytes -= cost
        return True

    def withdraw(self, env: Envelope) -> bool:
        """As `release`, for an event that will not be handled after all: it counts as not yet come."""
        if not self.release(env):
            return False
        self._remember_refused(self._tenants[env[3]].accounts[env[4]], env)
        return True

    def settled(self, tenant: str, session: str, producer: str, counter: int) -> bool:
        """True if that event was admitted here and is over, as far as is known.

        Producers number upwards, so a counter not above the highest one admitted has come, unless it
        was refused. False for one in flight, refused, or yet to come, and for an unknown producer.
        """
        account = self._find(tenant, session)
        if account is None:
            return False
        key = (producer, counter)
        return counter <= account.newest.get(producer, 0) and key not in account.held and key not in account.refused

    def forget(self, tenant: str, session: str) -> None:
        """Drop what is remembered of a session that ended; one with events in flight stays."""
        account = self._find(tenant, session)
        if account is not None and not account.held:
            self._close(tenant, session)

    # -- slow paths -----------------------------------------------------------------------------

    def _police(self, account: _Account, env: Envelope, now: float) -> Envelope:
        account.critical_arrival, wait_s = self._critical.offer(account.critical_arrival, now)
        self.demoted += wait_s > 0
        return (*env[:7], 1, *env[8:]) if wait_s else env

    def _shed(self, env: Envelope, now: float, starts_run: bool, new: bool) -> LanewayError | None:
        """Refuse by overload level, or because no more sessions fit. Never a critical event of a known session."""
        level, what = self._level, ""
        if level >= 1 and env[7] == 3:
            what = "events of the low lane"
        elif level >= 2 and new:
            what = "new sessions"
        elif level >= 3 and starts_run:
            what = "new runs"
        if what:
            self.refusals[Overloaded.code] += 1
            message = f"the engine is overloaded (level {level}) and takes no {what} now; retry later"
            return Overloaded(message, reason=f"LEVEL_{level}", retry_after_ms=_LEVEL_RETRY_MS * level)
        if not new or self._make_room(now):
            return None
        self.refusals[Overloaded.code] += 1
        return Overloaded(
            f"{self._sessions} sessions are active, which is all this engine takes; retry later",
            reason="SESSIONS",
            retry_after_ms=_LEVEL_RETRY_MS,
        )

    def _find(self, tenant: str, session: str) -> _Account | None:
        known = self._tenants.get(tenant)
        return None if known is None else known.accounts.get(session)

    def _open(self, env: Envelope) -> _Account:
        tenant = self._tenants.get(env[3])
        if tenant is None:
            tenant = self._tenants[env[3]] = _Tenant()
        account = tenant.accounts[env[4]] = _Account(tenant)
        self._sessions += 1
        return account

    def _close(self, tenant: str, session: str) -> None:
        accounts = self._tenants[tenant].accounts
        del accounts[session]
        self._sessions -= 1
        if not accounts:
            del self._tenants[tenant]

    def _make_room(self, now: float) -> bool:
        """Forget idle sessions when many are known; True if one more fits. O(1) amortised."""
        limit = self._policy.max_sessions
        if self._sessions >= self._sweep_at and now >= self._next_sweep:
            self._sweep(now, _REMEMBER_S)
            if self._sessions >= limit:
                self._sweep(now, 0.0)
            self._sweep_at = min(limit, max(1024, 2 * self._sessions))
            self._next_sweep = now + _SWEEP_EVERY_S
        return self._sessions < limit

    def _sweep(self, now: float, idle_s: float) -> None:
        """Close accounts with nothing in flight that are at rest since `idle_s`: nothing is lost with them."""
        for name, tenant in list(self._tenants.items()):
            for session, account in list(tenant.accounts.items()):
                if not account.held and max(account.arrival, account.critical_arrival) + idle_s <= now:
                    self._close(name, session)

    def _meet(self, account: _Account, producer: str, counter: int) -> None:
        """Remember a producer's first event; the longest known producer goes beyond the bound."""
        if len(account.newest) >= _MAX_PRODUCERS:
            del account.newest[next(iter(account.newest))]
        account.newest[producer] = counter

    def _remember_refused(self, account: _Account, env: Envelope) -> None:
        account.refused[env[:2]] = None
        if len(account.refused) > _MAX_REFUSED:
            del account.refused[next(iter(account.refused))]

    def _full(self, account: _Account, env: Envelope, row: int, cost: int) -> LanewayError:
        """Say which limit was met."""
        if env[:2] in account.held:
            self.refusals[PeerProtocolError.code] += 1
            return PeerProtocolError(
                f"event {envelope_id(env)} is in flight already; give every event its own number", reason="DUPLICATE"
            )
        self._remember_refused(account, env)
        retry_ms = ceil(self._policy.full_retry_s * 1000)
        max_events, max_bytes, tenant_events, tenant_bytes, _ = self._limits[row]
        error: LanewayError
        if len(account.held) >= max_events or (account.held and account.bytes + cost > max_bytes):
            error = LaneFull(
                f"the session has {len(account.held)} events ({account.bytes} bytes) in flight, all that its "
                f"{LANE_NAMES[env[7]]} lane may; wait for some to end",
                reason="SESSION",
                retry_after_ms=retry_ms,
            )
        elif account.tenant.events >= tenant_events or account.tenant.bytes + cost > tenant_bytes:
            error = LaneFull(
                f"the tenant has {account.tenant.events} events ({account.tenant.bytes} bytes) in flight, all that "
                "it may; wait for some to end",
                reason="TENANT",
                retry_after_ms=retry_ms,
            )
        else:
            error = Overloaded(
                "the engine holds as many bytes as it may; retry later", reason="MEMORY", retry_after_ms=_LEVEL_RETRY_MS
            )
        self.refusals[error.code] += 1
        return error

    def _too_fast(self, account: _Account, env: Envelope, wait_s: float) -> RateLimited:
        self._remember_refused(account, env)
        self.refusals[RateLimited.code] += 1
        return RateLimited(
            f"the session sends more than {self._policy.rate_per_s:g} events a second; slow down",
            reason="SESSION",
            retry_after_ms=max(1, ceil(wait_s * 1000)),
        )
