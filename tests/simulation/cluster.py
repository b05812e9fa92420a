"""A world of several fronts over one store: they join, die, are taken for dead, and lose each other; clients roam.

Law of this file: as in `world.py`: one seed, one run; after the storm everything must come to rest, and
the books are compared. The fronts, their relays and homes are the real ones; the wires between them and
the registry are simulated.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from dataclasses import replace
from typing import Any, Final

import msgpack

from laneway.actors.hosts.peers import Message
from laneway.actors.ports import Claim, Entry
from laneway.actors.sessions.session import SessionPolicy
from laneway.engine.app.neighbours import Neighbours
from laneway.routing.errors import LanewayError, RuntimeUnavailable
from laneway.routing.handshake import LinkPolicy
from laneway.routing.membership import FRONT, Member, View
from tests.simulation.client import Identity
from tests.simulation.faults import Weather
from tests.simulation.loop import _CURRENT, run
from tests.simulation.network import Broken
from tests.simulation.network import End as ClientEnd
from tests.simulation.process import Process
from tests.simulation.shape import Shape
from tests.simulation.world import Report, World

__all__ = ["ClusterWorld", "simulate_cluster"]

_NAMES: Final = ("a", "b", "c")
_BEAT_S: Final = 0.25


class FrontProcess(Process):
    """One life of one front."""

    def __init__(self, name: str, incarnation: str, *arguments: Any) -> None:
        super().__init__(*arguments, neighbours=lambda store: Neighbours(name, _Shared(store)))  # type: ignore[arg-type]
        self.name = name
        self.incarnation = incarnation
        self.ends: list[Wire] = []
        self.dropped = False
        self.deaf = False
        assert self.neighbours is not None
        self.neighbours.begin(incarnation)
        self.context = contextvars.copy_context()
        self.context.run(_CURRENT.set, self.lifetime)
        self._append = self.store.append
        self.store.append = self._checked  # type: ignore[method-assign]

    async def _checked(self, claim: Claim, entries: list[Entry]) -> None:
        if self.dropped and entries:
            self._history.violations.append(f"{self.name} wrote to {claim.key} after it was dropped")
        await self._append(claim, entries)

    @property
    def member(self) -> Member:
        """As the registry has it."""
        return Member(self.name, self.incarnation, FRONT, f"{self.name}:1")

    def drop(self) -> None:
        """The registry's word has come: this life is over."""
        self.dropped = True
        assert self.neighbours is not None
        self.context.run(self.neighbours.drop)

    async def kill(self) -> None:
        """kill -9; the others hear of it by their wires."""
        for end in list(self.ends):
            end.cut()
        await super().kill()


class _Shared:
    """What one front sees of the store that all have."""

    shared = True

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Wire:
    """One side's Peer: ordered messages that take time, each handled in the other front's own lifetime."""

    def __init__(self, mine: FrontProcess, theirs: FrontProcess, world: ClusterWorld) -> None:
        self.name, self.incarnation, self.alive = theirs.name, theirs.incarnation, True
        self.mine, self.theirs, self.world = mine, theirs, world
        self.other: Wire
        self._queues: tuple[deque[bytes], deque[bytes]] = (deque(), deque())
        self._last = [0.0, 0.0]
        mine.ends.append(self)

    def send(self, message: Message, *, urgent: bool = False) -> None:
        """Queue; arrives later, in order."""
        if not self.alive:
            return
        faults, loop = self.world.faults, asyncio.get_running_loop()
        arrival = loop.time() + faults.between((0.0005, 0.01))
        if faults.happens("wire stands still", faults.weather.stall / 10):
            arrival += 0.7
        self._last[urgent] = arrival = max(arrival, self._last[urgent])
        self._queues[urgent].append(msgpack.packb(message))
        loop.call_at(arrival, self._carry, urgent, context=self.theirs.context)

    def _carry(self, urgent: bool) -> None:
        if self.alive and self.theirs.lifetime.alive:
            message = tuple(msgpack.unpackb(self._queues[urgent].popleft()))
            assert self.theirs.neighbours is not None
            self.theirs.neighbours.board.received(self.other, message)

    def close(self, error: LanewayError) -> None:
        """End it for both, each told in its own time."""
        for wire in (self, self.other):
            if wire.alive:
                wire.alive = False
                wire.mine.ends.remove(wire)
                delay = self.world.faults.between((0.0, 0.3))
                loop = asyncio.get_running_loop()
                loop.call_later(delay, wire._lost, error, context=wire.mine.context)

    def _lost(self, error: LanewayError) -> None:
        if self.mine.lifetime.alive:
            assert self.mine.neighbours is not None
            self.mine.neighbours.board.lost(self, error)

    def cut(self) -> None:
        """Break."""
        self.close(RuntimeUnavailable(f"the connection to {self.name} broke"))


