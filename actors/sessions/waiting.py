"""A line of producers that wait for room: the most urgent lane first, and inside a lane who came first.

Law of this file: whoever leaves the line, however, leaves no place behind; who is called is called once.
"""

from __future__ import annotations

import asyncio
import heapq

__all__ = ["WaitingLine"]


class WaitingLine:
    """Lives on one event loop.

    Attributes:
        places: who waits; a heap, to be looked at for whether it is empty and for its length.
    """

    __slots__ = ("_arrivals", "places")

    def __init__(self) -> None:
        self.places: list[tuple[int, int, asyncio.Future[None]]] = []
        self._arrivals = 0

    async def stand(self, lane: int) -> None:
        """Wait until called. If the wait is cancelled after the call, the caller hands the turn on. O(log waiting)."""
        self._arrivals += 1
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (lane, self._arrivals, waiter)
        heapq.heappush(self.places, place)
        try:
            await waiter
        finally:
            if place in self.places:  # nobody has called: O(waiting)
                self.places.remove(place)
                heapq.heapify(self.places)

    def call_next(self) -> bool:
        """Call the first; False if it has gone meanwhile, or nobody waits."""
        if not self.places:
            return False
        waiter = heapq.heappop(self.places)[2]
        if waiter.done():
            return False
        waiter.set_result(None)
        return True

    def dismiss(self) -> None:
        """Call all of them."""
        for _, _, waiter in self.places:
            if not waiter.done():
                waiter.set_result(None)
        self.places.clear()
