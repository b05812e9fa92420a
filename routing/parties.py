"""Who waits in one queue: tenants, their sessions, and whether one has less there than its share.

Law of this file: a queue's room is shared evenly by the tenants that wait in it, and a tenant's part by its
sessions. Who has less than that is not turned away because others fill the queue: the rule of "longest
queue drop" (RFC 8290, 4.1), turned round, since what was let in is not dropped here. Counts are taken now
and then and only grow in between, so a share is at most as large as it seems.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from laneway.routing.envelope import Envelope

__all__ = ["FEW", "MOST", "Parties"]

FEW: Final = 4
"""So many events are within everybody's share, but for the sessions of a tenant that has more than its own."""
MOST: Final = 2.0
"""Times its room: how far a queue is stretched at most. Who floods, waits behind itself and fills the room; who does
not is served in turn, and needs little."""
_LESS: Final = 1.5


class Parties:
    """How much of one queue is whose. Every call O(1), but `count`."""

    __slots__ = ("_sessions", "_tenants")

    def __init__(self) -> None:
        self._tenants: dict[str, int] = {}
        self._sessions: dict[str, dict[str, int]] = {}

    def count(self, waiting: Iterable[Envelope]) -> None:
        """Count anew. O(waiting)."""
        self._tenants.clear()
        self._sessions.clear()
        for (tenant, session), many in Counter([env[3:5] for env in waiting]).items():
            self._tenants[tenant] = self._tenants.get(tenant, 0) + many
            self._sessions.setdefault(tenant, {})[session] = many

    def add(self, tenant: str, session: str) -> None:
        """One more waits."""
        self._tenants[tenant] = self._tenants.get(tenant, 0) + 1
        own = self._sessions.setdefault(tenant, {})
        own[session] = own.get(session, 0) + 1

    def stretch(self, tenant: str, session: str, room: float) -> float:
        """Return how far a queue of so much room may be stretched for one more event of that session, in times.

        By half for a session with less than its share, twice if its tenant has less than its own too, or is alone.
        """
        own, many = self._sessions.get(tenant, {}), self._tenants.get(tenant, 0)
        part = room / (len(self._tenants) + (not many))
        mine, share = own.get(session, 0), part / (len(own) + (session not in own))
        if many < max(FEW, part) or (many and len(self._tenants) == 1):
            return MOST if mine < max(FEW, share) else 1.0
        return _LESS if mine < share else 1.0
