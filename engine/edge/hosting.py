"""What serves session streams that come over HTTP: gateway, book, bounds.

Law of this file: whatever the wire, a stream is counted while it lives, ends with the credentials
it began with, and leaves no task behind.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from laneway.actors.ports import Clock, Principal
from laneway.engine.edge.gateway import Gateway
from laneway.engine.edge.stream import SessionStream, StreamPolicy, Wire
from laneway.engine.edge.streams import Streams
from laneway.routing.errors import LanewayError

__all__ = ["Hosting", "origin"]


def origin(transport: str) -> dict[str, str]:
    """Return what the spans of events say about the wire that they came by."""
    return {"laneway.transport": transport}


class Hosting:
    """Makes and serves streams.

    Args:
        streams: the book they are counted in.
        policy: bounds of each.
        wall: UNIX seconds.
    """

    def __init__(
        self,
        gateway: Gateway,
        clock: Clock,
        streams: Streams,
        policy: StreamPolicy,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.gateway = gateway
        self.clock = clock
        self.streams = streams
        self._policy = policy
        self._wall = wall

    def stream(self, wire: Wire, principal: Principal, transport: str) -> SessionStream:
        """Return a stream to `serve`; `transport` is what spans of its events say."""
        lifetime_s = float("inf") if principal.expires_at is None else principal.expires_at - self._wall()
        return SessionStream(
            wire,
            self.gateway,
            principal,
            clock=self.clock,
            policy=self._policy,
            expires_at=self.clock.now() + lifetime_s,
            origin=origin(transport),
        )

    async def serve(self, stream: SessionStream) -> LanewayError | None:
        """Serve until it is over; returns why. Raises Draining, Overloaded or RateLimited if there is no room."""
        with self.streams.hold(stream, stream.principal) as connection:
            try:
                reason = await stream.serve()
                connection.established = stream.established
                connection.over(reason, goodbye=stream.goodbye)
                return reason
            finally:
                if stream.reader is not None:
                    stream.reader.cancel()
                    await asyncio.gather(stream.reader, return_exceptions=True)
