"""Fronts and pool hosts in one process and in virtual time: everything but the wire and Ray is real.

Law of this file: a front is a directory over its own store with a dispatcher whose pools are all on
other hosts; a pool host runs models and tools for whoever is connected, with the ledger of the front
that delivered.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from laneway.actors.directory.directory import SessionDirectory
from laneway.actors.dispatch.dispatcher import Dispatcher
from laneway.actors.hosts.guests import Guests, HostOptions
from laneway.actors.hosts.questions import Questions
from laneway.actors.hosts.remote_cells import RemoteCells
from laneway.actors.hosts.remote_records import RECORDS, RecordService, RemoteRecords
from laneway.actors.hosts.switchboard import Switchboard
from laneway.actors.nlp.runs import RunDriver
from laneway.actors.pools.context import Surroundings
from laneway.actors.pools.pool import PoolSpec
from laneway.actors.ports import Observe, Principal, ToolInvoker
from laneway.actors.sessions.session import SessionPolicy
from laneway.actors.tools.calls import ToolCalls
from laneway.actors.tools.catalogue import Catalogue
from laneway.actors.tools.ledger import Ledger
from laneway.engine.app.embedded import EmbeddedSession
from laneway.engine.app.outlet import CheckedOutlet
from laneway.engine.app.packing import HostPacking, LogPacking
from laneway.engine.stores.memory import MemoryStore
from laneway.routing.classify import IN, Kind, KindTable
from laneway.routing.dispatch import DispatchCore, DispatchPolicy
from laneway.routing.lanes import Lane
from tests.actors.pairs import End, connect
from tests.simulation.conservation import unbalanced
from tests.simulation.loop import VirtualClock

__all__ = ["Cluster", "SimFront", "SimHost", "cluster"]

_KINDS = (Kind("WORK", Lane.NORMAL, direction=IN), Kind("URGE", Lane.CRITICAL, direction=IN))
_LOOK_S, _LOOKS = 0.05, 2_000


class _Silence:
    """A probe that keeps nothing."""

    def count(self, name: str, value: int = 1, **labels: str) -> None: ...

    def observe(self, name: str, value: float, **labels: str) -> None: ...

    def histogram(self, name: str, **labels: str) -> Observe:
        return lambda value, times=1: None


class SimHost:
    """A pool host; give it pools with `add` before or after it is joined."""

    def __init__(self, name: str, clock: VirtualClock) -> None:
        self.name, self.clock = name, clock
        kinds, numbers = KindTable(_KINDS), itertools.count(1)
        self.catalogue = Catalogue()
        self.guests = Guests(
            HostOptions(
                clock,
                kinds,
                HostPacking(kinds),
                ids=lambda: f"call-{next(numbers)}",
                number=lambda: next(numbers),
                tools=self.catalogue.specs,
                checked=CheckedOutlet,
            )
        )
        self.questions, self.board = Questions(), Switchboard()
        self.board.add(self.questions)
        self.board.add(self.guests)
        self.records = RemoteRecords(self.questions, self.board.peers, self.guests.front)

    def add(self, name: str, kind: str, handler: Any, **spec: Any) -> None:
        """Carry a pool of a plain handler."""
        self.guests.add_pool(PoolSpec(name, (kind,), handler, **spec))

    def add_model(self, model: Any, **spec: Any) -> None:
        """Carry the nlp pool."""
        driver = RunDriver(model, clock=self.clock, history=self.guests.history)
        self.add("nlp", "USER_MESSAGE", driver, run_starting=True, **spec)

    def add_tools(self, *tools: ToolInvoker) -> None:
        """Carry the tools pool."""
        for tool in tools:
            self.catalogue.add(tool)
        calls = ToolCalls(self.catalogue, Ledger(self.records), clock=self.clock, probe=_Silence(), random=lambda: 0.5)
        self.add("tools", "TOOL_CALL", calls)


class SimFront:
    """A front."""

    def __init__(self, name: str, clock: VirtualClock, pools: Mapping[str, str]) -> None:
        self.name, self.clock, self.kinds, self.store = name, clock, KindTable(_KINDS), MemoryStore()
        ids = itertools.count(1)
        self.directory = SessionDirectory(
            self.store,
            clock=clock,
            kinds=self.kinds,
            packer=LogPacking(self.kinds),
            policy=SessionPolicy(),
            link_ids=lambda: f"{name}-link{next(ids)}",
            wall=clock.now,
        )
        outlet = CheckedOutlet(self.directory)
        around = Surroundings(outlet, clock, self.kinds, lambda: "call", principal=self.directory.principal_of)
        core = DispatchCore(self.kinds, DispatchPolicy())
        self.dispatcher = Dispatcher(core, around, journal=self.directory.journal)
        self.directory.bind(self.dispatcher)
        self.cells = RemoteCells(
            self.dispatcher,
            outlet=outlet,
            clock=clock,
            packer=HostPacking(self.kinds),
            principal=self.directory.principal_of,
            history=self.directory.messages,
        )
        for pool, kinds in pools.items():
            run_starting = kinds == "USER_MESSAGE"
            self.dispatcher.add_pool(PoolSpec(pool, kinds.split(), _nowhere, remote=True, run_starting=run_starting))
        questions = Questions()
        questions.serve(RECORDS, RecordService(self.store))
        self.questions, self.board = questions, Switchboard()
        self.board.add(questions)
        self.board.add(self.cells)

    def session(self, name: str, user: str = "alice") -> EmbeddedSession:
        """A session of this front, from inside."""
        return EmbeddedSession(self.directory, self.kinds, self.clock, name, Principal(user, "t"))

    async def close(self) -> None:
        """As an engine closes."""
        await self.dispatcher.drain(0.0)
        await self.cells.close()
        await self.questions.close()
        await self.directory.close()


async def _nowhere(env: Any, context: Any) -> None:
    raise AssertionError("a remote pool's handler is never called here")


class Cluster:
    """Fronts and hosts by name, and the connections between them."""

    def __init__(self, pools: Mapping[str, str]) -> None:
        self.clock = VirtualClock(asyncio.get_running_loop())
        self.fronts: dict[str, SimFront] = {}
        self.hosts: dict[str, SimHost] = {}
        self.seen: list[str] = []
        self._pools = pools

    def unbalanced(self) -> list[str]:
        """What does not add up at this moment, in any front."""
        return [text for front in self.fronts.values() for text in unbalanced(front.dispatcher, front.directory)]

    def host(self, name: str = "host") -> SimHost:
        """Start a pool host."""
        made = self.hosts[name] = SimHost(name, self.clock)
        return made

    async def front(self, name: str = "front") -> SimFront:
        """Start a front."""
        made = self.fronts[name] = SimFront(name, self.clock, self._pools)
        await made.dispatcher.start()
        return made

    def join(self, front: SimFront, host: SimHost) -> tuple[End, End]:
        """Connect two; returns (the front's peer, the host's peer)."""
        return connect(front.board, host.board, front.name, host.name)


async def _watch(made: Cluster) -> None:
    for _ in range(_LOOKS):
        await asyncio.sleep(_LOOK_S)
        made.seen += made.unbalanced()


@asynccontextmanager
async def cluster(**pools: str) -> AsyncIterator[Cluster]:
    """A cluster whose remote pools are `pools` (name -> kinds); all of it is closed and left quiet.

    Both laws of conservation are looked at every 50 ms of its first 100 s, and when it closes.
    """
    made = Cluster(pools)
    watch = asyncio.create_task(_watch(made))
    try:
        yield made
        assert made.unbalanced() == []
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        assert made.seen == []
        for front in made.fronts.values():
            await front.close()
        for host in made.hosts.values():
            await host.guests.drain(made.clock.now())
            await host.questions.close()
            assert host.guests.statistics().deliveries == 0
