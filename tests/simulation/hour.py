"""An hour of virtual time: thousands of sessions that come, speak, go and come back, under light faults.

Law of this file: each session is checked in full when its last visit is over, and forgotten; so memory may
follow the sessions that are there, and nothing may stay of those that were. At the end every gauge is zero.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, NamedTuple

from laneway.actors.sessions.session import session_key
from tests.simulation.client import Identity, SimClient
from tests.simulation.disasters import DISASTERS
from tests.simulation.faults import CALM, Weather
from tests.simulation.history import check
from tests.simulation.ledgers import Ledgers
from tests.simulation.loop import run
from tests.simulation.process import Packing
from tests.simulation.script import script
from tests.simulation.shape import Shape
from tests.simulation.world import World, log_of

__all__ = ["LIGHT", "Day", "Moment", "Plan", "simulate_hour"]

LIGHT: Final = replace(
    CALM, slow_commit=0.0005, lost_commit=0.0002, torn_commit=0.0002, failed_read=0.0001, cut=0.002, stall=0.002,
    blackhole=0.0002, forget=0.01, other_epoch=0.005, posts=0.3, double=0.01, reorder=0.01, mute=0.01,
    wrong_ack=0.0005, wall_jumps=True, crash_every_s=1200.0, pause_every_s=900.0, rush_every_s=600.0,
    slow_every_s=900.0,
)  # fmt: skip
"""What an hour has of faults."""
_SHAPE: Final = Shape(heartbeat_s=20.0, idle_s=20.0, scale=16)
"""About a hundred runs at once: ten thousand people in one second are not for an engine of six."""
_TENANTS: Final = 20
_QUIET_S: Final = 240.0
_WATCH_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How an hour goes.

    Attributes:
        sessions: how many there are. minutes: until the last one comes. visits: of each, the one in the middle
            in the same second for all. events: what it sends at most on each. pace_s: the longest pause between.
    """

    sessions: int = 10_000
    minutes: float = 60.0
    visits: int = 3
    events: int = 3
    pace_s: float = 20.0


class Moment(NamedTuple):
    """One row of an hour's table; blocks are objects that Python has allocated, after a collection."""

    minute: float
    sessions: int
    awake: int
    links: int
    events: int
    blocks: int
    store_bytes: int


@dataclass(slots=True)
class Day:
    """What an hour gave."""

    violations: list[str]
    faults: Counter[str]
    moments: list[Moment]
    sums: Counter[str] = field(default_factory=Counter)
    gauges: dict[str, int] = field(default_factory=dict)


