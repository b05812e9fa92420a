"""Who holds how many of a pool's slots: one tenant's work never keeps all of them from the others.

Law of this file: an event has a seat from when it is handed out until it is over, and there are as many
seats as the pool has slots, so that what cannot run yet waits where its turn can still be chosen. While
other tenants use the pool, or did lately, a tenant has at most its share of the seats; alone it may have
all. Whether an event runs, rests or waits for its reader makes no difference: it has its seat.

A seat falls to the tenant with the fewest (max-min fairness, Bertsekas and Gallager, Data Networks, 6.5.2):
equal turns would give those whose runs last longest the most slots.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Final

from laneway.routing.envelope import TENANT, Envelope, Key, key_of

__all__ = ["LATELY_S", "Seats"]

LATELY_S: Final = 60.0
"""So long after its last event a tenant counts as one that others must leave room for."""
_SWEEP_FROM: Final = 1024


class Seats:
    """The seats of one pool.

    Args:
        share: of the seats that one tenant may have while there are others, above 0, at most 1.

    Attributes:
        slots: how many seats there are; infinity until it is known.
    """

    __slots__ = ("_held", "_seats", "_seen", "_share", "_sweep_at", "slots")

    def __init__(self, share: float) -> None:
        self._share = share
        self.slots: float = inf
        self._seats: dict[Key, str] = {}
        self._held: dict[str, int] = {}
        self._seen: dict[str, float] = {}
        self._sweep_at = _SWEEP_FROM

    def __len__(self) -> int:
        return len(self._seats)

    @property
    def free(self) -> bool:
        """True if a seat is free."""
        return len(self._seats) < self.slots

    def held(self, tenant: str) -> int:
        """Seats that a tenant has."""
        return self._held.get(tenant, 0)

    def see(self, tenant: str, now: float) -> None:
        """This tenant uses the pool."""
        self._seen[tenant] = now
        if len(self._seen) > self._sweep_at:
            self._seen = {name: at for name, at in self._seen.items() if now - at < LATELY_S or self.held(name)}
            self._sweep_at = max(_SWEEP_FROM, 2 * len(self._seen))

    def may_sit(self, tenant: str, now: float) -> bool:
        """True if this tenant may have one more seat of those that are free. O(tenants), mostly O(1)."""
        if not self.free:
            return False
        most = max(1.0, self.slots * self._share // 1)
        return self.held(tenant) < most or self._alone(tenant, now)

    def _alone(self, tenant: str, now: float) -> bool:
        return not any(name != tenant and (now - at < LATELY_S or self.held(name)) for name, at in self._seen.items())

    def sit(self, env: Envelope, now: float) -> None:
        """This event is handed out."""
        key, tenant = key_of(env), env[TENANT]
        if key not in self._seats:
            self._seats[key] = tenant
            self._held[tenant] = self.held(tenant) + 1
        self.see(tenant, now)

    def rise(self, envs: Iterable[Envelope]) -> None:
        """These are over, or wait again; without effect for those that have no seat."""
        for env in envs:
            tenant = self._seats.pop(key_of(env), None)
            if tenant is not None:
                self._held[tenant] -= 1
                if not self._held[tenant]:
                    del self._held[tenant]
