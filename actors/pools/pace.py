"""How many events a cell keeps ready behind those it handles: as many as it begins within 2 ms.

Law of this file: what is ready in a cell is first come, first served, and nothing can overtake it, so
it must not be worth more than a moment; and a cell must never run dry while events wait elsewhere.
Handlers of seconds get one event, those of up to a millisecond twice their slots, and those of microseconds
up to a thousand: then nothing need be chosen in the queues, which is most of what such an event costs. Measured: with
twice the concurrency always ready, light sessions beside a flood waited 2.8 times as long as without it;
with half of it 1.9 times (handlers of 4 ms).
"""

from __future__ import annotations

from typing import Final, Protocol

__all__ = ["OFTEN", "Pace", "Timed"]

_AHEAD_S: Final = 0.002
"""Two turns of a busy event loop: what a refill may take."""
_SMOOTHING: Final = 0.125
"""As TCP smooths its round trip (RFC 6298)."""
OFTEN: Final = 64
"""Events after which a slot that never rests is looked at."""


class Timed(Protocol):
    """A slot: since when its handler runs, and how many it has handled since it began, or was last looked at."""

    since: float
    began: float
    taken: int


class Pace:
    """How long one cell's handlers take, and what follows. Pure; O(1).

    Attributes:
        ready: events that are kept ready now. capacity: how many may be, of these handlers.
        brief: they are as many, and `took` need not be told of handlers of up to `brief_s`.

    Args:
        concurrency: handlers at once. most: events that are ready at handlers of a millisecond, at least 1.
        limit: those that are ready at the briefest handlers; default: `most`.
    """

    __slots__ = ("_ahead", "_limit", "_mean_s", "_most", "_service_s", "brief", "brief_s", "ready")

    def __init__(self, concurrency: int, most: int, limit: int | None = None) -> None:
        self._most = most
        self._limit = most if limit is None else max(most, limit)
        self._mean_s = _AHEAD_S / most
        self._ahead = _AHEAD_S * concurrency
        self.brief_s = self._ahead / most
        self._service_s = 0.0
        self.ready = most
        self.brief = True

    def took(self, service_s: float) -> None:
        """A handler had its slot for so long."""
        if self.brief and service_s <= self.brief_s:
            return
        self._service_s += (service_s - self._service_s) * _SMOOTHING
        if self._service_s > self.brief_s:
            self.ready = max(1, int(self._ahead / self._service_s))
        else:
            self.ready = self._most
        self.brief = self.ready == self._most
        self._mean_s = _AHEAD_S / self._most

    def ended(self, slot: Timed, now: float) -> None:
        """A slot's handler has ended."""
        service_s = now - slot.since
        if self.brief and service_s <= self.brief_s:
            slot.taken += 1
            if slot.taken >= OFTEN:
                self.ran(slot, now)
        else:
            self.took(service_s)
            slot.taken, slot.began = 0, now

    def ran(self, slot: Timed, now: float) -> None:
        """A slot has handled `taken` events since it `began`, each of them briefly, or all together."""
        if slot.taken and self.brief:
            # a pause of the machine is one sample among others
            each_s = min((now - slot.began) / slot.taken, _AHEAD_S / self._most)
            self._mean_s += (each_s - self._mean_s) * _SMOOTHING
            fit = self._limit if self._mean_s * self._limit <= _AHEAD_S else int(_AHEAD_S / self._mean_s)
            self.ready = max(self._most, fit)
        slot.taken, slot.began = 0, now

    @property
    def capacity(self) -> int:
        """Events that may be ready."""
        return self.ready if self.brief else self._most

    def room(self, free: int, idle: int, waiting: int) -> int:
        """Return how many more events the cell takes.

        Args:
            free: places in its mailbox. idle: slots without work. waiting: ordinary events in the mailbox.
        """
        if self.brief:
            return max(0, free)
        return max(0, min(free, self.ready + idle - waiting))
