"""What a client received and its application has not taken yet, and how that looks to people.

Law of this file: an event counts as taken when the application gets it, not when it arrives; what
waits here holds back the grant, so an application that stops reading stops the producer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from laneway.routing.envelope import EnvelopeView
from laneway.routing.errors import LanewayError
from laneway.routing.inbox import SNAPSHOT, Received

__all__ = ["EventQueue", "ReceivedEvent"]

_NEWS_BYTES: Final = 8192
"""Taken bytes after which the link looks again whether a grant is due."""


class ReceivedEvent(EnvelopeView):
    """One event from the engine: an envelope, and on demand its AG-UI form.

    Adjacent text deltas of one message may come as one event; the text is the same.
    """

    __slots__ = ("received",)

    def __init__(self, received: Received) -> None:
        super().__init__(received.envelope)
        self.received = received

    @property
    def text(self) -> str:
        """The body as text (deltas); not for kinds with a map as body."""
        return self.body.decode("utf-8", "replace")

    @property
    def event(self) -> Mapping[str, Any]:
        """The AG-UI event, `type` included. Raises PeerProtocolError if the body is not one."""
        from laneway.engine.events import from_envelope

        return from_envelope(self.raw)

    @property
    def snapshot(self) -> bool:
        """True for what replaces events that could not be replayed (a new or failed resume)."""
        return self.received.stream == SNAPSHOT

    @property
    def dropped(self) -> Mapping[str, int]:
        """For a GAP: kind -> how many events it stands for; otherwise empty."""
        return self.received.gap.by_kind if self.received.gap is not None else {}


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

    def put(self, received: list[Received]) -> None:
        """Add what arrived."""
        self._events.extend(received)
        self.unread_bytes += sum(len(each.envelope[11]) for each in received)
        if self.unread_bytes > self._max_bytes:
            self._room.clear()
        self._arrived.set()

    async def room(self) -> None:
        """Wait until the application has caught up."""
        await self._room.wait()

    async def get(self) -> ReceivedEvent:
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
        return ReceivedEvent(received)

    def end(self, error: LanewayError | None) -> None:
        """Nothing will follow; readers get `error`, or the end of the iteration."""
        self._over = True
        self._ended = error
        self._arrived.set()
        self._room.set()
