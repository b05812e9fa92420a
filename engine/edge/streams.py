"""The live streams of one edge: how many there may be, of whom, and how they leave at a drain.

Law of this file: who is refused hears why and when to come back; a drain asks first, ends what is
left after its grace, and spreads the reconnects.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Final, Protocol

from laneway.actors.ports import Principal
from laneway.engine.edge.traffic import Connection, Traffic
from laneway.routing.errors import Draining, LanewayError, Overloaded, RateLimited

__all__ = ["Live", "Streams"]

_BUSY_RETRY_MS: Final = 1000
_DRAIN_SPREAD_MS: Final = 2000
"""Clients come back over this time after a drain, not all at once."""
_LAST_S: Final = 1.0


class Live(Protocol):
    """Something that serves one client for a while."""

    def tell(self, error: LanewayError) -> None:
        """Send a notice that is not fatal."""
        ...

    def end(self, error: LanewayError | None) -> None:
        """End; the first reason counts."""
        ...


class _Place:
    """A stream while it is live: an object and no generator, whose frame would be 300 bytes of every stream."""

    __slots__ = ("_counted", "_principal", "_stream", "_streams")

    def __init__(self, streams: Streams, stream: Live, principal: Principal) -> None:
        self._streams = streams
        self._stream = stream
        self._principal = principal
        self._counted = streams.connection()

    def __enter__(self) -> Connection:
        connection = self._counted.__enter__()
        try:
            self._streams.enter(self._stream, self._principal)
        except BaseException as error:
            self._counted.__exit__(type(error), error, error.__traceback__)
            raise
        return connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._streams.leave(self._stream, self._principal)
        self._counted.__exit__(kind, error, trace)


class Streams:
    """Book of what is live on one edge.

    Args:
        most: streams at once. most_of_one: likewise, of one (tenant, subject).
        jitter: uniform in [0, 1).
        traffic: counts the streams, and adds `most` to its capacity until the drain; None: nobody counts.

    Attributes:
        draining: True from the beginning of a drain: nothing is taken any more.
    """

    def __init__(
        self,
        most: int,
        most_of_one: int,
        jitter: Callable[[], float] = random.random,
        traffic: Traffic | None = None,
    ) -> None:
        self.draining = False
        self._most = most
        self._most_of_one = most_of_one
        self._jitter = jitter
        self._traffic = traffic
        if traffic is not None:
            traffic.capacity += most
        self._live: set[Live] = set()
        self._of_principal: Counter[tuple[str, str]] = Counter()
        self._empty = asyncio.Event()

    def __len__(self) -> int:
        return len(self._live)

    def check_room(self, principal: Principal) -> None:
        """Raise Draining, Overloaded or RateLimited if one more stream of this principal cannot be taken."""
        if self.draining:
            raise self.going_away()
        if len(self._live) >= self._most:
            raise Overloaded(f"all {self._most} streams are taken", retry_after_ms=_BUSY_RETRY_MS)
        if self._of_principal[principal.tenant, principal.subject] >= self._most_of_one:
            raise RateLimited(
                f"you have {self._most_of_one} streams open; close one first", retry_after_ms=_BUSY_RETRY_MS
            )

    def hold(self, stream: Live, principal: Principal) -> AbstractContextManager[Connection]:
        """Count `stream` as live while it is served, and say how it ended. Entering raises as `check_room`."""
        return _Place(self, stream, principal)

    def connection(self) -> AbstractContextManager[Connection]:
        """Count a connection, if somebody does."""
        return nullcontext(Connection()) if self._traffic is None else self._traffic.connection()

    def enter(self, stream: Live, principal: Principal) -> None:
        """Take a stream in. Raises as `check_room`."""
        self.check_room(principal)
        self._live.add(stream)
        self._of_principal[principal.tenant, principal.subject] += 1

    def leave(self, stream: Live, principal: Principal) -> None:
        """It is over."""
        key = (principal.tenant, principal.subject)
        self._live.discard(stream)
        self._of_principal[key] -= 1
        if not self._of_principal[key]:
            del self._of_principal[key]
        if not self._live:
            self._empty.set()

    def going_away(self) -> Draining:
        """Return what a client is told at a drain, each with another delay."""
        return Draining(
            "this engine is shutting down; reconnect and resume", retry_after_ms=int(self._jitter() * _DRAIN_SPREAD_MS)
        )

    async def drain(self, grace_s: float) -> None:
        """Take nothing more, ask the live streams to leave, end after `grace_s` those that have not."""
        self.draining = True
        if self._traffic is not None:
            self._traffic.capacity -= self._most
            self._most = 0
        for stream in list(self._live):
            stream.tell(self.going_away())
        await self._gone_within(grace_s)
        for stream in list(self._live):
            stream.end(self.going_away())
        await self._gone_within(_LAST_S)

    async def _gone_within(self, pause_s: float) -> None:
        self._empty.clear()
        if not self._live:
            return
        try:
            async with asyncio.timeout(pause_s):
                await self._empty.wait()
        except TimeoutError:
            return