class ClusterWorld(World):
    """Three fronts, one store."""

    def __init__(self, seed: int, weather: Weather, shape: Shape) -> None:
        super().__init__(seed, weather, shape)
        self.fronts: dict[str, FrontProcess] = {}
        self.members: dict[str, FrontProcess] = {}
        self.zombies: list[FrontProcess] = []
        self.number = 0
        self._healing = 0
        self._doomed: deque[FrontProcess] = deque()

    # -- registry -----------------------------------------------------------------------------

    def view(self) -> View:
        """The members now."""
        return View(self.number, tuple(sorted(front.member for front in self.members.values())), settled=True)

    def _enter(self, front: FrontProcess) -> None:
        self.members[front.name] = front
        self.number += 1

    def _leave(self, front: FrontProcess) -> None:
        if self.members.get(front.name) is front:
            del self.members[front.name]
            self.number += 1

    async def _beat(self, front: FrontProcess) -> None:
        """One front's beats: it learns who is there, or that itself is not any more."""
        assert front.neighbours is not None
        while not front.dropped:
            await asyncio.sleep(_BEAT_S)
            view = self.view()
            await self.faults.pause(0.0, 0.03)
            if front.deaf or front.dropped:
                continue
            if front.member in view.members:
                front.neighbours.saw(view)
            else:
                front.drop()

    # -- life ---------------------------------------------------------------------------------

    async def _start_engine(self) -> None:
        for name in _NAMES:
            await self._start_front(name)

    async def _start_front(self, name: str) -> None:
        while True:
            self.lives += 1
            policy = SessionPolicy(
                ring_events=self.shape.ring_events, ring_bytes=self.shape.ring_bytes,
                budget_bytes=self.shape.budget_bytes, retention_bytes=self.shape.retention_bytes, idle_s=1.0,
                checkpoint_records=self.shape.checkpoint_records, link=LinkPolicy(heartbeat_s=1.0),
            )  # fmt: skip
            front = FrontProcess(
                name, str(self.lives), self.lives, self.disk, self.wall, self.faults, self.history, self.kinds, policy,
                lambda life=self.lives: self._poison(life),
            )  # fmt: skip
            self._enter(front)
            for other in self.fronts.values():
                self._connect_fronts(front, other)
            assert front.neighbours is not None
            front.context.run(front.neighbours.saw, self.view())
            front.lifetime.start(self._beat(front), f"beat {name}")
            try:
                await front.lifetime.start(front.start(), f"start front {name}")
            except (LanewayError, asyncio.CancelledError):
                if not front.lifetime.alive:
                    raise
                self._leave(front)
                await front.kill()
                await self.faults.pause(0.05, 0.2)
                continue
            self.fronts[name] = front
            for other in self.fronts.values():
                if other is not front and not any(end.theirs is other for end in front.ends):
                    self._connect_fronts(front, other)
            return

    def _connect_fronts(self, one: FrontProcess, other: FrontProcess) -> None:
        mine, theirs = Wire(one, other, self), Wire(other, one, self)
        mine.other, theirs.other = theirs, mine
        for wire in (mine, theirs):
            assert wire.mine.neighbours is not None
            wire.mine.context.run(wire.mine.neighbours.board.connected, wire)

    def _poison(self, life: int) -> None:
        front = next((each for each in (*self.members.values(), *self.fronts.values()) if each.life == life), None)
        if front is not None:
            self._doomed.append(front)
            self._poisoned.set()

    async def _crash_when_poisoned(self) -> None:
        while True:
            await self._poisoned.wait()
            await self.faults.pause(0.0, 0.1)
            self._poisoned.clear()
            while self._doomed:
                front = self._doomed.popleft()
                while front.lifetime.alive and self.fronts.get(front.name) is not front:  # noqa: ASYNC110 - a harness
                    await asyncio.sleep(0.05)  # it still starts, or others see to its end
                if front.lifetime.alive:
                    await self._kill(front.name)

    async def crash(self) -> None:
        """kill -9 of one front; it comes back as another life."""
        if self.fronts:
            await self._kill(self.faults.rng.choice(sorted(self.fronts)))

    async def _kill(self, name: str) -> None:
        front = self.fronts.pop(name, None)
        if front is None:
            return
        self._healing += 1
        self.faults.fired["kill -9"] += 1
        await front.kill()
        await self.faults.pause(0.3, 1.0)  # until the registry knows
        self._leave(front)
        await self.faults.pause(0.0, 1.0)
        await self._start_front(name)
        self._healing -= 1

    def processes(self) -> list[Process]:
        """Fronts that serve now."""
        return [self.fronts[name] for name in sorted(self.fronts)]

    async def take_over(self, *, frozen_s: float = 0.0) -> None:
        """A front is taken for dead and goes on: first without knowing, then knowing; then it is a new life."""
        if not self.fronts:
            return
        name = self.faults.rng.choice(sorted(self.fronts))
        zombie = self.fronts.pop(name)
        self._healing += 1
        self.zombies.append(zombie)
        self.faults.fired["takeover"] += 1
        zombie.deaf = True
        self._leave(zombie)
        if self.faults.happens("zombie cut off", 0.5):
            for end in list(zombie.ends):
                end.cut()
        if frozen_s:
            zombie.lifetime.freeze()
            await asyncio.sleep(frozen_s)
            self.faults.fired["zombie woke"] += 1
            zombie.lifetime.thaw()
        await self.faults.pause(0.2, 1.5)
        zombie.drop()
        await self.faults.pause(0.1, 0.5)
        self.zombies.remove(zombie)
        await zombie.kill()
        await self._start_front(name)
        self._healing -= 1

    async def cut_wire(self) -> None:
        """Two fronts lose each other for a moment."""
        wires = [end for front in self.fronts.values() for end in front.ends if end.theirs.name in self.fronts]
        if not wires:
            return
        wire = self.faults.rng.choice(sorted(wires, key=lambda end: (end.mine.name, end.name)))
        self.faults.fired["wire cut"] += 1
        wire.cut()
        self._healing += 1
        await self.faults.pause(0.05, 1.0)
        one, other = (self.fronts.get(front.name) for front in (wire.mine, wire.theirs))
        if one is not None and other is not None and not any(end.theirs is other for end in one.ends):
            self._connect_fronts(one, other)
        self._healing -= 1

    async def live(self) -> Report:
        """As a world, with wires that break."""
        cutting = asyncio.create_task(self._now_and_then(1.0, self.cut_wire))
        try:
            return await super().live()
        finally:
            cutting.cancel()
            await asyncio.gather(cutting, return_exceptions=True)

    # -- clients --------------------------------------------------------------------------------

    async def _connect(self, who: Identity) -> ClientEnd:
        await self.faults.pause(*self.faults.weather.latency_s)
        doors = [self.fronts[name] for name in sorted(self.fronts)] + self.zombies
        if not doors:
            raise Broken(False)
        return self.faults.rng.choice(doors).accept(who.tenant, who.client)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(0.7)
            for front in list(self.fronts.values()):
                await self._in(front, front.directory.sweep(), "sweep")

    async def _in(self, front: FrontProcess, work: Any, name: str) -> None:
        task = front.lifetime.start(work, name)
        await asyncio.wait([task])
        if not task.cancelled() and task.exception() is not None:
            self.history.violations.append(f"{name} of {front.name} raised {task.exception()!r}")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            for front in list(self.fronts.values()):
                self.history.violations += self.unsound(front)

    # -- the end ----------------------------------------------------------------------------------

    def _restless(self) -> list[str]:
        if self._healing or self._disasters or len(self.fronts) < len(_NAMES):
            return [f"{len(self.fronts)} fronts, {self._healing} healing"]
        found = []
        for front in self.fronts.values():
            books, gauges = front.dispatcher.statistics(), front.directory.statistics()
            if books.pending or gauges.pending or gauges.paused or gauges.commit_backlog_bytes:
                found.append(f"pending {books.pending} at {front.name}, {gauges}")
        for client in self.clients:
            where = f"{client.who.client} of {client.who.tenant}/{client.who.session}"
            if not client.settled:
                found.append(f"{where} has {len(client.outbox)} unanswered events")
            named = (client.who.tenant, client.who.session)
            homes = [home for front in self.fronts.values() if (home := front.directory.find(*named)) is not None]
            if len(homes) != 1:
                found.append(f"{where} has {len(homes)} homes")
                continue
            heads = tuple(ring.head for ring in homes[0].outbound.rings)
            if heads != client.inbox.cursor[1:3]:
                found.append(f"{where} is at {client.inbox.cursor}, the session at {heads}")
        return found

    async def _end(self) -> None:
        """Shut down one after the other; what is told of them is one sum."""
        for front in list(self.fronts.values()):
            self.history.violations += self.unsound(front)
            await self._in(front, front.shut_down(), "shut down")
            self._leave(front)
            await asyncio.sleep(3.0)
            books, gauges = front.dispatcher.statistics(), front.directory.statistics()
            left = [name for name in front.lifetime.tasks if not name.startswith("beat ")]
            if left or books.pending or gauges.sessions or gauges.links:
                self.history.violations.append(f"left behind by {front.name}: {left}, {books.pending}, {gauges}")
            await front.kill()


def simulate_cluster(seed: int, weather: Weather, shape: Shape | None = None) -> Report:
    """Run one seed. The report's `violations` are empty if every promise was kept."""

    async def main() -> Report:
        return await ClusterWorld(seed, replace(weather), shape or Shape()).live()

    return run(main())
