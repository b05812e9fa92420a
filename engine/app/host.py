"""The program of a pool host: the cells of one pool, for every front that connects.

Law of this file: it composes what an engine composes, without sessions and dispatcher: those are at the
fronts, and so is the store that tool effects are recorded in. What a front is told later (another
tool, another model) it tells its hosts, which act on it without disturbing what runs.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from laneway.actors.hosts.guests import Guests, HostOptions
from laneway.actors.hosts.peers import Peer
from laneway.actors.hosts.questions import Questions
from laneway.actors.hosts.remote_records import RemoteRecords
from laneway.actors.hosts.switchboard import Switchboard
from laneway.actors.nlp.runs import RunDriver
from laneway.actors.pools.gauges import fields_of
from laneway.actors.pools.pool import PoolSpec
from laneway.actors.ports import Principal, ToolSpec
from laneway.actors.tools.calls import ToolCalls
from laneway.actors.tools.ledger import Ledger
from laneway.engine.app.brain import Brain
from laneway.engine.app.clock import SystemClock
from laneway.engine.app.orders import HostOrder, needed
from laneway.engine.app.outlet import CheckedOutlet
from laneway.engine.app.packing import HostPacking
from laneway.engine.app.pools import NLP_KINDS, TOOL_KINDS
from laneway.engine.app.readings import ERROR_CODES
from laneway.engine.app.registrations import Registrations
from laneway.engine.app.telemetry import Telemetry
from laneway.engine.app.toolbox import Toolbox
from laneway.engine.runtime.program import HostFacts, Presence
from laneway.engine.telemetry.families import Family, Readings, families
from laneway.engine.telemetry.process import process_readings
from laneway.engine.tls import require_tls13
from laneway.routing.classify import KindTable
from laneway.routing.errors import LanewayError, PeerProtocolError
from laneway.routing.lanes import LANE_NAMES
from laneway.routing.membership import POOL, View

if TYPE_CHECKING:
    from laneway.engine.config import RuntimeConfig
    from laneway.engine.peer.plane import Plane

__all__ = ["PROGRAM", "TELL", "PoolHost"]

_log: Final = logging.getLogger(__name__)
PROGRAM: Final = "laneway.engine.app.host:PoolHost"
TELL: Final = "host"
"""The service by which a front tells a host what it was told itself."""
_NUMBER_BITS: Final = 22
"""Events of one handler's run before two lives of hosts could count in the same range: 4 million."""


