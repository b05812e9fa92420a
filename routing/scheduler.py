"""Which queued event goes next: strict critical, then weighted shares, then tenants, then sessions.

Law of this file: per (tenant, session, lane) events leave in the order in which they came. Critical
leaves first. High, normal and low share what remains 8:4:1 in bytes; inside a lane tenants share
equally, inside a tenant sessions do: who queues more waits longer, and nobody else does. A lane that
was passed over for `age_s` and by 32 events gets a turn ahead of everybody, so that low never
starves, not even under a flood of critical events. Low events that keep waiting all the same are thinned
out (see `codel`): whoever sends more of them than are served loses the oldest, and is told.

Shares are by surplus round robin, as inside a lane (see `fairqueue`), so a take of 1 resumes exactly
where the last one stopped.

*Lazily*: when all that is queued fits into one take there is nothing to choose, so arrivals are only
appended to a list per lane and sorted into flows when a take must choose (0.07 instead of 0.68 us
per event at batch 64, measured). Each event is sorted at most once: O(1) amortised per event plus
O(bytes / 1 KiB) for debts, whatever the number of sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Final, NamedTuple

from laneway.routing.codel import Codel, CodelPolicy
from laneway.routing.envelope import ACCEPTED, AFTER, DEADLINE, LANE, NO_DEADLINE, SESSION, TENANT, Envelope, cost_bytes
from laneway.routing.errors import ConfigError
from laneway.routing.fairqueue import MAX_DEBT_BYTES, FairQueue
from laneway.routing.lanes import LANE_COUNT, LANE_WEIGHTS

__all__ = ["Scheduler", "SchedulerStatistics"]

_LANE_QUANTUM_BYTES: Final = 512
"""Times the weight: what a lane may take per visit (4 KiB, 2 KiB, 512 bytes)."""
_PASSED_OVER: Final = 32
"""Events served from elsewhere before a lane counts as aged. With slow handlers `age_s` alone would be
over at every take, and ageing would replace the weights and overtake critical each time."""
_UNLIMITED: Final = 1 << 62
_AGED_SHARE: Final = 8
"""An aged lane gets one in so many events of a take, at least one."""


class _Lane(FairQueue):
    """The queue of one lane, and what it is owed against the other lanes."""

    __slots__ = ("codel", "deficit", "passed_at", "quantum", "served_at", "taken")

    def __init__(self, weight: int, codel: Codel | None) -> None:
        super().__init__()
        self.codel = codel
        self.quantum = weight * _LANE_QUANTUM_BYTES
        self.deficit = 0
        self.taken = 0
        self.served_at = NO_DEADLINE
        """When it was last served, or first seen waiting by a take that had to choose; infinity when empty."""
        self.passed_at = 0
        """How many events had been served from all lanes at that time."""

    def clear(self) -> list[Envelope]:
        """As the queue does; and nothing is owed any more."""
        self.deficit, self.served_at = 0, NO_DEADLINE
        if self.codel is not None:
            self.codel.forget()
        return super().clear()

    def thin(self, before: int, now: float, out: list[Envelope], dropped: list[Envelope]) -> int:
        """Move what CoDel drops of `out[before:]` to `dropped`; returns how many. Parts stay: their event is whole."""
        codel = self.codel
        assert codel is not None
        gone = len(dropped)
        for env in out[before:]:
            key = (env[TENANT], env[SESSION])
            if now - env[ACCEPTED] < codel.target_s or not self.behind(*key):
                codel.within(key)
            elif codel.above(key, now) and not env[AFTER]:
                dropped.append(env)
        gone = len(dropped) - gone
        if gone:
            lost = set(map(id, dropped[-gone:]))
            out[before:] = [env for env in out[before:] if id(env) not in lost]
        return gone


class SchedulerStatistics(NamedTuple):
    """One scheduler at one moment; tuples have one entry per lane, critical first."""

    waiting: tuple[int, ...]
    waiting_bytes: int
    taken: tuple[int, ...]
    expired: int
    dropped: int
    removed: int
    aged: int
    """Turns given to lanes that had been passed over."""


class Scheduler:
    """The queue of one serving unit (a pool, or a cell of a keyed pool), from which workers pull.

    Args:
        weights: shares of the lanes in bytes; the first (critical) is strict and its weight unused.
        age_s: how long a lane is passed over at most, once 32 events went ahead of it.
        codel: when low events that keep waiting are dropped; None: never.

    Raises:
        ConfigError: a weight below 1, or not one per lane.
    """

    __slots__ = (
        "_age_s",
        "_aged",
        "_dropped",
        "_dropped_total",
        "_expired",
        "_expired_total",
        "_lanes",
        "_removed",
        "_served",
        "_soonest",
        "_turn",
        "arrivals",
    )

    def __init__(
        self, weights: Sequence[int] = LANE_WEIGHTS, age_s: float = 0.25, codel: CodelPolicy | None = None
    ) -> None:
        if len(weights) != LANE_COUNT or min(weights[1:]) < 1:
            raise ConfigError(f"weights {tuple(weights)} must be {LANE_COUNT} numbers, from the second on at least 1")
        *urgent, low = weights
        thinned = Codel(codel) if codel is not None and codel.target_s < inf else None
        self._lanes = (*(_Lane(weight, None) for weight in urgent), _Lane(low, thinned))
        self._age_s = age_s
        self.arrivals = tuple(lane.arrivals for lane in self._lanes)
        """Per lane: append here to queue an event that has no deadline; the lists stay the same objects."""
        self._soonest = NO_DEADLINE
        self._expired: list[Envelope] = []
        self._expired_total = 0
        self._dropped: list[Envelope] = []
        self._dropped_total = 0
        self._served = 0
        self._removed = 0
        self._aged = 0
        self._turn = 1

    def __len__(self) -> int:
        return sum(map(len, self._lanes))

    @property
    def bytes(self) -> int:
        """Cost of all that waits, in bytes. O(waiting)."""
        return sum(cost_bytes(env) for lane in self._lanes for env in lane)

    @property
    def has_expired(self) -> bool:
        """True if `expired` has something to hand out."""
        return bool(self._expired)

    def push(self, env: Envelope) -> None:
        """Queue one event in its lane. O(1)."""
        self.arrivals[env[7]].append(env)
        if env[8] < self._soonest:
            self._soonest = env[8]

    def take(self, room: int, now: float, *, only_critical: bool = False) -> list[Envelope]:
        """Return up to `room` events that are due, in the order to serve them.

        Fewer than `room` means that nothing is left (nothing critical, with `only_critical`). Events past
        their deadline cost no room; they come out of `expired`.
        """
        if room <= 0:
            return []
        critical, high, normal, low = self._lanes
        if only_critical:
            return self._take_critical(critical, room, now)
        spilled = critical.waiting + high.waiting + normal.waiting + low.waiting
        a, b, c, d = self.arrivals
        waiting = len(a) + len(b) + len(c) + len(d) + spilled
        if waiting > room:
            return self._choose(room, now)
        return self._drain(now) if waiting else []

    @property
    def soonest(self) -> float:
        """No deadline of what waits is earlier; infinity if there is none."""
        return self._soonest

    def give_back(self, envs: Sequence[Envelope]) -> None:
        """Queue events that were taken again, ahead of what was accepted later. O(waiting)."""
        for index, lane in enumerate(self._lanes):
            if own := [env for env in envs if env[LANE] == index]:
                lane.give_back(own)
        self._soonest = min((self._soonest, *(env[DEADLINE] for env in envs)))

    def expire(self, now: float) -> None:
        """Find what is past its deadline without taking anything; see `expired`. O(waiting) if something may be."""
        if self._soonest <= now:
            for lane in self._lanes:
                self._expired += lane.remove(lambda env: env[DEADLINE] <= now, None, None)
            self._soonest = min((env[DEADLINE] for lane in self._lanes for env in lane), default=NO_DEADLINE)

    def expired(self) -> list[Envelope]:
        """Hand out, once, the events that were found past their deadline when their turn came."""
        expired, self._expired = self._expired, []
        self._expired_total += len(expired)
        return expired

    @property
    def has_dropped(self) -> bool:
        """True if `dropped` has something to hand out."""
        return bool(self._dropped)

    def dropped(self) -> list[Envelope]:
        """Hand out, once, the low events that CoDel dropped."""
        dropped, self._dropped = self._dropped, []
        self._dropped_total += len(dropped)
        return dropped

    def remove(
        self, match: Callable[[Envelope], bool], tenant: str | None = None, session: str | None = None
    ) -> list[Envelope]:
        """Take out every queued event that matches, FIFO within each session and lane.

        O(that session's events) with tenant and session, else O(waiting).
        """
        removed = [env for lane in self._lanes for env in lane.remove(match, tenant, session)]
        self._removed += len(removed)
        return removed

    def clear(self) -> list[Envelope]:
        """Take out everything, critical first, FIFO within each session and lane; to requeue elsewhere."""
        everything = [env for lane in self._lanes for env in lane.clear()]
        self._soonest = NO_DEADLINE
        return everything

    def depth(self, lane: int) -> int:
        """Events waiting in one lane."""
        return len(self._lanes[lane])

    def queued(self, lane: int) -> Iterable[Envelope]:
        """Return the events that wait in one lane, in any order."""
        return self._lanes[lane]

    def taken(self, lane: int) -> int:
        """Events of one lane taken since the start."""
        return self._lanes[lane].taken

    def oldest(self) -> float | None:
        """When about the longest waiting event was accepted, or None if nothing waits; see `FairQueue.oldest`. O(1)."""
        return min((at for lane in self._lanes if (at := lane.oldest()) is not None), default=None)

    def statistics(self) -> SchedulerStatistics:
        """Return gauges and counters. O(waiting)."""
        return SchedulerStatistics(
            waiting=tuple(map(len, self._lanes)),
            waiting_bytes=self.bytes,
            taken=tuple(lane.taken for lane in self._lanes),
            expired=self._expired_total + len(self._expired),
            dropped=self._dropped_total + len(self._dropped),
            removed=self._removed,
            aged=self._aged,
        )

    def _drain(self, now: float) -> list[Envelope]:
        """Take everything: it fits, so there is nothing to choose."""
        soonest = self._soonest
        out: list[Envelope] = []
        for lane in self._lanes:
            if lane.arrivals or lane.waiting:
                batch = lane.clear()
                if soonest <= now:
                    batch = self._alive(batch, now)
                lane.taken += len(batch)
                out += batch
        self._soonest = NO_DEADLINE
        self._served += len(out)
        return out

    def _alive(self, batch: list[Envelope], now: float) -> list[Envelope]:
        self._expired += [env for env in batch if env[DEADLINE] <= now]
        return [env for env in batch if env[DEADLINE] > now]

    def _take_critical(self, lane: _Lane, room: int, now: float) -> list[Envelope]:
        out: list[Envelope] = []
        if lane.arrivals or lane.waiting:
            lane.sort()
            self._serve(lane, room, _UNLIMITED, now, out)
        return out

    def _choose(self, room: int, now: float) -> list[Envelope]:
        """Take `room` of more: aged lanes first, then critical, then the others by their weights."""
        out: list[Envelope] = []
        for lane in self._lanes:
            if lane.arrivals:
                lane.sort()
        self._serve_aged(room, now, out)
        critical = self._lanes[0]
        if critical.waiting:
            self._serve(critical, room - len(out), _UNLIMITED, now, out)
        self._serve_shared(room, now, out)
        return out

    def _serve_aged(self, room: int, now: float, out: list[Envelope]) -> None:
        share = max(1, room // _AGED_SHARE)
        for lane in self._lanes[1:]:
            if not lane.waiting:
                continue
            if lane.served_at == NO_DEADLINE:
                lane.served_at, lane.passed_at = now, self._served
            passed_over = now - lane.served_at >= self._age_s and self._served - lane.passed_at >= _PASSED_OVER
            if passed_over and len(out) < room:
                self._aged += 1
                self._serve(lane, min(share, room - len(out)), _UNLIMITED, now, out)

    def _serve_shared(self, room: int, now: float, out: list[Envelope]) -> None:
        """Surplus round robin over high, normal and low; resumes where the last take stopped."""
        _, high, normal, low = lanes = self._lanes
        turn = self._turn
        while len(out) < room:
            others = (high.waiting > 0) + (normal.waiting > 0) + (low.waiting > 0)
            if not others:
                break
            lane = lanes[turn]
            if others == 1 and lane.waiting:  # nobody to be fair to
                self._serve(lane, room - len(out), _UNLIMITED, now, out)
                lane.deficit = 0
                continue
            if lane.deficit <= 0:
                lane.deficit += lane.quantum
            if lane.deficit > 0:
                if lane.waiting:
                    self._serve(lane, room - len(out), lane.deficit, now, out)
                else:
                    lane.deficit = 0  # an empty lane pays off its debt but saves nothing up
            if lane.deficit <= 0 or not lane.waiting:
                turn = turn + 1 if turn < 3 else 1
        self._turn = turn

    def _serve(self, lane: _Lane, room: int, budget: int, now: float, out: list[Envelope]) -> None:
        before = len(out)
        spent = lane.serve(room, budget, now, out, self._expired)
        if lane.codel is not None:
            begin = before
            while (gone := lane.thin(begin, now, out, self._dropped)) and lane.waiting:
                begin = len(out)
                spent += lane.serve(gone, budget, now, out, self._expired)  # others take the places
        lane.deficit = max(lane.deficit - spent, -MAX_DEBT_BYTES)
        taken = len(out) - before
        lane.taken += taken
        self._served += taken
        lane.served_at, lane.passed_at = now if lane.waiting else NO_DEADLINE, self._served
