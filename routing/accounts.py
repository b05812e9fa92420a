"""What every session and tenant has in flight, and which events of a session are over.

Law of this file: an account holds exactly what was entered and not taken out; an idle one may be
forgotten, and nothing is lost with it. Sessions, producers per session and refused ids per session
are bounded; what is beyond goes with the longest known.
"""

from __future__ import annotations

from math import inf
from typing import Final

from laneway.routing.envelope import Envelope
from laneway.routing.frame import Frame

__all__ = ["Account", "Accounts", "TenantAccount"]

_REMEMBER_S: Final = 60.0
"""How long an idle session counts as known."""
_SWEEP_EVERY_S: Final = 1.0
_SWEEP_FROM: Final = 1024
_MAX_PRODUCERS: Final = 64
_MAX_REFUSED: Final = 256


class TenantAccount:
    """What one tenant has in flight, and its sessions."""

    __slots__ = ("accounts", "bytes", "events")

    def __init__(self) -> None:
        self.events = self.bytes = 0
        self.accounts: dict[str, Account] = {}


class Account:
    """What one session has in flight, and its rates."""

    __slots__ = ("arrival", "bytes", "critical_arrival", "events", "held", "newest", "refused", "tenant")

    def __init__(self, tenant: TenantAccount) -> None:
        self.tenant = tenant
        self.events = self.bytes = 0
        self.arrival = self.critical_arrival = -inf
        self.held: dict[str, dict[int, Envelope]] = {}
        """producer -> counter -> each event in flight, as it was admitted; who has none is not there."""
        self.newest: dict[str, int] = {}
        """producer -> highest counter admitted."""
        self.refused: dict[tuple[str, int], None] = {}
        """Ids refused lately and not admitted since."""

    def holds(self, producer: str, counter: int) -> bool:
        """True if that event is in flight."""
        own = self.held.get(producer)
        return own is not None and counter in own

    def enter(self, frame: Frame) -> None:
        """Events that are not in flight are now; its sums are the caller's to set. O(events)."""
        producer, last = frame.producer, frame.counters[-1]
        own = self.held.get(producer)
        if own is None:
            own = self.held[producer] = {}
        own.update(zip(frame.counters, frame))  # noqa: B905 as many
        if producer not in self.newest:
            self.meet(producer, last)
        elif last > self.newest[producer]:
            self.newest[producer] = last
        if self.refused:
            for counter in frame.counters:
                self.refused.pop((producer, counter), None)

    def meet(self, producer: str, counter: int) -> None:
        """Remember a producer's first event; the longest known producer goes beyond the bound."""
        if len(self.newest) >= _MAX_PRODUCERS:
            del self.newest[next(iter(self.newest))]
        self.newest[producer] = counter

    def remember_refused(self, env: Envelope) -> None:
        """Remember that this event counts as not yet come."""
        self.refused[env[:2]] = None
        if len(self.refused) > _MAX_REFUSED:
            del self.refused[next(iter(self.refused))]

    def at_rest(self, since: float) -> bool:
        """True if nothing is in flight, and its rates remember nothing later than that time."""
        return not self.events and max(self.arrival, self.critical_arrival) <= since

    def settled(self, producer: str, counter: int) -> bool | None:
        """Whether that event was admitted and is over; None if nothing is known of its producer."""
        if self.holds(producer, counter) or (producer, counter) in self.refused:
            return False
        newest = self.newest.get(producer)
        return None if newest is None else counter <= newest


class Accounts:
    """All accounts of one dispatcher, by tenant and session.

    Args:
        max_sessions: sessions known at once.

    Attributes:
        tenants: look here first. bytes: cost of all that is in flight.
    """

    __slots__ = ("_max_sessions", "_next_sweep", "_sessions", "_sweep_at", "bytes", "tenants")

    def __init__(self, max_sessions: int) -> None:
        self.tenants: dict[str, TenantAccount] = {}
        self.bytes = 0
        self._max_sessions = max_sessions
        self._sessions = 0
        self._sweep_at, self._next_sweep = min(_SWEEP_FROM, max_sessions), -inf

    def __len__(self) -> int:
        return self._sessions

    @property
    def events(self) -> int:
        """Events in flight. O(tenants)."""
        return sum(tenant.events for tenant in self.tenants.values())

    def find(self, tenant: str, session: str) -> Account | None:
        """Return a session's account, or None if it is not known."""
        known = self.tenants.get(tenant)
        return None if known is None else known.accounts.get(session)

    def sessions_of(self, tenant: str) -> int:
        """Sessions known of one tenant."""
        known = self.tenants.get(tenant)
        return 0 if known is None else len(known.accounts)

    def rest(self, tenant: str, now: float) -> bool:
        """Forget the sessions of a tenant that are at rest; True if there were any. O(its sessions)."""
        known = self.tenants.get(tenant)
        idle = [name for name, account in known.accounts.items() if account.at_rest(now)] if known else []
        for name in idle:
            self._close(tenant, name)
        return bool(idle)

    def open(self, tenant: str, session: str) -> Account:
        """Begin the account of a session that has none."""
        known = self.tenants.get(tenant)
        if known is None:
            known = self.tenants[tenant] = TenantAccount()
        account = known.accounts[session] = Account(known)
        self._sessions += 1
        return account

    def forget(self, tenant: str, session: str, now: float) -> bool:
        """Drop what is remembered of a session that nobody uses; False if it is not at rest yet, and stays."""
        account = self.find(tenant, session)
        if account is None:
            return True
        if not account.at_rest(now):
            return False
        self._close(tenant, session)
        return True

    def make_room(self, now: float) -> bool:
        """Forget idle sessions when many are known; True if one more fits. O(1) amortised."""
        limit = self._max_sessions
        if self._sessions >= self._sweep_at and now >= self._next_sweep:
            self._sweep(now, _REMEMBER_S)
            if self._sessions >= limit:
                self._sweep(now, 0.0)
            self._sweep_at = min(limit, max(_SWEEP_FROM, 2 * self._sessions))
            self._next_sweep = now + _SWEEP_EVERY_S
        return self._sessions < limit

    def _sweep(self, now: float, idle_s: float) -> None:
        """Close accounts with nothing in flight that are at rest since `idle_s`: nothing is lost with them."""
        for name, tenant in list(self.tenants.items()):
            for session, account in list(tenant.accounts.items()):
                if account.at_rest(now - idle_s):
                    self._close(name, session)

    def _close(self, tenant: str, session: str) -> None:
        accounts = self.tenants[tenant].accounts
        del accounts[session]
        self._sessions -= 1
        if not accounts:
            del self.tenants[tenant]