class PoolHost:
    """A `runtime.program.Program`. Lives on its host's loop; `start` makes everything."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._kinds = KindTable()
        self._nlp = Brain()
        self._board = Switchboard()
        self._questions = Questions()
        self._tools: Toolbox | None = None
        self._calls: ToolCalls | None = None
        self._telemetry: Telemetry | None = None
        self._guests: Guests | None = None
        self._plane: Plane | None = None
        self._told = Registrations()
        self._pool = ""
        self._slots = 1
        self._warming: asyncio.Task[None] | None = None

    async def start(self, facts: HostFacts) -> Presence:
        """Import what the pool needs, and listen. Raises ConfigError for what cannot be made here."""
        order = HostOrder.from_bytes(facts.spec)
        config, self._pool, self._told = order.config, order.pool, order.told
        self._telemetry = Telemetry(config.telemetry, self._clock, self._families)
        self._tools = Toolbox(config.tools.workers)
        await self._telemetry.start()
        await self._told.apply((self._pool,), kinds=self._kinds, tools=self._tools, nlp=self._nlp)
        self._guests = guests = Guests(self._options(self._telemetry))
        spec = self._spec(order, guests, self._tools)
        self._slots = spec.cells * spec.concurrency
        guests.add_pool(spec)
        self._board.add(guests)
        self._board.add(self._questions)
        self._questions.serve(TELL, self._hear)
        self._plane = self._connections(facts, config.runtime)
        self._warm()
        return Presence(POOL, await self._plane.start(facts.ip), (self._pool,))

    def _warm(self) -> None:
        """Load the model beside what else begins: the first run then waits for the rest of it at most."""
        if self._pool == "nlp":
            if self._warming is not None:
                self._warming.cancel()
            self._warming = asyncio.get_running_loop().create_task(self._open_model(), name="open the model")

    async def _open_model(self) -> None:
        try:
            await self._nlp.open()
        except Exception as error:  # whatever a foreign model raises
            _log.warning("the model could not be loaded ahead, its first run will tell: %s", error)

    def _connections(self, facts: HostFacts, config: RuntimeConfig) -> Plane:
        """Load gRPC, with TLS 1.3 and nothing else if it is to be TLS: this process is the host's own."""
        if config.tls_cert is not None:
            require_tls13()
        from laneway.engine.app.connections import connections

        identity = (facts.name, facts.incarnation, facts.secret, facts.version)
        return connections(POOL, *identity, self._board, self._clock, config)

    def _options(self, telemetry: Telemetry) -> HostOptions:
        first = random.SystemRandom().getrandbits(62 - _NUMBER_BITS) << _NUMBER_BITS
        return HostOptions(
            self._clock,
            self._kinds,
            HostPacking(self._kinds),
            ids=lambda: f"call-{os.urandom(16).hex()}",
            number=itertools.count(first).__next__,
            tools=self._visible,
            checked=CheckedOutlet,
            tracer=telemetry.tracer,
            probe=telemetry.probe,
        )

    def _visible(self, principal: Principal) -> Sequence[ToolSpec]:
        return self._told.visible(principal)

    def _spec(self, order: HostOrder, guests: Guests, tools: Toolbox) -> PoolSpec:
        """Return the pool as it runs here."""
        config = order.config
        if self._pool == "nlp":
            assert self._telemetry is not None
            runs = RunDriver(
                self._nlp,
                clock=self._clock,
                history=guests.history,
                raw=config.nlp.raw,
                probe=self._telemetry.probe,
                unread=config.nlp.unread,
            )
            return PoolSpec("nlp", NLP_KINDS, runs, concurrency=config.nlp.concurrency, run_starting=True)
        if self._pool == "tools":
            assert self._telemetry is not None
            records = RemoteRecords(self._questions, self._board.peers, guests.front)
            self._calls = ToolCalls(
                tools.catalogue, Ledger(records), clock=self._clock, probe=self._telemetry.probe, random=random.random
            )
            return PoolSpec("tools", TOOL_KINDS, self._calls, concurrency=config.tools.concurrency)
        return order.told.pool(self._pool).spec()

    async def _hear(self, peer: Peer, method: str, arguments: Any) -> None:
        """A front was told more. Raises what `Registrations.apply` raises."""
        if method != "tell" or type(arguments) is not bytes:
            raise PeerProtocolError(f"a host is told registrations, not {method!r}", reason="UNKNOWN_METHOD")
        told = needed(Registrations.from_bytes(arguments), self._pool)
        assert self._tools is not None
        await told.apply((self._pool,), kinds=self._kinds, tools=self._tools, nlp=self._nlp)
        self._told = told
        self._warm()

    # -- life ---------------------------------------------------------------------------------

    def saw(self, view: View) -> None:
        """Drop the connections of fronts that are over; a pool host dials nobody."""
        if self._plane is not None:
            self._plane.follow(view.members)

    def dropped(self, error: LanewayError) -> None:
        """Others have taken over: what the fronts delivered here is theirs to deliver again."""
        for peer in list(self._board.peers.values()):
            peer.close(error)

    async def drain(self, deadline_s: float) -> None:
        """Take nothing new, let handlers end."""
        if self._guests is not None:
            await self._guests.drain(time.monotonic() + deadline_s)

    async def close(self) -> None:
        """Answer what is left, and release everything. Idempotent."""
        if self._guests is not None:
            await self._guests.drain(0.0)
        if self._calls is not None:
            await self._calls.close()
        if self._plane is not None:
            await self._plane.close()
        await self._questions.close()
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.gather(self._warming, return_exceptions=True)
        await self._nlp.close()
        if self._tools is not None:
            await self._tools.close()
        if self._telemetry is not None:
            await self._telemetry.close()

    # -- seen ---------------------------------------------------------------------------------

    def statistics(self) -> Mapping[str, Any]:
        """Return the guests' gauges, and `load`: how much of what may run at once does."""
        if self._guests is None:
            return {}
        told = self._guests.statistics()
        running = sum(pool.running for pool in told.pools)
        return {**fields_of(told), "load": min(1.0, running / self._slots)}

    def _families(self) -> list[Family]:
        assert self._telemetry is not None
        domains = {"lane": LANE_NAMES, "code": ERROR_CODES, "pool": [self._pool]}
        readings: Readings = {name: {(): value} for name, value in process_readings().items()}
        return families(self._telemetry.counters.recorded(), readings, domains)
