"""A whole world in virtual time: engine processes that live and die, clients, weather, and the truth.

Law of this file: one seed, one run. After the storm the weather calms down, everything must come to
rest, and then the books are compared.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from laneway.actors.sessions.intake import INBOUND, Intake
from laneway.actors.sessions.session import SessionPolicy, session_key
from laneway.routing.errors import LanewayError
from laneway.routing.handshake import LinkPolicy
from tests.simulation.client import Identity, SimClient
from tests.simulation.clocks import WallClock
from tests.simulation.conservation import unbalanced
from tests.simulation.disasters import DISASTERS
from tests.simulation.disk import Archive, Marks
from tests.simulation.faults import CALM, Faults, Weather
from tests.simulation.history import DATA, URGENT, History, Log, check
from tests.simulation.loop import VirtualClock, run
from tests.simulation.network import Broken, End
from tests.simulation.process import Packing, Process, kind_table
from tests.simulation.shape import Shape

__all__ = ["Report", "World", "log_of", "simulate"]

_STORM_S: Final = 30.0
_REST_S: Final = 120.0
_CROWD: Final = 100
"""So many events in one engine are more than its handlers can do in the next seconds."""
_BACKLOG_BYTES: Final = 1_048_576
"""What may wait to be written, for each session."""


@dataclass(slots=True)
class Report:
    """What one seed gave."""

    seed: int
    violations: list[str]
    faults: Counter[str]
    sent: int = 0
    accepted: int = 0
    handled: int = 0
    issued: int = 0
    given: int = 0
    lives: int = 0
    virtual_s: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    fingerprint: int = 0


class World:
    """One seed's world."""

    def __init__(self, seed: int, weather: Weather, shape: Shape) -> None:
        self.faults = Faults(seed, weather)
        self.history = History()
        self.shape = shape
        self.kinds = kind_table()
        self.wall = WallClock(asyncio.get_running_loop(), self.faults)
        self.disk = Archive(f"epoch-{seed}", self.wall.now)
        self.engine: Process | None = None
        self.lives = 0
        self.clients: list[SimClient] = []
        self._poisoned = asyncio.Event()
        self._calm = self._at_rest = False
        self._disasters = 0
        self._zombies: list[Process] = []

    # -- life ---------------------------------------------------------------------------------

    async def live(self) -> Report:
        """From the first start to the comparison of the books."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._make_clients()
        await self._start_engine()
        helpers = [self._watch(), self._crash_when_poisoned(), self._sweep()]
        for rate, disaster in DISASTERS:
            if mean_s := getattr(self.faults.weather, rate):
                helpers.append(self._now_and_then(mean_s, partial(disaster, self)))
        tasks = [asyncio.create_task(helper) for helper in helpers]
        people = [asyncio.create_task(client.run(), name=client.who.client) for client in self.clients]
        try:
            await self._storm(tasks, people)
            await self._rest()
            await self._farewell(people)
            self._at_rest = True
        finally:
            for task in (*tasks, *people):
                task.cancel()
            await asyncio.gather(*tasks, *people, return_exceptions=True)
            if self.engine is not None and not self._at_rest:
                await self.engine.kill()
        await self._end()
        await self._read_disk()
        return self._report(loop.time() - began)

    def _make_clients(self) -> None:
        rng = self.faults.rng
        for tenant in range(self.shape.tenants):
            for session in range(self.shape.sessions):
                for number in range(self.shape.clients):
                    self.clients.append(
                        SimClient(
                            # the same names in every tenant: nothing but the tenant tells them apart
                            Identity(f"t{tenant}", f"s{session}", f"c{number}"),
                            connect=self._connect,
                            faults=self.faults,
                            history=self.history,
                            kinds=self.kinds,
                            plan=rng.randint(self.shape.events // 2, self.shape.events),
                            pace_s=self.shape.pace_s,
                            grants=rng.random() < 0.85,
                            poison=self.faults.weather.crash_every_s > 0,
                        )
                    )

    async def _connect(self, who: Identity) -> End:
        await self.faults.pause(*self.faults.weather.latency_s)
        if self.engine is None:
            raise Broken(False)
        return self.engine.accept(who.tenant, who.client)

    async def _start_engine(self) -> None:
        while True:
            self.lives += 1
            policy = SessionPolicy(
                ring_events=self.shape.ring_events,
                ring_bytes=self.shape.ring_bytes,
                budget_bytes=self.shape.budget_bytes,
                retention_bytes=self.shape.retention_bytes,
                idle_s=self.shape.idle_s,
                checkpoint_records=self.shape.checkpoint_records,
                link=LinkPolicy(heartbeat_s=self.shape.heartbeat_s),
            )
            engine = Process(
                self.lives, self.disk, self.wall, self.faults, self.history, self.kinds, policy, self._poisoned.set,
                scale=self.shape.scale,
            )  # fmt: skip
            engine.echo_s = self.shape.echo_s
            try:
                await engine.lifetime.start(engine.start(), f"start engine {self.lives}")
            except LanewayError as error:
                self.faults.fired[f"start failed {error.code}"] += 1
                await engine.kill()
                continue
            self.engine = engine
            return

    async def crash(self) -> None:
        """kill -9, and after a moment a new process."""
        engine, self.engine = self.engine, None
        if engine is None:
            return
        self.faults.fired["kill -9"] += 1
        await engine.kill()
        await self.faults.pause(0.05, 0.5)
        await self._start_engine()

    async def take_over(self, *, frozen_s: float = 0.0) -> None:
        """A new process starts although the old one is there: it goes on for a while, or stood still first."""
        zombie, self.engine = self.engine, None
        if zombie is None:
            return
        self.faults.fired["takeover"] += 1
        self._zombies.append(zombie)
        try:
            if frozen_s:
                zombie.lifetime.freeze()
            await self._start_engine()
            if frozen_s:
                await asyncio.sleep(frozen_s)
                self.faults.fired["zombie woke"] += 1
                zombie.lifetime.thaw()
            await self.faults.pause(0.2, 1.5)
        finally:
            self._zombies.remove(zombie)
            await zombie.kill()

    async def lose_power(self, marks: Marks, since_s: float) -> None:
        """All processes die, what was written after `marks` is lost, and the logs begin new epochs."""
        engine, self.engine = self.engine, None
        if engine is None:
            return
        self.faults.fired["power lost"] += 1
        for process in (engine, *self._zombies):
            await process.kill()
        now = asyncio.get_running_loop().time()
        for client in self.clients:
            home = (client.who.tenant, client.who.session)
            log = log_of(self.disk, home, Packing(self.kinds), now)
            self.history.past[home, log.epoch] = replace(log, unfinished=[])
        self.history.blackouts.append((since_s, now))
        self.disk = await self.disk.after_power_loss(marks, f"{self.disk.epoch}'")
        await self.faults.pause(0.05, 0.5)
        await self._start_engine()

    def processes(self) -> list[Process]:
        """Engine processes that serve now."""
        return [] if self.engine is None else [self.engine]

    def people(self) -> list[SimClient]:
        """All clients."""
        return self.clients

    async def _now_and_then(self, mean_s: float, disaster: Callable[[], Awaitable[None]]) -> None:
        while not self._calm:
            await asyncio.sleep(self.faults.rng.expovariate(1 / mean_s))
            if not self._calm:
                self._disasters += 1
                await disaster()
                self._disasters -= 1

    async def _crash_when_poisoned(self) -> None:
        while True:
            await self._poisoned.wait()
            await self.faults.pause(0.0, 0.1)
            while self.engine is None:  # noqa: ASYNC110 - a harness; it still starts
                await asyncio.sleep(0.05)
            self._poisoned.clear()
            await self.crash()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(0.7)
            if self.engine is not None:
                await self._inside(self.engine.directory.sweep(), "sweep")

    async def _inside(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Let the engine do something; a crash in between ends it."""
        assert self.engine is not None
        task = self.engine.lifetime.start(work, name)
        await asyncio.wait([task])
        if not task.cancelled() and task.exception() is not None:
            self.history.violations.append(f"{name} raised {task.exception()!r}")

    # -- watching -----------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            if self.engine is not None:
                self.history.violations += self.unsound(self.engine)
                if self.engine.dispatcher.statistics().pending > _CROWD:
                    self.faults.fired["overload"] += 1

    def unsound(self, engine: Process) -> list[str]:
        """Return what does not hold although it must hold at every moment."""
        found = unbalanced(engine.dispatcher, engine.directory)
        for home in engine.directory.homes():
            found += (
                f"a ring holds {ring.bytes} bytes, {engine.policy.ring_bytes} is the most"
                for ring in home.outbound.rings
                if len(ring) > 1 and ring.bytes > engine.policy.ring_bytes
            )
        gauges = engine.directory.statistics()
        if gauges.commit_backlog_bytes > _BACKLOG_BYTES * gauges.sessions:
            found.append(f"{gauges.commit_backlog_bytes} bytes wait to be written in {gauges.sessions} sessions")
        return found[:1]

    # -- the end ------------------------------------------------------------------------------

    async def _storm(self, tasks: list[asyncio.Task[None]], people: list[asyncio.Task[None]]) -> None:
        """Until everybody has said everything."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + _STORM_S
        while any(client.sending for client in self.clients) and loop.time() < ends:
            await asyncio.sleep(0.1)
            for task in (*tasks, *people):
                if task.done():
                    task.result()
        await asyncio.sleep(self.faults.rng.uniform(0, 1))

    async def _rest(self) -> None:
        """Calm down, and wait until nothing moves any more."""
        self._calm = True
        self.faults.weather = CALM
        for client in self.clients:
            client.hurry()
        loop = asyncio.get_running_loop()
        ends = loop.time() + _REST_S
        restless = ["not looked yet"]
        while restless and loop.time() < ends:
            await asyncio.sleep(0.5)
            restless = self._restless()
        if restless:
            self.history.violations.append(f"did not come to rest: {'; '.join(restless[:6])}")

    def _restless(self) -> list[str]:
        engine = self.engine
        if engine is None or self._disasters:
            return ["no engine" if engine is None else "a disaster is under way"]
        found = []
        books, gauges = engine.dispatcher.statistics(), engine.directory.statistics()
        if books.pending or gauges.pending or gauges.paused or gauges.commit_backlog_bytes:
            found.append(f"pending {books.pending} in the dispatcher, {gauges}")
        for client in self.clients:
            where = f"{client.who.client} of {client.who.tenant}/{client.who.session}"
            if not client.settled:
                found.append(f"{where} has {len(client.outbox)} unanswered events")
            home = engine.directory.find(client.who.tenant, client.who.session)
            if home is None:
                found.append(f"{where} has no home")
                continue
            heads = tuple(ring.head for ring in home.outbound.rings)
            if heads != client.inbox.cursor[1:3]:
                found.append(f"{where} is at {client.inbox.cursor}, the session at {heads}")
        return found

    async def _farewell(self, people: list[asyncio.Task[None]]) -> None:
        for client in self.clients:
            client.leave()
        done, late = await asyncio.wait(people, timeout=20.0)
        if late:
            self.history.violations.append(f"{len(late)} clients could not leave")
        for task in people:
            if task in done:
                task.result()

    async def _end(self) -> None:
        """Shut down in good order; nothing may be left."""
        engine = self.engine
        if engine is None:
            self.history.violations.append("there is no engine at the end")
            return
        self.history.violations += self.unsound(engine)
        await self._inside(engine.shut_down(), "shut down")
        await asyncio.sleep(3.0)  # a handler that ignores every cancel ends by itself within two
        left = engine.lifetime.tasks
        books, gauges = engine.dispatcher.statistics(), engine.directory.statistics()
        if left or books.pending or gauges.sessions or gauges.links:
            self.history.violations.append(f"left behind: tasks {left}, {books.pending} events, {gauges}")
        await engine.kill()

    async def _read_disk(self) -> None:
        """Take down what the disk holds: logs, journals and dead letters."""
        now = VirtualClock(asyncio.get_running_loop()).now()
        packing = Packing(self.kinds)
        for client in self.clients:
            home = (client.who.tenant, client.who.session)
            if home in self.history.logs:
                continue
            self.history.logs[home] = log_of(self.disk, home, packing, now)
        self.history.store_failed = any(self.faults.fired[name] for name in ("lost commit", "torn commit", "disk full"))
        self.history.writers = self.disk.writers
        for letter in await self.disk.dead(limit=10_000):
            env = packing.unpack(letter.packed, now)
            self.history.buried.add((letter.tenant, letter.session, f"{env[0]}:{env[1]}"))
            self.faults.fired["dead letter"] += 1

    def _report(self, virtual_s: float) -> Report:
        history = self.history
        report = Report(self.faults.seed, check(history, self.kinds), self.faults.fired, lives=self.lives)
        report.sent = len(history.sent)
        report.accepted = sum(1 for sent in history.sent if sent.status)
        report.handled = sum(1 for ended in history.ended if ended.outcome.status == "handled")
        report.issued = sum(len(stream) for log in history.logs.values() for stream in log.streams)
        report.given = sum(len(segment.items) for segment in history.segments)
        report.virtual_s = virtual_s
        report.outcomes.update(f"event {ended.outcome.status}" for ended in history.ended)
        for name, counts in (
            ("welcome", history.welcomes), ("refused", history.refusals), ("notice", history.notices),
            ("closed", history.ends),
        ):  # fmt: skip
            report.outcomes.update({f"{name} {key}": count for key, count in counts.items()})
        voided = sum(segment.voided for segment in history.segments)
        gaps = sum(1 for segment in history.segments for each in segment.items if each.gap is not None)
        paused = sum(log.paused for log in history.logs.values())
        report.outcomes.update({"voided items": voided, "gaps": gaps, "runs PAUSED": paused})
        report.fingerprint = hash(
            tuple((each.first, each.last, len(each.envelope[11])) for s in history.segments for each in s.items)
        )
        return report


def log_of(disk: Archive, home: tuple[str, str], packing: Packing, now: float) -> Log:
    """Return what the disk holds of a session, and ever held."""
    kept = disk.kept.get(session_key(*home), {})
    urgent, data = (
        [(entry.seq, entry.position, packing.unpack(entry.blob, now)) for entry in kept.get(stream, ())]
        for stream in (URGENT, DATA)
    )
    intake = Intake(home[0], lambda env: packing.pack(env, now), lambda blob: packing.unpack(blob, now))
    intake.restore(kept.get(INBOUND, ()))
    unfinished = [f"{producer}:{counter}" for producer, counter in intake.pending]
    return Log(disk.epoch, (urgent, data), unfinished)


def simulate(seed: int, weather: Weather, shape: Shape | None = None) -> Report:
    """Run one seed. The report's `violations` are empty if every promise was kept."""

    async def main() -> Report:
        return await World(seed, weather, shape or Shape()).live()

    return run(main())
