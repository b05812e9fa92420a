"""What fronts relay to each other is bounded per connection: bytes under way, and who waits for room.

Law of this file: however many links share a connection, no more than the window is under way on it, so
that a storm of resumes waits here and does not break it. Who waits is let on in the order of arrival.
Taken means arrived: a client that does not read holds back its own link, by NEXT, and nobody else's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from laneway.actors.hosts.peers import TOOK, Message, Peer
from laneway.routing.errors import HostLost, LanewayError, PeerProtocolError

__all__ = ["Flow"]

_WINDOW_BYTES: Final = 4_194_304
"""1 ms of it at 4 GB/s, 40 ms at 100 MB/s: enough for any network between fronts, and small beside a
connection's bound (64 MiB)."""
_TELL_SHARE: Final = 8


class _Lane:
    """One connection: bytes sent, known to be taken, received, and told."""

    __slots__ = ("received", "sent", "told", "took", "waiting")

    def __init__(self) -> None:
        self.sent = self.took = self.received = self.told = 0
        self.waiting: deque[tuple[int, asyncio.Future[None]]] = deque()


class Flow:
    """A `switchboard.Part` for TOOK. All but the waiting is O(1).

    Args:
        window_bytes: under way on one connection, each way; one larger message alone may exceed it.
    """

    def __init__(self, window_bytes: int = _WINDOW_BYTES) -> None:
        self._window = window_bytes
        self._tell_bytes = max(1, window_bytes // _TELL_SHARE)
        self._lanes: dict[Peer, _Lane] = {}

    async def room(self, peer: Peer, size_bytes: int) -> None:
        """Wait until so much may be sent, and count it as sent. Raises HostLost."""
        lane = self._lanes.get(peer)
        if lane is None:
            raise _lost(peer)
        if not lane.waiting and self._fits(lane, size_bytes):
            lane.sent += size_bytes
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (size_bytes, turn)
        lane.waiting.append(place)
        try:
            await turn
        except asyncio.CancelledError:
            if place in lane.waiting:
                lane.waiting.remove(place)
            elif turn.done() and not turn.cancelled() and turn.exception() is None:
                lane.sent -= size_bytes  # it will not be sent after all
            self._let_on(lane)
            raise
        if self._lanes.get(peer) is not lane:  # lost since its turn came: whoever waits for an answer would miss it
            raise _lost(peer)

    def taken(self, peer: Peer, size_bytes: int) -> None:
        """So much has arrived, in the sender's count."""
        lane = self._lanes.get(peer)
        if lane is None:
            return
        lane.received += size_bytes
        if lane.received - lane.told >= self._tell_bytes:
            lane.told = lane.received
            peer.send((TOOK, 0, lane.told))

    def waiting(self) -> int:
        """Return how many wait for room, on all connections."""
        return sum(len(lane.waiting) for lane in self._lanes.values())

    # -- the part -------------------------------------------------------------------------------

    def handlers(self) -> Mapping[int, Callable[[Peer, Message], None]]:
        """The verb of flow."""
        return {TOOK: self._took}

    def connected(self, peer: Peer) -> None:
        """Nothing is under way yet."""
        self._lanes[peer] = _Lane()

    def lost(self, peer: Peer, error: LanewayError) -> None:
        """Nothing more is sent there."""
        lane = self._lanes.pop(peer, None)
        if lane is not None:
            for _, turn in lane.waiting:
                if not turn.done():
                    turn.set_exception(_lost(peer))
            lane.waiting.clear()

    def _took(self, peer: Peer, message: Message) -> None:
        lane = self._lanes.get(peer)
        if lane is None:
            return
        took = message[2]
        if type(took) is not int or not lane.took <= took <= lane.sent:
            raise PeerProtocolError(f"host {peer.name!r} says it took {took!r} bytes of {lane.sent}")
        lane.took = took
        self._let_on(lane)

    def _fits(self, lane: _Lane, size_bytes: int) -> bool:
        under_way = lane.sent - lane.took
        return under_way <= 0 or under_way + size_bytes <= self._window

    def _let_on(self, lane: _Lane) -> None:
        while lane.waiting and self._fits(lane, lane.waiting[0][0]):
            size_bytes, turn = lane.waiting.popleft()
            if not turn.done():
                lane.sent += size_bytes
                turn.set_result(None)


def _lost(peer: Peer) -> HostLost:
    return HostLost(f"host {peer.name!r} was lost")
