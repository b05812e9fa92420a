"""A front in its cluster: its lives, its hosts, and the pools that they carry for it.

Law of this file: it joins, and leaves in order; nothing is waited for without an end. A front that was
taken for dead gives its homes up and begins a new life; one whose cluster was stopped takes nothing new.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from laneway.actors.hosts.peers import Peer
from laneway.actors.hosts.remote_cells import RemoteCells
from laneway.actors.hosts.remote_records import RECORDS, RecordService
from laneway.engine.app.front import Front
from laneway.engine.app.hosted import HostedPools
from laneway.engine.app.loads import Loads
from laneway.engine.app.neighbours import Neighbours
from laneway.engine.app.packing import HostPacking
from laneway.engine.app.placements import strangers
from laneway.engine.app.registrations import Registrations
from laneway.engine.app.scaler import Scaler
from laneway.engine.runtime.lives import Lives
from laneway.engine.runtime.program import HostFacts
from laneway.engine.runtime.ray_cluster import RayCluster
from laneway.engine.runtime.ray_host import laneway_version
from laneway.routing.errors import ConfigError, Draining, HostLost, LanewayError, RuntimeUnavailable
from laneway.routing.membership import FRONT, Member, View
from laneway.routing.scaling import PoolLoad

if TYPE_CHECKING:
    from laneway.engine.app.engine import Engine

__all__ = ["Cluster"]

_log: Final = logging.getLogger(__name__)
_LOOK_S: Final = 0.02
_ASK_S: Final = 10.0
_STORES: Final = "stores"
_SHARE: Final = (
    'Give all fronts one Redis (store.url), or say runtime.durability = "volatile" to all: sessions then end with '
    "their front. An engine that is to have hosts of its own names another runtime.cluster"
)
_STOPPED_RETRY_MS: Final = 5_000


class Cluster:
    """What `Engine(runtime="ray")` has beyond a local one. Lives on the engine's loop.

    Attributes:
        board: what other hosts send. questions: asked of them, and theirs. view: who lives.
    """

    def __init__(self, engine: Engine, neighbours: Neighbours) -> None:
        config = engine.config.runtime
        self.board = neighbours.board
        self.questions = neighbours.questions
        self.name = neighbours.homes.name
        self.view = View(-1, (), settled=False)
        self._engine = engine
        self._homes, self._neighbours = neighbours.homes, neighbours
        self._config = config
        self._ray = RayCluster(config, owned=not config.leave_hosts)
        self._cells = RemoteCells(
            engine.dispatcher,
            outlet=engine.outlet,
            clock=engine.clock,
            packer=HostPacking(engine.kinds),
            principal=engine.directory.principal_of,
            history=engine.directory.messages,
            probe=engine.telemetry.probe,
        )
        self._hosted = HostedPools(engine, self._ray, self._cells, self.questions)
        self.board.add(self._cells)
        self.board.add(self._hosted)
        self.questions.serve(RECORDS, RecordService(engine.store))
        self.questions.serve(_STORES, self._kind_of_store)
        self._loads = Loads(
            self.name,
            lambda: list(self._hosted.names),
            books=engine.dispatcher.statistics,
            view=lambda: self.view,
            hosts=self._count,
            questions=self.questions,
            peers=self.board.peers,
            clock=engine.clock,
        )
        self._scaler: Scaler | None = None
        self._lives: Lives | None = None
        self._life: asyncio.Task[None] | None = None
        self._seen = asyncio.Event()
        self._quitting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Join the cluster, and return when every pool that is to be on hosts has a cell.

        Raises:
            ConfigError: something cannot be made on a host. RuntimeUnavailable: no Ray, or hosts that do not
                come; the message lists what they asked for and what Ray has.
        """
        told = self._engine.registrations()
        self._warn_of_strangers()
        await self._ray.open()
        where = (self._ray.node, self._ray.ip, os.getpid())
        facts = HostFacts(self._config.cluster, self.name, "", "", *where, "", laneway_version(), b"")
        self._lives = Lives(
            self._make_life, facts, self._ray.registry, start_s=self._config.ready_s, stopped=self._stopped
        )
        self._life = asyncio.get_running_loop().create_task(self._lives.run(), name="laneway front")
        try:
            async with asyncio.timeout(self._config.ready_s):
                await self._lives.ready()
                await self._accompany()
        except TimeoutError as error:
            raise RuntimeUnavailable(self._alone()) from error
        await self._hosted.start(told)
        self._scale(told)

    def _warn_of_strangers(self) -> None:
        """A pool may be added later, so a name that nobody has yet is no error."""
        pools = [pool.name for pool in self._engine.dispatcher.statistics().pools]
        if named := strangers(self._config, pools):
            _log.warning("%s: there is no such pool now; there are %s", ", ".join(named), ", ".join(sorted(pools)))

    def _scale(self, told: Registrations) -> None:
        """Keep pools that may grow at the number of hosts they need."""
        bounds = {row.name: (row.hosts, row.max_hosts) for row in told.pools}
        clock, probe = self._engine.clock, self._engine.telemetry.probe
        self._scaler = Scaler(bounds, read=self._loads.read, scale=self.scale, clock=clock, probe=probe)
        self._scaler.start()

    async def scale(self, pool: str, hosts: int) -> None:
        """Bring a pool to so many hosts; those that go are drained first. Raises RuntimeUnavailable, ConfigError."""
        await self._ray.scale(pool, hosts, drain_s=self._engine.config.limits.drain_s)

    async def _count(self, pool: str) -> int:
        return len(await self._ray.hosts(pool))

    @property
    def loads(self) -> Mapping[str, PoolLoad]:
        """What pools had to do when it was last looked at; empty if another front scales."""
        return self._scaler.loads if self._scaler is not None else {}

    def _make_life(self) -> Front:
        return Front(
            self.board,
            self._engine.clock,
            self._config,
            began=self._began,
            saw=self._saw,
            over=self._over,
        )

    def _began(self, incarnation: str) -> None:
        self._neighbours.begin(incarnation)

    def _saw(self, view: View) -> None:
        self.view = view
        self._neighbours.saw(view)
        self._seen.set()

    def _over(self) -> None:
        """This life is over: others may have its homes by now."""
        _log.error("this front was taken for dead by its cluster; its sessions go on elsewhere, and it begins anew")
        self._neighbours.drop()

    async def _accompany(self) -> None:
        """Wait for the first view; refuse to be one of several fronts that do not share their store."""
        await self._seen.wait()
        for other in [member.name for member in self.view.of(FRONT) if member.name != self.name]:
            theirs = await self._ask_kind_of_store(other)
            if theirs is None:
                continue
            if not self._homes.shared and self._config.durability == "durable":
                raise ConfigError(
                    f"cluster {self._config.cluster} has a front already ({other}), and this one's store is its own: "
                    f"what one front wrote would be lost with it. {_SHARE}"
                )
            if theirs != self._own_kind_of_store():
                raise ConfigError(
                    f"front {other} of cluster {self._config.cluster} has another kind of store. {_SHARE}"
                )

    async def _ask_kind_of_store(self, other: str) -> list[object] | None:
        """Ask another front; None if it is gone: one that has died is a member for a while yet."""
        while any(member.name == other for member in self.view.of(FRONT)):
            peer = self.board.peers.get(other)
            if peer is not None:
                with contextlib.suppress(HostLost, RuntimeUnavailable):
                    theirs: list[object] = await self.questions.ask(peer, _STORES, "kind", None, _ASK_S)
                    return theirs
            await asyncio.sleep(_LOOK_S)
        return None

    def _alone(self) -> str:
        """Say what could not be done in time."""
        others = sorted({member.name for member in self.view.of(FRONT)} - {self.name, *self.board.peers})
        late = (
            f"no answer came from {', '.join(others)}, a front of it" if others else "its registry gave no view of it"
        )
        return (
            f"this engine could not join cluster {self._config.cluster} within {self._config.ready_s:g} s: {late}; "
            "fronts must reach each other's ports, and a busy machine needs a longer runtime.ready_s"
        )

    async def _kind_of_store(self, peer: Peer, method: str, arguments: object) -> list[object]:
        """Tell another front."""
        return self._own_kind_of_store()

    def _own_kind_of_store(self) -> list[object]:
        """Return what sessions may expect here; all fronts must agree."""
        return [self._homes.shared, "" if self._homes.shared else self._config.durability]

    @property
    def trouble(self) -> LanewayError | None:
        """Why nobody should be sent to this front now, or None."""
        if self._quitting is not None:
            return Draining("this engine's cluster was stopped by an operator", reason="STOPPED")
        if self._lives is not None and self._lives.member is None:
            return RuntimeUnavailable("this engine is no member of its cluster now, and begins anew")
        return None

    def _stopped(self, error: LanewayError) -> None:
        """An operator has stopped the cluster: this front has no hosts any more."""
        _log.error("the cluster is stopped, and this engine takes nothing new: %s", error)
        self._quitting = asyncio.get_running_loop().create_task(self._quit(), name="laneway quitting")

    async def _quit(self) -> None:
        """End runs and links as at a shutdown; the edges stay, and tell whoever comes."""
        engine = self._engine
        try:
            await self._cease()
            engine.directory.drain(retry_after_ms=_STOPPED_RETRY_MS)
            await engine.dispatcher.drain(engine.config.limits.drain_s)
            await engine.directory.close()
        except Exception:
            _log.exception("sessions could not be ended in order after the cluster was stopped")

    @property
    def hosts(self) -> Sequence[Member]:
        """The members of the cluster, this front among them."""
        return self.view.members

    # -- end ----------------------------------------------------------------------------------

    async def _cease(self) -> None:
        """Make no hosts any more."""
        if self._scaler is not None:
            await self._scaler.close()
        await self._hosted.close()

    async def close(self, drain_s: float) -> None:
        """Leave the cluster; owned hosts end. After the dispatcher's drain; idempotent."""
        await self._cease()
        await self._cells.close()
        if self._quitting is not None:
            await self._quitting
        if self._lives is not None and self._life is not None:
            self._lives.stop()
            await asyncio.gather(self._life, return_exceptions=True)
        await self._ray.close(drain_s=drain_s)
