"""The queue of one lane: fair in bytes among tenants, and inside a tenant among its sessions.

Law of this file: events of one session leave in the order in which they came. Each tenant that waits
gets the same bytes, and of a tenant's bytes each of its sessions that waits: who queues more waits
longer, and nobody else does.

*Surplus round robin* (Adiseshu, Parulkar and Varghese, SIGCOMM 1996; the deficit round robin of
Shreedhar and Varghese, but serving while the deficit is above 0 and letting it go below): it needs
no look at the next event's size, and a visit that was interrupted resumes exactly where it stopped.
Who runs empty in debt stays in the ring until the debt is paid: else a session that always keeps one
large event queued would get a multiple of its share.

Arrivals are only appended to a list; `sort` moves them into flows, each event at most once. O(1)
amortised per event plus O(bytes / 1 KiB) for debts, whatever the number of sessions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final

from laneway.routing.envelope import ACCEPTED, AFTER, COUNTER, Envelope

__all__ = ["MAX_DEBT_BYTES", "FairQueue"]

_QUANTUM_BYTES: Final = 1024
"""What a tenant or session may take per visit: four or five small events, so that a visit is worth its
rotation and a newcomer still waits for little."""
MAX_DEBT_BYTES: Final = 32_768
"""Debt beyond this is forgiven to who ran empty: two parts of the largest text. It bounds how many
visits an idle debtor costs."""

_LOOKED_AT: Final = 8
"""Tenants, and sessions of each, that are asked how long they have waited."""


class _Flow:
    """The queue of one session in one lane."""

    __slots__ = ("deficit", "queue", "session")

    def __init__(self, session: str) -> None:
        self.session = session
        self.queue: deque[Envelope] = deque()
        self.deficit = 0


class _Share:
    """The flows of one tenant in one lane."""

    __slots__ = ("deficit", "flows", "ring", "tenant", "waiting")

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.flows: dict[str, _Flow] = {}
        self.ring: deque[_Flow] = deque()
        self.deficit = 0
        self.waiting = 0

    def serve(self, room: int, budget: int, now: float, out: list[Envelope], expired: list[Envelope]) -> int:
        """Visit the session at the head of the ring once; return the bytes moved to `out`."""
        ring = self.ring
        flow = ring[0]
        queue, alone, allowed = flow.queue, len(ring) == 1, budget
        if not alone:
            if flow.deficit <= 0:
                flow.deficit += _QUANTUM_BYTES
                if flow.deficit <= 0:
                    ring.rotate(-1)
                    return 0
            allowed = min(flow.deficit, budget)
        before, spent, take, give = len(queue), 0, queue.popleft, out.append
        while queue and spent < allowed and room:
            env = take()
            if env[8] <= now:
                expired.append(env)
            else:
                spent += 200 + len(env[11])  # cost_bytes, spelled out: this is the inner loop
                give(env)
                room -= 1
        flow.deficit = 0 if alone else flow.deficit - spent
        self.deficit -= spent
        self.waiting -= before - len(queue)
        if flow.deficit <= 0:
            if not queue:
                flow.deficit = max(flow.deficit, -MAX_DEBT_BYTES)
            ring.rotate(-1)
        elif not queue:
            ring.popleft()
            del self.flows[flow.session]
        return spent


class FairQueue:
    """A list of arrivals, and flows by tenant and session once a choice had to be made."""

    __slots__ = ("_ring", "_shares", "arrivals", "waiting")

    def __init__(self) -> None:
        self.arrivals: list[Envelope] = []
        """Append here to queue an event; the list stays the same object."""
        self.waiting = 0
        """Events in flows; those in `arrivals` are not counted."""
        self._shares: dict[str, _Share] = {}
        self._ring: deque[_Share] = deque()

    def __len__(self) -> int:
        return len(self.arrivals) + self.waiting

    def __iter__(self) -> Iterator[Envelope]:
        """All events; FIFO within each session."""
        for share in self._ring:
            for flow in share.ring:
                yield from flow.queue
        yield from self.arrivals

    def oldest(self) -> float | None:
        """Return when about the longest waiting event was accepted, or None if nothing waits. O(1).

        Of the tenants and sessions that are next in turn, which were passed over for longest, a few.
        """
        heads = [
            flow.queue[0][ACCEPTED]
            for share in islice(self._ring, _LOOKED_AT)
            for flow in islice(share.ring, _LOOKED_AT)
            if flow.queue
        ]
        if self.arrivals:
            heads.append(self.arrivals[0][ACCEPTED])
        return min(heads, default=None)

    def behind(self, tenant: str, session: str) -> bool:
        """True if something of this session waits, of what has been sorted. O(1)."""
        share = self._shares.get(tenant)
        flow = share.flows.get(session) if share is not None else None
        return flow is not None and bool(flow.queue)

    def sort(self) -> None:
        """Move arrivals into their flows; least for what is one session's in a row, as frames are."""
        share, queue = _Share(""), deque[Envelope]()
        tenant = session = None
        for env in self.arrivals:
            if env[4] != session or env[3] != tenant:
                tenant, session = env[3], env[4]
                share, queue = self._flow(tenant, session)
            queue.append(env)
            share.waiting += 1
        self.waiting += len(self.arrivals)
        self.arrivals.clear()

    def _flow(self, tenant: str, session: str) -> tuple[_Share, deque[Envelope]]:
        """Return a session's queue, and its tenant's share; both are in their rings."""
        share = self._shares.get(tenant)
        if share is None:
            share = self._shares[tenant] = _Share(tenant)
            self._ring.append(share)
        flow = share.flows.get(session)
        if flow is None:
            flow = share.flows[session] = _Flow(session)
            share.ring.append(flow)
        return share, flow.queue

    def serve(self, room: int, budget: int, now: float, out: list[Envelope], expired: list[Envelope]) -> int:
        """Move up to `room` live events to `out`, fairly, until `budget` bytes are spent (the last may exceed it).

        Returns the bytes moved; past events go to `expired` and cost nothing. Call `sort` before.
        """
        ring, spent, limit = self._ring, 0, len(out) + room
        while self.waiting and len(out) < limit and spent < budget:
            share = ring[0]
            alone, allowed = len(ring) == 1, budget - spent
            if not alone:
                if share.deficit <= 0:
                    share.deficit += _QUANTUM_BYTES
                    if share.deficit <= 0:
                        ring.rotate(-1)
                        continue
                if not share.waiting:
                    ring.popleft()
                    del self._shares[share.tenant]
                    continue
                allowed = min(share.deficit, allowed)
            before = share.waiting
            spent += share.serve(limit - len(out), allowed, now, out, expired)
            self.waiting -= before - share.waiting
            if alone:
                share.deficit = 0
            if share.deficit <= 0:
                if not share.waiting:
                    share.deficit = max(share.deficit, -MAX_DEBT_BYTES)
                ring.rotate(-1)
        if not self.waiting:
            self._shares.clear()
            ring.clear()
        return spent

    def clear(self) -> list[Envelope]:
        """Take out everything, FIFO within each session, and forget all debts."""
        out = list(self) if self.waiting else self.arrivals[:]
        self.arrivals.clear()
        self._shares.clear()
        self._ring.clear()
        self.waiting = 0
        return out

    def give_back(self, envs: Sequence[Envelope]) -> None:
        """Queue events in the order of acceptance among what waits, and forget all debts. O(waiting)."""
        self.arrivals += sorted([*envs, *self.clear()], key=_order)

    def remove(self, match: Callable[[Envelope], bool], tenant: str | None, session: str | None) -> list[Envelope]:
        """Take out what matches, from one session's flow or from all."""
        self.sort()
        removed: list[Envelope] = []
        shares = self._ring if tenant is None else [share for share in (self._shares.get(tenant),) if share is not None]
        for share in shares:
            flows = (
                share.ring if session is None else [flow for flow in (share.flows.get(session),) if flow is not None]
            )
            for flow in flows:
                kept: deque[Envelope] = deque()
                for env in flow.queue:
                    (removed if match(env) else kept).append(env)
                gone = len(flow.queue) - len(kept)
                flow.queue = kept
                share.waiting -= gone
                self.waiting -= gone
        if not self.waiting:
            self._shares.clear()
            self._ring.clear()
        return removed


def _order(env: Envelope) -> tuple[float, int, int, str]:
    """Sort key: events of one frame were accepted at one time, and parts of one event have one counter."""
    return env[ACCEPTED], env[COUNTER], len(env[AFTER]), env[AFTER]
