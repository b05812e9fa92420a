"""What a client received and its application has not taken yet, in order.

Law of this file: an event counts as taken when the application gets it, not when it arrives; what
waits here holds back the grant, so an application that stops reading stops the producer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from laneway.engine.delivery import Event
from laneway.routing.errors import LanewayError
from laneway.routing.inbox import Received

__all__ = ["EventQueue"]

_NEWS_BYTES: Final = 8192
"""Taken bytes after which the link looks again whether a grant is due."""


class EventQueue:
    """Received events in order; one reader at a time.

    Args:
        max_bytes: above it `room` waits. Credit bounds the data stream far below; this bounds
            what comes outside of credit (urgent events, snapshots).
    """

    def __init__(self, max_bytes: int = 8_388_608) -> None:
        self._max_bytes = max_bytes
        self._events: deque[Received] = deque()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._ended: LanewayError | None = None
        self._over = False
        self._since_news = 0
        self.unread_bytes = 0
        """Bodies that wait here."""
        self.taken = asyncio.Event()
        """Set when enough was taken for a grant to be due."""

    def put(self, received: Sequence[Received]) -> None:
        """Add what arrived."""
        self._events.extend(received)
        self.unread_bytes += sum(len(each.envelope[11]) for each in received)
        if self.unread_bytes > self._max_bytes:
            self._room.clear()
        self._arrived.set()

    async def room(self) -> None:
        """Wait until the application has caught up."""
        await self._room.wait()

    async def get(self) -> Event:
        """Wait for and take the next event.

        Raises what ended the client once everything before it was taken, StopAsyncIteration after
        an orderly close.
        """
        while not self._events:
            if self._ended is not None:
                raise self._ended
            if self._over:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        received = self._events.popleft()
        size = len(received.envelope[11])
        self.unread_bytes -= size
        self._since_news += size
        if self._since_news >= _NEWS_BYTES or not self._events:
            self._since_news = 0
            self.taken.set()
        if self.unread_bytes <= self._max_bytes:
            self._room.set()
        return Event(received)

    def end(self, error: LanewayError | None) -> None:
        """Nothing will follow; readers get `error`, or the end of the iteration."""
        self._over = True
        self._ended = error
        self._arrived.set()
        self._room.set()
