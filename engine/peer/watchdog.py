"""The rhythm of heartbeats: one tick for all connections of a process.

Law of this file: a process that was away itself (its loop blocked, the machine paused) has no right to
call others silent: what they sent may wait unread. After a late tick everybody gets one more beat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from laneway.actors.ports import Clock
from laneway.engine.peer.connection import Connection
from laneway.engine.peer.policy import PeerPolicy

__all__ = ["Watchdog"]

_TICKS_PER_BEAT = 4
"""A heartbeat is late by a quarter of a beat at most."""


class Watchdog:
    """Beats for connections, and ends those that are silent.

    Args:
        connections: returns the live ones; asked at every tick.
    """

    def __init__(self, connections: Callable[[], Iterable[Connection]], *, clock: Clock, policy: PeerPolicy) -> None:
        self._connections = connections
        self._clock = clock
        self._beat_s = policy.beat_s
        self._last = clock.now()
        self._forgiving_until = self._last

    async def watch(self) -> None:
        """Tick until cancelled."""
        self._last = self._clock.now()
        while True:
            await asyncio.sleep(self._beat_s / _TICKS_PER_BEAT)
            self.tick()

    def tick(self) -> None:
        """Send what is due and judge; linear in the connections."""
        now = self._clock.now()
        if now - self._last > self._beat_s:
            self._forgiving_until = now + self._beat_s
        self._last = now
        for connection in list(self._connections()):
            connection.beat(now, forgiving=now < self._forgiving_until)
