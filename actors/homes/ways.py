"""The way to what is at home elsewhere: remembered, tried, and looked for again when it was wrong.

Law of this file: a remembered place costs nothing and is never trusted: who is asked decides for itself
whether it is the one, and its refusal makes this front look again. Looking ends at a deadline.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, TypeVar

from laneway.actors.homes.homes import Homes
from laneway.actors.hosts.peers import Peer
from laneway.routing.errors import Draining, Fenced, HostLost, RuntimeUnavailable

__all__ = ["Ways"]

_T = TypeVar("_T")
_FIND_S: Final = 8.0
"""A front that dies is told by its connection (2 s), by the membership (2 s) and by the next beat (0.5 s),
one after the other at worst; a client waits 10 s for its welcome."""
_PAUSE_FIRST_S: Final = 0.02
_PAUSE_CAP_S: Final = 0.5
_RETRY_MS: Final = 100
_PLACES: Final = 65_536
"""Places remembered: about 15 MiB. One that is wrong costs a question."""


class Ways:
    """Finds fronts by the keys of sessions and documents.

    Args:
        homes: this front's.
        peers: live connections by the name of the other host.
    """

    def __init__(self, homes: Homes, peers: Mapping[str, Peer]) -> None:
        self._homes = homes
        self._peers = peers
        self._places: OrderedDict[str, str] = OrderedDict()

    async def reach(
        self,
        key: str,
        here: Callable[[], Awaitable[_T]],
        there: Callable[[Peer], Awaitable[_T]],
        within_s: float = _FIND_S,
    ) -> _T:
        """Do something where `key` is at home, and again elsewhere if it turns out not to be.

        What is done may be done twice, if a front is lost over it. Raises what is done raises, or the last
        reason why nobody could be reached, after `within_s`.
        """
        loop = asyncio.get_running_loop()
        ends, pause_s = loop.time() + within_s, _PAUSE_FIRST_S
        while True:
            front = self._homes.name
            try:
                front = self._places.get(key) or await self._homes.place(key)
                if front == self._homes.name:
                    return await here()
                peer = self._peer(front)
                self._remember(key, front)
                return await there(peer)
            except (Fenced, HostLost, RuntimeUnavailable, Draining) as error:
                self._places.pop(key, None)
                if isinstance(error, Draining) and front != self._homes.name:
                    self._homes.full(front)
                if self._homes.over or self._homes.draining or loop.time() + pause_s >= ends:
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_CAP_S)

    def others(self) -> list[Peer]:
        """Return the connections to all other live fronts."""
        return [peer for life in self._homes.company.others if (peer := self._peers.get(life.name)) is not None]

    def at(self, key: str) -> str:
        """Return where it is remembered to be, or empty."""
        return self._places.get(key, "")

    def forget(self, fronts: Collection[str] | None = None) -> None:
        """Forget what is remembered to be at these fronts; None = everything. O(places)."""
        if fronts is None:
            self._places.clear()
        else:
            self._places = OrderedDict((key, at) for key, at in self._places.items() if at not in fronts)

    def _peer(self, front: str) -> Peer:
        peer = self._peers.get(front)
        if peer is None:
            raise RuntimeUnavailable(f"front {front!r} is not connected; try again", retry_after_ms=_RETRY_MS)
        return peer

    def _remember(self, key: str, front: str) -> None:
        self._places[key] = front
        self._places.move_to_end(key)
        if len(self._places) > _PLACES:
            self._places.popitem(last=False)
