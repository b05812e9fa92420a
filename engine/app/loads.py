"""How much each pool has to do, over all fronts of a cluster: what its scaling is decided by.

Law of this file: one front scales, the one whose name comes first among the live; it asks the others.
One that does not answer counts as idle this time: scaling up may be late, never wrong for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from laneway.actors.dispatch.accounts import DispatcherStatistics
from laneway.actors.hosts.peers import Peer
from laneway.actors.hosts.questions import Questions
from laneway.actors.ports import Clock
from laneway.engine.app.scaler import load_of, merged
from laneway.routing.membership import FRONT, View
from laneway.routing.scaling import PoolLoad

__all__ = ["Loads"]

_SERVICE: Final = "loads"
_ASK_S: Final = 1.0


class Loads:
    """Reads the loads of a cluster's pools; also answers the front that asks.

    Args:
        name: this front. books: of its dispatcher. view: who lives.
        hosts: pool -> how many hosts it is meant to have. peers: the live connections.
    """

    def __init__(
        self,
        name: str,
        pools: Callable[[], list[str]],
        *,
        books: Callable[[], DispatcherStatistics],
        view: Callable[[], View],
        hosts: Callable[[str], Awaitable[int]],
        questions: Questions,
        peers: Mapping[str, Peer],
        clock: Clock,
    ) -> None:
        self._name = name
        self._pools = pools
        self._books = books
        self._view = view
        self._hosts = hosts
        self._questions = questions
        self._peers = peers
        self._clock = clock
        questions.serve(_SERVICE, self._answer)

    async def read(self) -> dict[str, PoolLoad]:
        """Return the loads of all fronts together; nothing if another front scales. Raises RuntimeUnavailable."""
        fronts = [member.name for member in self._view().of(FRONT)]
        if fronts and min(fronts) != self._name:
            return {}
        own = await self._own()
        others = [self._peers[name] for name in fronts if name in self._peers]
        asked = [self._questions.ask(peer, _SERVICE, "read", None, _ASK_S) for peer in others]
        told = [answer for answer in await asyncio.gather(*asked, return_exceptions=True) if isinstance(answer, dict)]
        return {
            pool: merged([load, *(PoolLoad(*answer[pool]) for answer in told if pool in answer)])
            for pool, load in own.items()
        }

    async def _own(self) -> dict[str, PoolLoad]:
        wanted = {pool: await self._hosts(pool) for pool in self._pools()}
        return {pool: self._load(pool, count) for pool, count in wanted.items()}

    def _load(self, pool: str, wanted: int) -> PoolLoad:
        ready = sum(pool in member.pools for member in self._view().members)
        pending = max(0, wanted - ready)
        return load_of(self._books(), pool, self._clock.now(), wanted=wanted, ready=ready, pending=pending)

    async def _answer(self, peer: Peer, method: str, arguments: Any) -> dict[str, list[Any]]:
        return {pool: list(self._load(pool, 0)) for pool in self._pools()}
