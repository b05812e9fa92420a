"""Events that must not be handled yet, because `after` names one that is not over.

Law of this file: an event waits until the event it names is over, at most `wait_s` and never past
its own deadline; then it goes on. What the same producer sends afterwards into the same lane and
pool waits behind it, so that FIFO holds. Nothing is held that was not admitted, so the session's cap
bounds it.

The bound on waiting makes every wait end: for an event that never comes, and for events that name
each other. It goes on rather than being dropped, since its order matters less than its handling.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from typing import Final, NamedTuple, TypeAlias

from laneway.routing.envelope import AFTER, COUNTER, PRODUCER, SESSION, TENANT, Envelope

__all__ = ["Chain", "EventKey", "Parking", "blocker_of"]

EventKey: TypeAlias = tuple[str, str, str, int]
"""(tenant, session, producer, counter) of an event."""
Chain: TypeAlias = tuple[str, str, str, int, str]
"""(tenant, session, producer, lane, pool): what keeps its order behind a parked event."""


_MAX_COUNTER_DIGITS: Final = 20
"""Digits of 2^64; longer ones are not parsed."""


def blocker_of(env: Envelope) -> EventKey | None:
    """Return which event this one must wait for; None if `after` is empty, malformed or the event itself."""
    producer, _, digits = env[AFTER].rpartition(":")
    if not producer or not digits.isdecimal() or len(digits) > _MAX_COUNTER_DIGITS:
        return None
    counter = int(digits)
    if counter == env[COUNTER] and producer == env[PRODUCER]:
        return None
    return env[TENANT], env[SESSION], producer, counter


class _Parked(NamedTuple):
    env: Envelope
    blocker: EventKey | None
    until: float


class Parking:
    """All parked events of one dispatcher. Every method O(1) amortised, but `remove`.

    Args:
        settled: says whether an event is over (see `Admission.settled`).
        wait_s: how long an event waits for the one it names.
    """

    __slots__ = (
        "_chains",
        "_due",
        "_number",
        "_resumed",
        "_settled",
        "_tickets",
        "_wait_s",
        "_waiting",
        "count",
        "timeouts",
    )

    def __init__(self, settled: Callable[[str, str, str, int], bool], wait_s: float = 5.0) -> None:
        self._settled = settled
        self._wait_s = wait_s
        self._chains: dict[Chain, deque[_Parked]] = {}
        self._waiting: dict[EventKey, list[Chain]] = {}
        self._due: list[tuple[float, int, Chain]] = []
        self._tickets: dict[Chain, int] = {}
        self.count = 0
        """Events parked now."""
        self._resumed: list[Envelope] = []
        self._number = 0
        self.timeouts = 0
        """Events that went on although the one they named was not over."""

    def offer(self, chain: Chain, env: Envelope, blocker: EventKey | None, now: float) -> bool:
        """Park an event if it must wait; False if it may go on at once."""
        queue = self._chains.get(chain)
        if queue is None:
            if blocker is None or self._settled(*blocker):
                return False
            queue = self._chains[chain] = deque()
        parked = _Parked(env, blocker, min(now + self._wait_s, env[8]))
        queue.append(parked)
        self.count += 1
        if len(queue) == 1:
            self._wait(chain, parked)
        return True

    def over(self, key: EventKey) -> list[tuple[Chain, Envelope]]:
        """An event is over: return what may go on because of it, in order."""
        released: list[tuple[Chain, Envelope]] = []
        for chain in self._waiting.pop(key, ()):
            queue = self._chains.get(chain)
            if queue is not None and queue[0].blocker == key:
                self._release(chain, queue, released)
        return released

    def poll(self, now: float) -> list[tuple[Chain, Envelope]]:
        """Return what has waited long enough, in order."""
        released: list[tuple[Chain, Envelope]] = []
        while self._due and self._due[0][0] <= now:
            _, ticket, chain = heappop(self._due)
            if self._tickets.get(chain) == ticket:  # else that head went on before
                queue = self._chains[chain]
                self.timeouts += 1
                self._stop_waiting(chain, queue[0])
                self._release(chain, queue, released)
        return released

    def resumed(self) -> list[Envelope]:
        """Hand out, once, the traced events that went on since the last call."""
        resumed, self._resumed = self._resumed, []
        return resumed

    def deadline(self) -> float:
        """When to call `poll` next; infinity if nothing waits. May be early, never late."""
        return self._due[0][0] if self._due else inf

    def remove(self, match: Callable[[Chain, Envelope], bool]) -> tuple[list[Envelope], list[tuple[Chain, Envelope]]]:
        """Take out what matches; return it, and what may go on because of that. O(parked)."""
        removed: list[Envelope] = []
        released: list[tuple[Chain, Envelope]] = []
        for chain, queue in list(self._chains.items()):
            hits = [parked for parked in queue if match(chain, parked.env)]
            if not hits:
                continue
            head = queue[0]
            kept = deque(parked for parked in queue if not match(chain, parked.env))
            removed += [parked.env for parked in hits]
            self.count -= len(hits)
            self._chains[chain] = kept
            if not kept or kept[0] is not head:
                self._stop_waiting(chain, head)
                self._advance(chain, kept, released)
        return removed, released

    def _release(self, chain: Chain, queue: deque[_Parked], released: list[tuple[Chain, Envelope]]) -> None:
        """Let the head go, and those behind it up to the next that must wait."""
        self._let_go(chain, queue, released)
        self._advance(chain, queue, released)

    def _advance(self, chain: Chain, queue: deque[_Parked], released: list[tuple[Chain, Envelope]]) -> None:
        while queue:
            head = queue[0]
            if head.blocker is not None and not self._settled(*head.blocker):
                self._wait(chain, head)
                return
            self._let_go(chain, queue, released)
        del self._chains[chain]
        self._tickets.pop(chain, None)

    def _let_go(self, chain: Chain, queue: deque[_Parked], released: list[tuple[Chain, Envelope]]) -> None:
        env = queue.popleft().env
        self.count -= 1
        if env[9]:
            self._resumed.append(env)
        released.append((chain, (*env[:10], "", *env[11:])))

    def _wait(self, chain: Chain, head: _Parked) -> None:
        """Register the head of a chain with the event it waits for, and its time limit."""
        assert head.blocker is not None
        self._waiting.setdefault(head.blocker, []).append(chain)
        self._number += 1
        self._tickets[chain] = self._number
        heappush(self._due, (head.until, self._number, chain))

    def _stop_waiting(self, chain: Chain, head: _Parked) -> None:
        if head.blocker is None:
            return
        waiting = self._waiting[head.blocker]
        waiting.remove(chain)
        if not waiting:
            del self._waiting[head.blocker]
