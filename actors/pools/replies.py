"""What a handler of lists says: one Out per event, as events of their sessions, sent as lists.

Law of this file: a session gets them in the order of the handler's events, and none behind one that must
wait: what cannot go now is told to the caller, who emits it alone. What comes of it is what emitting one
after the other comes to, but for who waits: a session without credit holds up no other one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Final

from laneway.actors.ports import Clock, Out
from laneway.routing.classify import KindTable
from laneway.routing.envelope import NO_DEADLINE, RUN, SESSION, TENANT, Envelope
from laneway.routing.errors import LanewayError

__all__ = ["Replies"]

_ADDRESS: Final = itemgetter(TENANT, SESSION)
_RUN_OF: Final = itemgetter(RUN)
_KIND_OF: Final = itemgetter(0)


class Replies:
    """Of one pool.

    Args:
        pool: names the producer of what is said outside a run.
        number: next number of this process's own events.
        ready: of the outlet; takes the first of these events of one session, up to one that must wait or
            is refused, and returns how many. It may raise for one of them if it has taken none.
    """

    __slots__ = ("_clock", "_kinds", "_numbers", "_pool", "_ready")

    def __init__(
        self,
        pool: str,
        kinds: KindTable,
        clock: Clock,
        number: Callable[[], int],
        ready: Callable[[Sequence[Envelope]], int],
    ) -> None:
        self._pool = pool
        self._kinds = kinds
        self._clock = clock
        self._numbers: Iterator[int] = iter(number, None)
        self._ready = ready

    def emit(self, causes: Sequence[Envelope], outs: Sequence[Out], traces: Iterable[str] | None = None) -> list[int]:
        """Send to each cause's session its out; returns the places of those that are left to be emitted, in order.

        Nothing is sent of a list with an undeclared kind. O(events).

        Args:
            causes: at least one. outs: as many. traces: what each is a step of; default: nothing.
        """
        lanes = self._lanes(outs)
        if lanes is None:
            return list(range(len(outs)))
        runs = list(map(_RUN_OF, causes))
        producers = {run: f"engine/{run or self._pool}" for run in set(runs)}
        steps = repeat("") if traces is None else traces
        now = self._clock.now()
        addresses = list(map(_ADDRESS, causes))
        # numbers come last: a zip that has ended elsewhere would have taken one for nothing
        rows = zip(outs, addresses, runs, steps, self._numbers, strict=False)
        told = [
            (producers[run], number, kind, tenant, session, run, entity, lanes[kind], NO_DEADLINE, trace, "", body, now)
            for (kind, body, entity), (tenant, session), run, trace, number in rows
        ]
        if addresses.count(addresses[0]) == len(addresses):
            return list(range(self._send(told), len(told)))
        return self._send_apart(told, addresses)

    def _lanes(self, outs: Sequence[Out]) -> dict[str, int] | None:
        """Return the lanes of their kinds; None if one is no kind."""
        lanes = {}
        try:
            for name in set(map(_KIND_OF, outs)):
                kind = self._kinds.get(name)
                if kind is None:
                    return None
                lanes[name] = +kind.lane  # a plain number, see `ContextMaker.outbound`
        except TypeError:  # not even hashable
            return None
        return lanes

    def _send_apart(self, told: list[Envelope], addresses: list[tuple[str, str]]) -> list[int]:
        """Send what is for several sessions; returns the places of what is left."""
        places: dict[tuple[str, str], list[int]] = {}
        for place, address in enumerate(addresses):
            if address in places:
                places[address].append(place)
            else:
                places[address] = [place]
        left: list[int] = []
        for own in places.values():
            left += own[self._send([told[place] for place in own]) :]
        return sorted(left)

    def _send(self, told: list[Envelope]) -> int:
        try:
            return self._ready(told)
        except LanewayError:
            return 0  # emitted alone, each gets the error that is its own
