"""Who may put one more event in: rates, caps and budgets, answered at the door.

Law of this file: an event is admitted and reserved, or refused with a typed error that says when to
retry; nothing is kept of a refused one and nothing admitted is dropped later. A reservation ends
once, by the event's id, with exactly what it took. Caps count what is *in flight* (from admission
until it is over), in events and in bytes, per session, per tenant and per process, so that neither a
flood nor a stuck handler can fill memory. Who may use how much of them: `limits`.

Critical events are policed instead of capped: 20 a second and 50 at once per session go ahead, the
excess is demoted to high and meets the ordinary limits. So nobody gets ahead of others by flooding,
and a cancel is never refused for what else its session has queued (within a small reserve of its own).
Policing of the strict class as in every strict priority scheduler (RFC 3246).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable
from math import ceil
from typing import Final, TypeAlias

from laneway.routing.accounts import Account, Accounts, TenantAccount
from laneway.routing.envelope import Envelope, envelope_id
from laneway.routing.errors import LaneFull, LanewayError, Overloaded, PeerProtocolError, RateLimited
from laneway.routing.frame import Frame
from laneway.routing.lanes import LANE_NAMES
from laneway.routing.limits import RUN, AdmissionPolicy, rows
from laneway.routing.quotas import QuotaPolicy, Quotas
from laneway.routing.shaper import SLACK_S, Gcra
from laneway.routing.shedding import Shedding

__all__ = ["Admission"]

_ENGINE_RETRY_MS: Final = 1000
"""When to come back to an engine that is full."""
_CLASSES: Final = (*(f"{name} events" for name in LANE_NAMES), "new runs")
"""What a row of the limits is for, in words."""
_Said: TypeAlias = dict[int, tuple[LanewayError, int, int]]
"""Row -> what an event of a session was refused with in this batch, its cost, and what the session had in flight."""


class Admission:
    """Decides over every event at the door. Every method O(1) amortised."""

    def __init__(self, policy: AdmissionPolicy | None = None, quotas: QuotaPolicy | None = None) -> None:
        self._policy = p = policy or AdmissionPolicy()
        self._interval_s = Gcra(p.rate_per_s, p.burst).interval_s
        self._critical = Gcra(p.critical_per_s, p.critical_burst)
        self._rows = rows(p)
        self._accounts = Accounts(p.max_sessions)
        self._tenants = self._accounts.tenants
        self._nobody = Account(TenantAccount())
        self.shedding = Shedding()
        """The overload level, and what it refuses."""
        self.known_over: Callable[[str, str, str, int], bool] = lambda tenant, session, producer, counter: False
        """Whether an event of a producer without an account is over; whoever keeps sessions knows."""
        self.admitted = 0
        """Events admitted."""
        self.quotas = None if quotas is None or quotas.free else Quotas(quotas)
        """What tenants and subjects use over all their sessions; None: nobody is limited."""
        self.demoted = 0
        """Critical events that were beyond their rate and went on as high."""
        self.refusals: Counter[str] = Counter()
        """Refused events by error code."""

    @property
    def events(self) -> int:
        """Events in flight. O(tenants)."""
        return self._accounts.events

    @property
    def bytes(self) -> int:
        """Their cost."""
        return self._accounts.bytes

    @property
    def sessions(self) -> int:
        """Sessions known."""
        return len(self._accounts)

    @property
    def level(self) -> int:
        """Overload level, 0 (none) to 3."""
        return self.shedding.level

    def set_level(self, level: int) -> None:
        """Set the overload level. Raises LocalProtocolError outside 0 to 3."""
        self.shedding.set_level(level)

    def admit(self, env: Envelope, now: float, starts_run: bool = False) -> Envelope | LanewayError:
        """Reserve for one event: a batch of one."""
        return self.admit_batch((env,), (env[2],) if starts_run else (), now)[0]

    def admit_batch(self, envs: Iterable[Envelope], runs: Container[str], now: float) -> list[Envelope | LanewayError]:
        """Reserve for classified events, in order; O(events), and least for what is one session's in a row.

        Returns per event the envelope to go on with (critical may have become high), or the refusal. `runs`: kinds.
        """
        accounts, limits, level, interval_s = self._accounts, self._rows, self.shedding.level, self._interval_s
        answers: list[Envelope | LanewayError] = []
        account, quotas = self._nobody, self.quotas
        held, newest, tenant = account.held, account.newest, account.tenant
        session, name = None, ""
        full: _Said = {}
        for env in envs:
            if level or env[4] != session or env[3] != name:
                known = None if level else self._tenants.get(env[3])
                found = (known.accounts.get(env[4]) if known is not None else None) or self._account(env, runs, now)
                if not isinstance(found, Account):
                    answers.append(found)
                    session = None
                    continue
                account, name, session, full = found, env[3], env[4], {}
                held, newest, tenant = account.held, account.newest, account.tenant
            if not env[7]:
                env = self._police(account, env, now)
            lane = env[7]
            row = RUN if lane and env[2] in runs else lane
            max_events, max_bytes, tenant_events, tenant_bytes, budget, ahead_s = limits[row]
            producer, counter = env[0], env[1]
            own = held.get(producer)
            cost = 200 + len(env[11])
            used, tenant_used, total = account.bytes + cost, tenant.bytes + cost, accounts.bytes + cost
            after = (account.arrival if account.arrival > now else now) + interval_s  # GCRA, see shaper.py
            if (
                account.events >= max_events
                or tenant.events >= tenant_events
                or (used > max_bytes and account.events)
                or (tenant_used > tenant_bytes and tenant.events)
                or (total > budget and total > cost)
                or (own is not None and counter in own)
                or after - now - ahead_s > SLACK_S
                or (quotas is not None and quotas.charge(env, cost, row == RUN, now))
            ):
                answers.append(self._refused(full, account, env, row, cost, after - now - ahead_s))
                continue
            if own is None:
                own = held[producer] = {}
            own[counter] = env
            if lane:
                account.arrival = after
            account.bytes, tenant.bytes, accounts.bytes = used, tenant_used, total
            account.events, tenant.events = account.events + 1, tenant.events + 1
            if producer not in newest:
                account.meet(producer, counter)
            elif counter > newest[producer]:
                newest[producer] = counter
            if account.refused:
                account.refused.pop((producer, counter), None)
            answers.append(env)
            self.admitted += 1
        return answers

    def admit_frame(self, frame: Frame, now: float) -> bool:
        """Reserve for all events of a classified frame, if none of them meets a limit; else nothing has happened.

        Its caller has made sure that none is critical and none starts a run. Where `admit_batch` admits them all
        with room to spare this does, and keeps the same accounts. O(events), at a tenth of the cost.
        """
        accounts, account = self._accounts, self._accounts.find(frame.tenant, frame.session)
        if account is None:
            if self.shedding.level or self.quotas is not None or not accounts.make_room(now):
                return False
            account = accounts.open(frame.tenant, frame.session)
        count, cost, tenant, lanes = len(frame), frame.cost_bytes, account.tenant, set(frame.lanes)
        events, tenant_events = account.events + count, tenant.events + count
        used, tenant_used, total = account.bytes + cost, tenant.bytes + cost, accounts.bytes + cost
        after = max(account.arrival, now) + count * self._interval_s
        for lane in lanes:
            row = self._rows[lane]
            if (
                events > row.events
                or used > row.bytes
                or tenant_events > row.tenant_events
                or tenant_used > row.tenant_bytes
                or total > row.budget
                or after - now - row.ahead_s > SLACK_S
            ):
                return False
        if self.shedding.level and any(self.shedding.refuse(lane, False, False) for lane in lanes):
            return False
        own = account.held.get(frame.producer)
        if own is not None and not own.keys().isdisjoint(frame.counters):
            return False
        if self.quotas is not None and not self.quotas.charge_frame(frame, now):
            return False
        account.enter(frame)
        account.arrival = after
        account.events, tenant.events = events, tenant_events
        account.bytes, tenant.bytes, accounts.bytes = used, tenant_used, total
        self.admitted += count
        return True

    def release(self, envs: Iterable[Envelope]) -> list[Envelope]:
        """End the reservations of the events with these ids; returns those that had one (until now).

        O(events), and least for what is one producer's in a row.
        """
        over: list[Envelope] = []
        own: dict[int, Envelope] = {}
        account, producer, count, cost = self._nobody, "", 0, 0
        for env in envs:
            held = own.get(env[1])
            if held is not env:  # another producer's, or not as it was admitted: a part, or put together
                if count:
                    self._free(account, producer, count, cost)
                    count = cost = 0
                producer = env[0]
                try:
                    account = self._tenants[env[3]].accounts[env[4]]
                    own = account.held[producer]
                    held = own[env[1]]
                except KeyError:
                    own = {}
                    continue
            del own[env[1]]
            cost += len(held[11])
            count += 1
            over.append(env)
        if count:
            self._free(account, producer, count, cost)
        if self.quotas is not None:
            self.quotas.refund(over)
        return over

    def _free(self, account: Account, producer: str, count: int, body_bytes: int) -> None:
        """Book out so many events of a producer, with bodies of so many bytes together."""
        cost, tenant = 200 * count + body_bytes, account.tenant
        account.events -= count
        account.bytes -= cost
        tenant.events -= count
        tenant.bytes -= cost
        self._accounts.bytes -= cost
        if not account.held[producer]:
            del account.held[producer]

    def withdraw(self, env: Envelope) -> bool:
        """As `release`, for an event that will not be handled after all: it counts as not yet come."""
        if not self.release((env,)):
            return False
        self._tenants[env[3]].accounts[env[4]].remember_refused(env)
        return True

    def holds(self, tenant: str, session: str, producer: str, counter: int) -> bool:
        """True if that event is in flight."""
        account = self._accounts.find(tenant, session)
        return account is not None and account.holds(producer, counter)

    def turn_away(self, refused: Iterable[tuple[Envelope, LanewayError]]) -> None:
        """Note that events were refused for their pools' sake: they count as not yet come. O(events)."""
        for env, error in refused:
            account = self._accounts.find(env[3], env[4])
            if account is not None:
                account.remember_refused(env)
            self.refusals[error.code] += 1

    def settled(self, tenant: str, session: str, producer: str, counter: int) -> bool:
        """True if that event was admitted here and is over, as far as is known.

        Producers number upwards, so a counter not above the highest one admitted has come, unless it
        was refused. False for one in flight, refused, or yet to come; of a producer that is not known
        (any more) `known_over` is asked.
        """
        account = self._accounts.find(tenant, session)
        settled = None if account is None else account.settled(producer, counter)
        return self.known_over(tenant, session, producer, counter) if settled is None else settled

    def forget(self, tenant: str, session: str, now: float) -> bool:
        """Drop what is remembered of a session that nobody uses; False if it is not at rest yet, and stays."""
        if not self._accounts.forget(tenant, session, now):
            return False
        if self.quotas is not None:
            self.quotas.forget(tenant, session)
        return True

    # -- slow paths -----------------------------------------------------------------------------

    def _account(self, env: Envelope, run_kinds: Container[str], now: float) -> Account | LanewayError:
        """Return the account of the event's session, opened if need be; or why it is refused before that counts."""
        known = self._tenants.get(env[3])
        account = None if known is None else known.accounts.get(env[4])
        if account is None or self.shedding.level:
            shed = self._shed(env, now, env[2] in run_kinds, account is None)
            if shed is not None:
                return shed
        return account or self._accounts.open(env[3], env[4])

    def _police(self, account: Account, env: Envelope, now: float) -> Envelope:
        account.critical_arrival, wait_s = self._critical.offer(account.critical_arrival, now)
        self.demoted += wait_s > 0
        return (*env[:7], 1, *env[8:]) if wait_s else env

    def _shed(self, env: Envelope, now: float, starts_run: bool, new: bool) -> LanewayError | None:
        """Refuse by overload level, or because no more sessions fit. Never a critical event of a known session."""
        refusal: LanewayError | None = None
        if self.shedding.level:
            refusal = self.shedding.refuse(env[7], starts_run, new)
        if refusal is None and new and self.quotas is not None:
            refusal = self._crowded(env[3], now)
        if refusal is None and new and not self._accounts.make_room(now):
            refusal = Overloaded(
                f"{len(self._accounts)} sessions are active, which is all this engine takes; retry later",
                reason="SESSIONS",
                retry_after_ms=_ENGINE_RETRY_MS,
            )
        if refusal is not None:
            self.refusals[refusal.code] += 1
        return refusal

    def _crowded(self, tenant: str, now: float) -> LanewayError | None:
        """Refuse a tenant's new session beyond its quota, unless one of its others is at rest."""
        assert self.quotas is not None
        most = self.quotas.sessions(tenant)
        if self._accounts.sessions_of(tenant) < most or self._accounts.rest(tenant, now):
            return None
        return LaneFull(
            f"the tenant has {most:.0f} sessions at work, all that it may; retry later",
            reason="TENANT_SESSIONS",
            retry_after_ms=_ENGINE_RETRY_MS,
        )

    def _refused(
        self, said: _Said, account: Account, env: Envelope, row: int, cost: int, wait_s: float
    ) -> LanewayError:
        """Refuse an event, as another of its batch was if nothing has changed since: one error for both."""
        error, *then = said.get(row, (None,))
        held = account.holds(env[0], env[1])
        if error is None or held or then != [cost, account.events]:
            error = self._refusal(account, env, row, cost, wait_s)
            if self.quotas is None and not held:
                said[row] = (error, cost, account.events)
        else:
            account.remember_refused(env)
            self.refusals[error.code] += 1
        return error

    def _refusal(self, account: Account, env: Envelope, row: int, cost: int, wait_s: float) -> LanewayError:
        """Say which limit was met; `wait_s`: how long the session must wait for its rate."""
        if self.quotas is not None and (over := self.quotas.refused()) is not None:
            account.remember_refused(env)
            self.refusals[over.code] += 1
            return over
        if account.holds(env[0], env[1]):
            self.refusals[PeerProtocolError.code] += 1
            return PeerProtocolError(
                f"event {envelope_id(env)} is in flight already; give every event its own number", reason="DUPLICATE"
            )
        account.remember_refused(env)
        retry_ms = ceil(self._policy.full_retry_s * 1000)
        max_events, max_bytes, tenant_events, tenant_bytes, budget, _ = self._rows[row]
        total = self._accounts.bytes + cost
        error: LanewayError
        if account.events >= max_events or (account.events and account.bytes + cost > max_bytes):
            error = LaneFull(
                f"the session has {account.events} events ({account.bytes} bytes) in flight, which leaves "
                f"no room for {_CLASSES[row]}; wait for some to end",
                reason="SESSION",
                retry_after_ms=retry_ms,
            )
        elif account.tenant.events >= tenant_events or account.tenant.bytes + cost > tenant_bytes:
            error = LaneFull(
                f"the tenant has {account.tenant.events} events ({account.tenant.bytes} bytes) in flight, which leaves "
                f"no room for {_CLASSES[row]}; wait for some to end",
                reason="TENANT",
                retry_after_ms=retry_ms,
            )
        elif cost < total > budget:
            error = Overloaded(
                "the engine holds as many bytes as it may; retry later",
                reason="MEMORY",
                retry_after_ms=_ENGINE_RETRY_MS,
            )
        else:
            error = self._too_fast(wait_s)
        self.refusals[error.code] += 1
        return error

    def _too_fast(self, wait_s: float) -> RateLimited:
        return RateLimited(
            f"the session sends more than {self._policy.rate_per_s:g} events a second; slow down",
            reason="SESSION",
            retry_after_ms=max(1, ceil(wait_s * 1000)),
        )