class HourWorld(World):
    """One hour."""

    def __init__(self, seed: int, weather: Weather, plan: Plan) -> None:
        super().__init__(seed, weather, _SHAPE)
        self.ledgers = self.history = Ledgers()
        self.plan = plan
        self.sums: Counter[str] = Counter()
        self.moments: list[Moment] = []
        self._packing = Packing(self.kinds)
        self._began = asyncio.get_running_loop().time()
        self._here: dict[int, SimClient] = {}
        self._base = 0

    def people(self) -> list[SimClient]:
        """Clients that are there."""
        return list(self._here.values())

    async def hour(self) -> Day:
        """From the first start to the last gauge."""
        await self._start_engine()
        self._look()
        helpers = [self._watch(), self._sweep(), self._take_moments()]
        for rate, disaster in DISASTERS:
            if mean_s := getattr(self.faults.weather, rate):
                helpers.append(self._now_and_then(mean_s, partial(disaster, self)))
        tasks = [asyncio.create_task(helper) for helper in helpers]
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self.plan.sessions):
                    group.create_task(self._session(number), name=f"session {number}")
            await asyncio.sleep(max(0.0, self._began + self.plan.minutes * 60 - asyncio.get_running_loop().time()))
            self._calm, self.faults.weather = True, CALM
            await self._quiet()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._look()
        await self._end()
        self.sums["lives"] = self.lives
        return Day(self.history.violations, self.faults.fired, self.moments, self.sums, self._gauges)

    # -- sessions -----------------------------------------------------------------------------

    def _times(self) -> list[float]:
        """When a session's visits begin: each in its share of the time, the middle one when all the others come."""
        rng, visits, whole_s = self.faults.rng, self.plan.visits, self.plan.minutes * 60
        share_s = whole_s / visits
        middle = visits // 2
        return [
            whole_s / 2 + rng.random() if number == middle and visits > 1 else share_s * (number + rng.random() * 0.9)
            for number in range(visits)
        ]

    async def _session(self, number: int) -> None:
        rng = self.faults.rng
        who = Identity(f"t{number % _TENANTS}", f"s{number}", f"c{number}")
        home = (who.tenant, who.session)
        client: SimClient | None = None
        loop = asyncio.get_running_loop()
        times = self._times()
        for at in times:
            await asyncio.sleep(max(0.0, self._began + at - loop.time()))
            plan = rng.randint(1, self.plan.events)
            if client is None:
                client = SimClient(
                    who, connect=self._connect, faults=self.faults, history=self.ledgers.of(home), kinds=self.kinds,
                    plan=plan, pace_s=self.plan.pace_s, grants=rng.random() < 0.9, poison=False,
                    heartbeat_s=self.shape.heartbeat_s,
                )  # fmt: skip
            else:
                client.come_back(plan)
            await self._visit(number, client, last=at == times[-1])
        assert client is not None
        self._close(who, client)

    async def _visit(self, number: int, client: SimClient, *, last: bool) -> None:
        self._here[number] = client
        task = asyncio.create_task(client.run(), name=f"client {number}")
        until = asyncio.get_running_loop().time() + _QUIET_S
        if last:
            client.hurry()
        while client.sending or len(client.outbox) or (last and not self._caught_up(client)):
            if asyncio.get_running_loop().time() > until:
                self.history.violations.append(f"s{number} is not done after {_QUIET_S:g} s: {len(client.outbox)} wait")
                break
            await asyncio.sleep(1.0)
        client.leave()
        _, late = await asyncio.wait([task], timeout=_QUIET_S)
        if late:
            self.history.violations.append(f"the client of s{number} could not leave")
            task.cancel()
        else:
            task.result()
        del self._here[number]

    def _caught_up(self, client: SimClient) -> bool:
        """True once everything this session was asked for is over, and the client has all that was said."""
        home = None if self.engine is None else self.engine.directory.find(client.who.tenant, client.who.session)
        if not client.settled or home is None:
            return False
        gauges, heads = home.statistics(), tuple(ring.head for ring in home.outbound.rings)
        if gauges.pending or gauges.commit_backlog_bytes or client.inbox.cursor[1:3] != heads:
            return False
        ledger = self.ledgers.of((client.who.tenant, client.who.session))
        ended = {(each.life, *each.env[:2]) for each in ledger.ended}  # pending does not count what is volatile
        return all((each.life, *each.env[:2]) in ended for each in ledger.enqueued if each.life == self.lives)

    def _close(self, who: Identity, client: SimClient) -> None:
        """Compare a session's books, add them up, and forget it."""
        home = (who.tenant, who.session)
        history, key = self.ledgers.close(home), session_key(*home)
        history.logs[home] = log_of(self.disk, home, self._packing, asyncio.get_running_loop().time())
        history.store_failed = any(self.faults.fired[name] for name in ("lost commit", "torn commit"))
        history.writers = {key: self.disk.writers.get(key, [])}
        self.history.violations += [f"{who.session}: {text}" for text in check(history, self.kinds)]
        self.sums.update(
            sent=len(history.sent), accepted=sum(1 for sent in history.sent if sent.status),
            handled=sum(1 for ended in history.ended if ended.outcome.status == "handled"),
            numbered=sum(len(stream) for stream in history.logs[home].streams),
            received=sum(len(segment.items) for segment in history.segments), sessions=1,
        )  # fmt: skip
        self.sums.update({f"welcome {name}": count for name, count in history.welcomes.items()})
        self.disk.forget(key)

    # -- watching -----------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_S)
            if self.engine is not None:
                self.history.violations += self.unsound(self.engine)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(5.0)
            if self.engine is not None:
                await self._inside(self.engine.directory.sweep(), "sweep")

    async def _take_moments(self) -> None:
        while True:
            await asyncio.sleep(max(1.0, self.plan.minutes * 5))
            self._look()

    def _look(self) -> None:
        script.cache_clear()
        gc.collect()
        engine = self.engine
        gauges = None if engine is None else engine.directory.statistics()
        self._base = self._base or sys.getallocatedblocks()
        self.moments.append(
            Moment(
                (asyncio.get_running_loop().time() - self._began) / 60, len(self.ledgers),
                gauges.sessions if gauges else 0, gauges.links if gauges else 0, self.ledgers.written,
                sys.getallocatedblocks() - self._base, self.disk.used_bytes,
            )
        )  # fmt: skip

    # -- the end ------------------------------------------------------------------------------

    async def _quiet(self) -> None:
        """Wait until nothing is left of anything."""
        ends = asyncio.get_running_loop().time() + _QUIET_S
        while self._disasters or any(self._gauges.values()):
            if asyncio.get_running_loop().time() > ends:
                break
            await asyncio.sleep(1.0)
        if any(self._gauges.values()):
            self.history.violations.append(f"gauges that are not zero: {self._gauges}")

    @property
    def _gauges(self) -> dict[str, int]:
        """What must be zero when nobody is there."""
        engine = self.engine
        if engine is None:
            return {"no engine": 1}
        sums, books = engine.directory.statistics(), engine.dispatcher.statistics()
        tools = engine.calls.statistics().values()
        return {
            "sessions awake": sums.sessions, "links": sums.links, "events pending": sums.pending,
            "events in the dispatcher": books.pending, "producers waiting for credit": sums.paused,
            "bytes to be written": sums.commit_backlog_bytes, "sessions that cannot write": sums.failing,
            "tool calls": sum(tool.in_flight + tool.waiting for tool in tools),
            "connections": engine.connections, "sessions not over": len(self.ledgers),
        }  # fmt: skip


def simulate_hour(seed: int = 1, weather: Weather = LIGHT, plan: Plan | None = None) -> Day:
    """Run an hour (or what `plan` makes of it); `violations` is empty if every promise was kept."""

    async def main() -> Day:
        return await HourWorld(seed, weather, plan or Plan()).hour()

    return run(main())
