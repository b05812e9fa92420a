"""The pools of a front that run on hosts: made when the engine is told of them, told what it is told, watched.

Law of this file: an engine starts once it is connected to every host of the pools it was told of, and each
pool has a cell, or says what is missing. What it is told later is placed while events wait in the
dispatcher. A pool that has lost all its hosts for good gets new ones. What cannot be placed is logged with
its cause; what may come right is tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Final

from laneway.actors.hosts.peers import Message, Peer
from laneway.actors.hosts.questions import Questions
from laneway.actors.hosts.remote_cells import RemoteCells
from laneway.engine.app.host import PROGRAM, TELL
from laneway.engine.app.orders import HostOrder
from laneway.engine.app.registrations import Registrations
from laneway.engine.runtime.ray_cluster import RayCluster
from laneway.engine.runtime.ray_host import pool_of
from laneway.routing.errors import ConfigError, HostLost, LanewayError, RuntimeUnavailable

if TYPE_CHECKING:
    from laneway.actors.pools.pool import Pool
    from laneway.engine.app.engine import Engine

__all__ = ["HostedPools"]

_log: Final = logging.getLogger(__name__)
_LOOK_S: Final = 0.02
_WATCH_S: Final = 2.0
"""A host that died is back in less; a pool that is without cells for longer is looked into."""
_TELL_S: Final = 10.0


class HostedPools:
    """Keeps the hosts of one front's pools. A `switchboard.Part` for connections; lives on the engine's loop.

    Args:
        ray: places hosts. cells: those that hosts have announced. questions: how hosts are told.

    Attributes:
        names: pools that have been placed.
    """

    def __init__(self, engine: Engine, ray: RayCluster, cells: RemoteCells, questions: Questions) -> None:
        self.names: set[str] = set()
        self._engine = engine
        self._ray = ray
        self._cells = cells
        self._questions = questions
        self._ready_s = engine.config.runtime.ready_s
        self._hosts: set[Peer] = set()
        self._told = b""
        self._changed = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        self._telling: set[asyncio.Task[None]] = set()

    async def start(self, told: Registrations) -> None:
        """Make the hosts, and return when all are connected and every pool has a cell; then go on keeping them.

        Raises:
            ConfigError: something cannot be made on a host. RuntimeUnavailable: hosts that do not come; the
                message lists what they asked for and what Ray has.
        """
        self._told = told.to_bytes()
        hosts = await self._place(told)
        await self._joined(hosts, [row.name for row in told.pools])
        engine, changed = self._engine, self._changed.set
        engine.pools.on_change = engine.tools.on_change = engine.nlp.on_change = changed
        self._keeping = asyncio.get_running_loop().create_task(self._keep(), name="laneway hosted pools")

    async def close(self) -> None:
        """Keep them no longer; the hosts stay. Idempotent."""
        tasks = [*self._telling, *([self._keeping] if self._keeping is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- the part -------------------------------------------------------------------------------

    def handlers(self) -> Mapping[int, Callable[[Peer, Message], None]]:
        """None: hosts answer questions."""
        return {}

    def connected(self, peer: Peer) -> None:
        """A host that was restarted knows what it was made with; tell it what came since."""
        if not pool_of(peer.name):
            return
        self._hosts.add(peer)
        if self._told:
            task = asyncio.get_running_loop().create_task(self._tell_one(peer), name=f"tell {peer.name}")
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    def lost(self, peer: Peer, error: LanewayError) -> None:
        """It is gone; Ray sees to a new life."""
        self._hosts.discard(peer)

    # -- placing --------------------------------------------------------------------------------

    async def _place(self, told: Registrations) -> set[str]:
        """Make the hosts of every pool that has none yet; returns their names once they serve."""
        names: list[str] = []
        for row in told.pools:
            if row.name not in self.names:
                order = HostOrder(row.name, self._engine.config, told).to_bytes()
                names += await self._ray.spawn(row.name, row.hosts, PROGRAM, order)
                self._cells.welcome(row.name)
        await self._ray.ready(names)
        self.names |= {row.name for row in told.pools}
        return set(names)

    async def _joined(self, hosts: set[str], pools: Collection[str]) -> None:
        """Wait until these hosts are connected and each pool has a cell here. Raises RuntimeUnavailable."""
        try:
            async with asyncio.timeout(self._ready_s):
                while self._absent(hosts) or self._bare(pools):  # noqa: ASYNC110 - each look is at several
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            late = ", ".join(self._absent(hosts)) or f"the hosts of pool {', '.join(self._bare(pools))}"
            raise RuntimeUnavailable(
                f"{late} run, but this front could not connect to them within {self._ready_s:g} s; can it reach their "
                "ports?"
            ) from None

    def _absent(self, hosts: set[str]) -> list[str]:
        """Return those that are not connected."""
        return sorted(hosts - {peer.name for peer in self._hosts})

    def _bare(self, pools: Collection[str]) -> list[str]:
        """Return those that have no cell."""
        found: list[tuple[str, Pool | None]] = [(name, self._engine.dispatcher.pool(name)) for name in pools]
        return [name for name, pool in found if pool is not None and not pool.cells]

    async def _keep(self) -> None:
        """Act on what the engine is told, and look after pools that have nobody."""
        while True:
            try:
                async with asyncio.timeout(_WATCH_S):
                    await self._changed.wait()
            except TimeoutError:
                await self._look_after()
                if not self._changed.is_set():
                    continue
            self._changed.clear()
            await asyncio.sleep(0)  # a decorated handler has its import path after its decorator
            try:
                told = self._engine.registrations()
                self._told = told.to_bytes()
                await self._place(told)
                await asyncio.gather(*(self._tell_one(peer) for peer in list(self._hosts)))
            except LanewayError as error:
                _log.error("what the engine was told cannot be placed on hosts: %s", error)
                if not isinstance(error, ConfigError):
                    self._changed.set()
                    await asyncio.sleep(_WATCH_S)

    async def _look_after(self) -> None:
        """A pool without a cell whose hosts exist no more, or never will, is placed anew."""
        try:
            for name in self._bare(self.names):
                if not await self._ray.hosts(name):
                    _log.warning("pool %s has no hosts any more; it gets new ones", name)
                    self.names.discard(name)
                    self._changed.set()
        except LanewayError as error:
            _log.warning("the hosts of pools without cells could not be looked up: %s", error)

    async def _tell_one(self, peer: Peer) -> None:
        try:
            await self._questions.ask(peer, TELL, "tell", self._told, _TELL_S)
        except (HostLost, RuntimeUnavailable):
            return  # its next life is told when it connects
        except LanewayError as error:
            _log.error("host %s cannot do what the engine was told: %s", peer.name, error)
