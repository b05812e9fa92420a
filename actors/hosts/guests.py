"""The pools of this host, and the fronts whose events are handled in them.

Law of this file: every delivery is answered once, or its front is lost. The fronts that use a cell
share its ordinary room; one that does not keeps a part, so that it may begin at once, and no part of
the critical room is ever lent: a front that floods keeps nobody out. A front that is lost takes its
own with it: what it delivered is cancelled at once, silenced, and nothing more is sent. A front that
breaks the contract loses its connection, and nobody else notices.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

from laneway.actors.alarm import Alarm
from laneway.actors.dispatch.journeys import Journeys
from laneway.actors.endings import cancelled
from laneway.actors.hosts.delivery import Delivery
from laneway.actors.hosts.emissions import WINDOW_BYTES, Emissions
from laneway.actors.hosts.front import Front
from laneway.actors.hosts.peers import ANSWER, CANCEL, DELIVER, EMITTED, Message, Peer
from laneway.actors.packer import Packer
from laneway.actors.pools.cell import Cell
from laneway.actors.pools.context import Ask, ContextMaker, LateEmits, RunContext, Surroundings
from laneway.actors.pools.gauges import PoolStatistics
from laneway.actors.pools.mailbox import critical_room, ordinary_room
from laneway.actors.pools.pool import PoolSpec
from laneway.actors.ports import Clock, Outcome, Outlet, Principal, Probe, ToolSpec
from laneway.actors.spans import Tracer
from laneway.routing.classify import KindTable
from laneway.routing.envelope import SESSION, TENANT, Envelope
from laneway.routing.errors import ConfigError, LanewayError, PeerProtocolError
from laneway.routing.failures import error_of_code
from laneway.routing.shares import most_promised, share

__all__ = ["GuestStatistics", "Guests", "HostOptions"]

_MAX_FRONTS: Final = 64
"""Fronts with a share of each cell; a later one gets none until one of them goes."""
_IDLE_S: Final = 1.0
"""A front that has had nothing with a cell for so long lends its part to those who have."""
_CROSSING_S: Final = 1.0
"""A front that has not heard yet that there is no more room delivers until then; a round trip takes milliseconds."""


@dataclass(frozen=True, slots=True)
class HostOptions:
    """What the handlers of a host share, whichever front they work for.

    Attributes:
        packer: envelope <-> bytes between hosts.
        ids: fresh ids for tool calls. number: next number of events made here; fronts give them their own.
        tools: the catalogue rows a principal may call.
        checked: put in front of what takes handlers' events; raises for what cannot be read back.
        tracer: spans of sampled events, or None. probe: as for a cell.
        window_bytes: of what one handler says, on its way to the session at once.
        max_fronts: fronts with a share at once.
    """

    clock: Clock
    kinds: KindTable
    packer: Packer
    ids: Callable[[], str]
    number: Callable[[], int]
    tools: Callable[[Principal], Sequence[ToolSpec]] | None = None
    checked: Callable[[Outlet], Outlet] = lambda outlet: outlet
    tracer: Tracer | None = None
    probe: Probe | None = None
    window_bytes: int = WINDOW_BYTES
    max_fronts: int = _MAX_FRONTS


class GuestStatistics(NamedTuple):
    """A host's pools and fronts at one moment.

    Attributes:
        fronts: connections. deliveries: events that are not answered. asks: tool calls under way at fronts.
        waiting: handlers that wait for a session to take what they said. on_its_way_bytes: what they said.
    """

    fronts: int
    deliveries: int
    asks: int
    waiting: int
    on_its_way_bytes: int
    draining: bool
    pools: tuple[PoolStatistics, ...]


class _Station:
    """The cells of one pool here."""

    __slots__ = ("cells", "late", "room", "spec")

    def __init__(self, spec: PoolSpec, late: LateEmits) -> None:
        self.spec = spec
        self.late = late
        self.room = (ordinary_room(spec.concurrency), critical_room(spec.concurrency))
        self.cells: list[Cell] = []


class Guests:
    """A `switchboard.Part` for DELIVER, CANCEL, EMITTED and ANSWER. Lives on one event loop."""

    def __init__(self, options: HostOptions) -> None:
        self._options = options
        self._clock = options.clock
        self._around = Surroundings(
            *(_Nobody(), options.clock, options.kinds, options.ids), tools=options.tools, tracer=options.tracer
        )
        self._stations: dict[str, _Station] = {}
        self._cells: dict[str, tuple[Cell, _Station]] = {}
        self._fronts: dict[Peer, Front] = {}
        self._open: dict[int, tuple[Delivery, str]] = {}  # by the identity of the envelope that its cell has
        self._journeys = Journeys(options.tracer, options.clock)
        self._in_progress: ContextVar[Delivery | None] = ContextVar("delivery", default=None)
        self._idle = Alarm(options.clock, self._rest)
        self._quiet = asyncio.Event()
        self._draining = False

    # -- pools ----------------------------------------------------------------------------------

    def add_pool(self, spec: PoolSpec) -> None:
        """Carry a pool's cells here from now on. Raises ConfigError if the name is taken."""
        if spec.name in self._stations:
            raise ConfigError(f"pool {spec.name!r} exists already; choose another name")
        station = _Station(spec, LateEmits(spec.name, self._options.probe))
        self._stations[spec.name] = station
        ordinary, critical = station.room
        room = (ordinary * self._options.max_fronts, most_promised(critical, self._options.max_fronts))
        for index in range(spec.cells):
            cell = Cell(
                f"{spec.name}/{index}",
                spec.handler,
                concurrency=spec.concurrency,
                clock=self._clock,
                make_context=partial(self._context, station),
                on_done=self._done,
                grace_s=spec.grace_s,
                batch=spec.batch,
                on_change=self._announce,
                begin=partial(self._journeys.handled, spec.name),
                room=room,
                probe=self._options.probe,
            )
            station.cells.append(cell)
            self._cells[cell.name] = (cell, station)
        self._announce()

    async def drain(self, deadline: float) -> None:
        """Take nothing new, let what is here end until `deadline` (monotonic seconds), then end the rest.

        Returns with every delivery answered, at the latest the pools' grace after the deadline. Idempotent.
        """
        self._draining = True
        self._announce()
        self._quiet.clear()
        with suppress(TimeoutError):  # the cells end what is left
            async with asyncio.timeout(max(0.0, deadline - self._clock.now())):
                if self._fronts:
                    await asyncio.sleep(_CROSSING_S)
                while self._open:
                    await self._quiet.wait()
                    self._quiet.clear()
        async with asyncio.TaskGroup() as group:
            for cell, _ in self._cells.values():
                group.create_task(cell.close(deadline), name=f"close {cell.name}")
        for front in self._fronts.values():
            front.flush()
        self._idle.cancel()

    def statistics(self) -> GuestStatistics:
        """Return the gauges. O(deliveries + cells)."""
        emissions = [delivery.emissions for delivery, _ in self._open.values()]
        return GuestStatistics(
            fronts=len(self._fronts),
            deliveries=len(self._open),
            asks=sum(front.asks for front in self._fronts.values()),
            waiting=sum(each.waiting for each in emissions),
            on_its_way_bytes=sum(each.on_its_way_bytes for each in emissions),
            draining=self._draining,
            pools=tuple(map(_pool_statistics, self._stations.values())),
        )

    # -- what handlers ask about the delivery in progress ---------------------------------------

    def front(self) -> str | None:
        """Return the name of the front whose event is handled in this task, for `RemoteRecords`; else None."""
        delivery = self._in_progress.get()
        return delivery.front.name if delivery is not None else None

    def history(self, tenant: str, session: str) -> list[dict[str, Any]]:
        """Return what was said before the event that is handled in this task, for `RunDriver`.

        Raises PeerProtocolError if it cannot be read; its front has then lost its connection.
        """
        delivery = self._in_progress.get()
        if delivery is None or (delivery.env[TENANT], delivery.env[SESSION]) != (tenant, session):
            return []
        try:
            return delivery.history()
        except PeerProtocolError as error:
            delivery.front.close(error)
            raise

    # -- the part -------------------------------------------------------------------------------

    def handlers(self) -> Mapping[int, Callable[[Peer, Message], None]]:
        """The verbs of a pool host."""
        return {
            DELIVER: self._delivered,
            CANCEL: self._cancelled,
            EMITTED: self._emitted,
            ANSWER: self._answered,
        }

    def connected(self, peer: Peer) -> None:
        """A front is here: the others' shares shrink, and it gets its own."""
        self._fronts[peer] = Front(peer)
        self._announce()

    def lost(self, peer: Peer, error: LanewayError) -> None:
        """End what the front delivered, and give its shares to the others."""
        front = self._fronts.pop(peer, None)
        if front is None:
            return
        for delivery in front.deliveries.values():
            delivery.emissions.silence()
        front.end_asks()
        mine = {id(delivery.env) for delivery in front.deliveries.values()}
        reason = f"its front {peer.name!r} is lost: {error.message}"
        for cell in {cell for delivery, cell in list(self._open.values()) if id(delivery.env) in mine}:
            self._cells[cell][0].cancel(lambda env: id(env) in mine, reason)
        self._announce()

    def _announce(self) -> None:
        """Tell every front its share of every cell, where that has changed. O(fronts x cells)."""
        for name in self._cells:
            self._tell(name)

    def _tell(self, name: str) -> None:
        """Tell every front its share of one cell, where that has changed. O(fronts)."""
        cell, station = self._cells[name]
        ordinary, critical = station.room
        fronts = list(self._fronts.values())
        sharers = min(len(fronts), self._options.max_fronts)
        active = sum(front.active(name) for front in fronts)
        closed = self._draining or not cell.open
        for place, front in enumerate(fronts):
            room = (0, 0)
            if not closed and place < sharers:
                room = (share(ordinary, active if front.active(name) else sharers), share(critical, sharers))
            front.announce(station.spec.name, name, room)

    def _rest(self) -> None:
        """Share the cells anew that some front has not used for a while. O(fronts x cells)."""
        now, changed = self._clock.now(), set()
        for front in self._fronts.values():
            for name, room in front.rooms.items():
                if room.active and not room.busy and room.idle_at <= now:
                    room.active = False
                    changed.add(name)
                elif room.active and not room.busy:
                    self._idle.set(room.idle_at)
        for name in changed:
            self._tell(name)

    # -- in -------------------------------------------------------------------------------------

    def _delivered(self, peer: Peer, message: Message) -> None:
        _, number, name, packed, principal, history = message
        front, place = self._fronts[peer], self._cells.get(name)
        if place is None:
            raise PeerProtocolError(f"front {peer.name!r} delivered to cell {name!r}, which is not here")
        env = self._options.packer.unpack(packed, self._clock.now())
        delivery = Delivery(peer, number, env, front.principal(principal), history)
        options = self._options
        delivery.emissions = Emissions(
            number, delivery.post, options.packer, options.kinds, self._clock, window_bytes=options.window_bytes
        )
        reason = front.cancelled(number)
        if reason is not None:
            delivery.done(cancelled(reason))
            return
        room = front.enter(name, delivery)
        if not room.active:
            room.active = True
            self._tell(name)
        self._open[id(env)] = (delivery, name)
        place[0].deliver(env)

    def _cancelled(self, peer: Peer, message: Message) -> None:
        _, number, reason = message
        front = self._fronts[peer]
        delivery = front.deliveries.get(number)
        if delivery is None:
            front.remember(number, reason)
        else:
            env, name = delivery.env, self._open[id(delivery.env)][1]
            self._cells[name][0].cancel(lambda one: one is env, reason)

    def _emitted(self, peer: Peer, message: Message) -> None:
        _, number, taken_bytes, code, text, retryable = message
        delivery = self._fronts[peer].deliveries.get(number)
        if delivery is not None:
            error = error_of_code(code, text, retryable=retryable is True) if code else None
            delivery.emissions.taken(taken_bytes, error)

    def _answered(self, peer: Peer, message: Message) -> None:
        self._fronts[peer].answered(message)

    # -- handling -------------------------------------------------------------------------------

    def _context(self, station: _Station, env: Envelope, trace: str) -> RunContext:
        """Make the context of a delivery, in the task that handles it."""
        entry = self._open.get(id(env))
        self._in_progress.set(entry[0] if entry is not None else None)
        if entry is None:  # of a batch, and answered before its handler looked at it
            return self._maker(station, _Nobody(), Principal("", env[TENANT]), _unasked)(env, trace)
        delivery = entry[0]
        outlet = self._options.checked(delivery.emissions)
        return self._maker(station, outlet, delivery.principal, partial(self._ask, delivery))(env, trace)

    def _maker(self, station: _Station, outlet: Outlet, principal: Principal, ask: Ask) -> ContextMaker:
        name, number = station.spec.name, self._options.number
        return ContextMaker(name, self._around, ask, number, station.late, outlet=outlet, principal=principal)

    async def _ask(self, delivery: Delivery, env: Envelope, timeout_s: float) -> Outcome:
        """Let the front that delivered dispatch an event of its handler."""
        packed = self._options.packer.pack(env, self._clock.now())
        front = self._fronts.get(delivery.front)
        if front is None or delivery.number not in front.deliveries:
            return await _unasked(env, timeout_s)
        return await front.ask(delivery, packed, timeout_s)

    def _done(self, env: Envelope, outcome: Outcome) -> None:
        """A cell is done with a delivery."""
        delivery, cell = self._open.pop(id(env))
        front = self._fronts.get(delivery.front)
        if front is not None:
            room = front.leave(cell, delivery)
            if not room.busy:
                room.idle_at = self._clock.now() + _IDLE_S
                self._idle.set(room.idle_at)
            if outcome.status == "handled" and not outcome.value and not delivery.urgent:
                front.handled(delivery.number, delivery.emissions.rest())
            else:
                delivery.done(outcome)
            delivery.emissions.silence()
        if not self._open:
            self._quiet.set()


class _Nobody:
    """Takes what is said of an event that is over."""

    async def emit(self, env: Envelope) -> None:
        """Drop it."""

    async def emit_all(self, envs: Sequence[Envelope]) -> None:
        """Drop them."""


async def _unasked(env: Envelope, timeout_s: float) -> Outcome:
    return cancelled("the event that would call this is over")


def _pool_statistics(station: _Station) -> PoolStatistics:
    cells = tuple(cell.statistics() for cell in station.cells)
    return PoolStatistics(
        name=station.spec.name,
        waiting=sum(sum(cell.waiting) for cell in cells),
        running=sum(cell.running for cell in cells),
        abandoned=sum(cell.abandoned for cell in cells),
        late_emits=station.late.count,
        cells=cells,
        slots=station.spec.concurrency * sum(cell.open for cell in station.cells),
    )
