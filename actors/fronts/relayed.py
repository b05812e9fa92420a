"""A client's link to a session that is at home with another front, as its own edge sees it.

Law of this file: nothing is decided here. Frames pass in order, each once; at most two batches of them
are under way or unread, so a client that does not read costs its session's home nothing beyond its link.
When the home's front is lost the link ends with an error to come back from: the session's log is elsewhere.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence

from laneway.actors.fronts.flow import Flow
from laneway.actors.fronts.parcels import Parcels, size_bytes
from laneway.actors.hosts.peers import LEAVE, LINK_IN, NEXT, Peer
from laneway.routing.envelope import Envelope
from laneway.routing.errors import LanewayError, LinkClosed
from laneway.routing.failures import error_fields
from laneway.routing.link import LinkFrame

__all__ = ["RelayedLink"]


class RelayedLink:
    """Implements `entry.Joined`; made by `Relay`, which tells it what comes.

    Args:
        peer: the home's front. number: of the link on that connection.

    Attributes:
        opened: done once the home has opened it; an error if it was refused.
    """

    def __init__(self, peer: Peer, number: int, flow: Flow, parcels: Parcels) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._peer = peer
        self._number = number
        self._flow = flow
        self._parcels = parcels
        self._due: deque[list[LinkFrame]] = deque()
        self._given = False
        self._waiter: asyncio.Future[None] | None = None
        self._left = False
        self._error: LanewayError | None = None

    @property
    def live(self) -> bool:
        """True until the link is closed."""
        return not self._left and self._error is None

    async def receive(self, header: Mapping[str, object], envelopes: Sequence[Envelope]) -> None:
        """Pass one frame of the client on; waits while too much is under way. Raises HostLost."""
        if not self.live or not (header or envelopes):
            return
        items = self._parcels.pack(envelopes)
        await self._flow.room(self._peer, size_bytes(items))
        # sent in any case, now that it is counted; a link that is over drops it
        self._peer.send((LINK_IN, self._number, {name: header[name] for name in header if name != "hello"}, items))

    async def frames(self) -> list[LinkFrame]:
        """Wait for frames. Raises what ended the link, after the last one. Single consumer."""
        if self._given:  # what was given before is written: there is room for another batch
            self._given = False
            if self._error is None:
                self._peer.send((NEXT, self._number))
        while not self._due:
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._given = True
        return self._due.popleft()

    async def close(self, error: LanewayError | None = None) -> None:
        """Leave; idempotent. With `error` the home sends what is due first, and `frames` raises it then."""
        if not self._left:
            self._left = True
            if self._error is None:
                self._peer.send((LEAVE, self._number, None if error is None else error_fields(error)))
        if error is None:
            self.end(LinkClosed("the link was left"))

    # -- what `Relay` tells -----------------------------------------------------------------------

    def take(self, frames: list[LinkFrame]) -> None:
        """Frames came."""
        self._due.append(frames)
        self._wake()

    def end(self, error: LanewayError) -> None:
        """It is over; the first reason counts."""
        if self._error is None:
            self._error = error
            self._wake()
        if not self.opened.done():
            self.opened.set_exception(error)
            self.opened.exception()  # nobody may be waiting any more

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
