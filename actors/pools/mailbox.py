"""What waits for one cell: four FIFO queues, taken most urgent lane first, bounded on both sides.

Law of this file: an event past its deadline is never handed out, it goes to `on_expired`; ordinary
events can never take the room that is reserved for critical ones, while a critical event that finds
the reserve full takes ordinary room. Whoever delivers asks `free` first: a delivery beyond the bound
is a bug, not load.

The bound is small on purpose (twice the cell's concurrency): events wait in the dispatcher, where
they can still be reordered, refused and moved; a cell only holds enough to never run dry (`pace`). Strict
lane order cannot starve low here: what is passed over fills the mailbox until only it is left.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Final

from laneway.actors.meters import by_lane
from laneway.actors.ports import Observe
from laneway.routing.envelope import ACCEPTED, DEADLINE, LANE, Envelope, envelope_id
from laneway.routing.errors import LocalProtocolError
from laneway.routing.lanes import LANE_COUNT, Lane

__all__ = ["Mailbox", "critical_room", "ordinary_room"]

_LANE_OF: Final = itemgetter(LANE)
_ACCEPTED_OF: Final = itemgetter(ACCEPTED)
_DEADLINE_OF: Final = itemgetter(DEADLINE)
_ORDINARY: Final = tuple(lane for lane in Lane if lane != Lane.CRITICAL)


def ordinary_room(concurrency: int, batch: int = 1) -> int:
    """Return how many ordinary events wait in a cell: enough that it never runs dry, nor of whole batches."""
    return 2 * max(concurrency, batch)


def critical_room(concurrency: int) -> int:
    """Return how many critical events wait in a cell beside the ordinary ones."""
    return max(2, concurrency)


class Mailbox:
    """Lane-ordered bounded queue of one cell. All operations O(1) except `remove` and `clear`.

    Args:
        capacity: events of high, normal and low that may wait together, at least 1; its cell may change it.
        reserve: critical events that may wait beside them, at least 1.
        on_expired: told, at dequeue, of each event whose deadline has passed.
        waited: per lane, told of the seconds from an event's acceptance to its dequeue.
    """

    __slots__ = ("_lanes", "_on_expired", "_ordinary", "_reserve", "_waited", "capacity", "waiting")

    def __init__(
        self,
        capacity: int,
        reserve: int,
        on_expired: Callable[[Envelope], None],
        waited: Sequence[Observe] | None = None,
    ) -> None:
        self._waited = by_lane(None, "queue.wait") if waited is None else waited
        self._on_expired = on_expired
        self.capacity = capacity
        self._reserve = reserve
        self._lanes: tuple[deque[Envelope], ...] = tuple(deque() for _ in range(LANE_COUNT))
        self._ordinary = 0
        self.waiting = 0
        """Events of all lanes."""

    def __len__(self) -> int:
        return self.waiting

    @property
    def critical(self) -> int:
        """Critical events waiting."""
        return len(self._lanes[Lane.CRITICAL])

    @property
    def ordinary(self) -> int:
        """Events of the other lanes waiting."""
        return self._ordinary

    def depths(self) -> tuple[int, ...]:
        """Events waiting per lane, critical first."""
        return tuple(len(lane) for lane in self._lanes)

    def free(self, critical: bool = False) -> int:
        """How many more events fit: of any lane, or critical ones into their reserve alone."""
        beyond = len(self._lanes[Lane.CRITICAL]) - self._reserve
        if critical:
            return max(0, -beyond)
        return self.capacity - self._ordinary - max(0, beyond)

    def push(self, *envs: Envelope) -> None:
        """Queue events, in order: all of them or, if there is no room for their lanes, none. O(events).

        Raises LocalProtocolError for want of room.
        """
        lanes = list(map(_LANE_OF, envs))
        critical = lanes.count(Lane.CRITICAL)
        self._admit(envs, critical)
        for lane in set(lanes):
            own = envs if lanes.count(lane) == len(envs) else [env for env in envs if env[7] == lane]
            self._lanes[lane].extend(own)
        self.waiting += len(envs)
        self._ordinary += len(envs) - critical

    def _admit(self, envs: Sequence[Envelope], critical: int) -> None:
        """Raise if they do not fit; `critical` of them go into the reserve, as far as it goes."""
        if self.waiting + len(envs) <= self.capacity:
            return  # of both kinds together, so that more than enough room is seen at once
        beyond = max(0, len(self._lanes[Lane.CRITICAL]) + critical - self._reserve)
        if self._ordinary + len(envs) - critical + beyond > self.capacity:
            raise LocalProtocolError(f"mailbox full at event {envelope_id(envs[0])}; ask free() before delivering")

    def pop(self, now: float, only_critical: bool = False) -> Envelope | None:
        """Take the oldest live event of the most urgent lane, or None."""
        critical, high, normal, low = self._lanes
        while self.waiting:
            if critical:
                env = critical.popleft()
            elif only_critical:
                return None
            else:
                env = (high or normal or low).popleft()
                self._ordinary -= 1
            self.waiting -= 1
            if env[8] > now:
                self._waited[env[7]](now - env[12])
                return env
            self._on_expired(env)
        return None

    def pop_batch(self, now: float, limit: int, only_critical: bool = False) -> list[Envelope]:
        """Take up to `limit` live events, critical ones alone: they do not wait for the others' handling. O(taken)."""
        envs = self._cut(Lane.CRITICAL, limit, now) if self._lanes[Lane.CRITICAL] else []
        if envs or only_critical:
            return envs
        for lane in _ORDINARY if self._ordinary else ():
            if self._lanes[lane] and len(envs) < limit:
                envs += self._cut(lane, limit - len(envs), now)
        return envs

    def _cut(self, lane: int, most: int, now: float) -> list[Envelope]:
        """Take the oldest live events of one lane."""
        waiting, live = self._lanes[lane], list[Envelope]()
        while waiting and len(live) < most:
            count = min(most - len(live), len(waiting))
            if count == len(waiting):
                envs = list(waiting)
                waiting.clear()
            else:
                envs = [waiting.popleft() for _ in range(count)]
            self.waiting -= count
            if lane:
                self._ordinary -= count
            if min(map(_DEADLINE_OF, envs)) <= now:
                for env in envs:
                    if env[8] <= now:
                        self._on_expired(env)
                envs = [env for env in envs if env[8] > now]
            live += envs
        if live:
            self._note_waits(lane, live, now)
        return live

    def _note_waits(self, lane: int, envs: list[Envelope], now: float) -> None:
        """What was accepted together, as a frame is, has waited as long."""
        accepted = envs[0][12]
        times = list(map(_ACCEPTED_OF, envs))
        if times.count(accepted) == len(times):
            self._waited[lane](now - accepted, len(times))
        else:
            for accepted, count in Counter(times).items():
                self._waited[lane](now - accepted, count)

    def remove(self, match: Callable[[Envelope], bool]) -> list[Envelope]:
        """Take out every event that matches, most urgent first. O(waiting)."""
        taken: list[Envelope] = []
        for index, lane in enumerate(self._lanes):
            hits = [env for env in lane if match(env)]
            if not hits:
                continue
            kept = [env for env in lane if not match(env)]
            lane.clear()
            lane.extend(kept)
            taken += hits
            self.waiting -= len(hits)
            if index != Lane.CRITICAL:
                self._ordinary -= len(hits)
        return taken

    def clear(self) -> list[Envelope]:
        """Take out everything, most urgent first."""
        return self.remove(lambda _: True)
