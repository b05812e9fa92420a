"""A front and hosts that come, stall, die and come again: what must hold whatever happens in between."""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace
from typing import Any

import pytest

from laneway.actors.hosts.guests import Guests, HostOptions
from laneway.actors.hosts.switchboard import Switchboard
from laneway.actors.pools.pool import PoolSpec
from laneway.actors.ports import Out
from laneway.engine.app.packing import HostPacking
from laneway.routing.errors import ToolUnavailable
from laneway.routing.lanes import Lane
from tests.actors.conftest import Answers, RecordingContext, RecordingProbe, make_event
from tests.actors.hosts.stage import Front, Taker, host_kinds
from tests.actors.pairs import End, connect
from tests.simulation.hosts import cluster
from tests.simulation.loop import VirtualClock, run

RIG = SimpleNamespace(
    VirtualClock=VirtualClock, Context=RecordingContext, Answers=Answers, Probe=RecordingProbe, event=make_event
)
STEPS = 120
LANES = {"WORK": Lane.NORMAL, "URGENT": Lane.CRITICAL, "IDLE": Lane.LOW}


class Journal:
    """A group commit of 5 ms."""

    async def starting(self, envs: Any) -> None:
        await asyncio.sleep(0.005)


class CheckedTaker(Taker):
    """Everything that is said is in order within its delivery, and never after the answer."""

    def __init__(self, answers: Answers, faults: list[str]) -> None:
        super().__init__()
        self.faults = faults
        self.last: dict[bytes, int] = {}
        self.answers = answers

    async def emit_all(self, envs: list[Any]) -> None:
        for env in envs:
            await super().emit_all([env])
            delivery, _, index = env[11].rpartition(b"/")
            if self.last.get(delivery, 0) + 1 != int(index):
                self.faults.append(f"{env[11]!r} was taken out of order")
            self.last[delivery] = int(index)
            if int(delivery.partition(b"/")[0]) in self.answers.by_counter:
                self.faults.append(f"{env[11]!r} was taken after the answer")


class World:
    """One front, up to three hosts, and what was seen of every event."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.faults: list[str] = []  # an assertion in a handler would only fail its event
        specs = (
            PoolSpec("runs", ["WORK"], self.handle, run_starting=True, remote=True, grace_s=1.0),
            PoolSpec("rest", ["URGENT", "IDLE"], self.handle, keyed="session", remote=True, grace_s=1.0),
        )
        self.front = Front(RIG, *specs, journal=Journal())
        self.front.taker = self.taker = CheckedTaker(self.front.answers, self.faults)
        desk = self.front.cells._desk
        object.__setattr__(desk, "outlet", self.taker)
        object.__setattr__(desk, "packer", self)
        self.packing = HostPacking(host_kinds())
        self.unpack = self.packing.unpack
        self.hosts: dict[str, tuple[End, Guests]] = {}
        self.gone: list[Guests] = []
        self.lives = self.number = 0
        self.offered: dict[int, Any] = {}
        self.begun: dict[int, int] = {}
        self.out: set[int] = set()
        for name in ("runs", "rest"):
            pool = self.front.dispatcher.pool(name)
            pool.lost = self._watched(pool.lost)

    def _watched(self, lost: Any) -> Any:
        def watched(envs: Any) -> None:
            self.out -= {env[1] for env in envs}
            lost(envs)

        return watched

    def pack(self, env: Any, now: float) -> bytes:
        """An event departs: no run for the second time, nothing ahead of older events that wait."""
        if env[0] == "client":
            number = env[1]
            if number in self.out:
                self.faults.append(f"event {number} is with two hosts")
            answered = self.front.answers.by_counter
            older = [
                other
                for other, own in self.offered.items()
                if other < number and (own[4], own[7]) == (env[4], env[7]) and own[8] > now
            ]
            waiting = [other for other in older if other not in answered and other not in self.out]
            if env[2] != "WORK" and waiting:
                self.faults.append(f"event {number} departs before {waiting}")
            self.out.add(number)
        return self.packing.pack(env, now)

    async def handle(self, env: Any, context: Any) -> bytes:
        """Say some things at some pace; some fail, some do not listen."""
        number = env[1]
        life = self.begun[number] = self.begun.get(number, 0) + 1
        if env[2] == "WORK" and life > 1:
            self.faults.append(f"run {number} was begun twice")
        own = random.Random(number)
        count = own.randint(0, 5)
        for index in range(1, count + 1):
            await context.emit(Out("IDLE", b"%d/%d/%d" % (number, life, index)))
            try:
                await asyncio.sleep(own.choice((0, 0, 0.01, 0.3, 2.0)))
            except asyncio.CancelledError:
                if own.random() < 0.8:
                    raise
        if own.random() < 0.1:
            raise ToolUnavailable("now and then")
        return b"%d/%d/%d" % (number, life, count)

    # -- what happens ---------------------------------------------------------------------------

    def raise_host(self) -> None:
        name = self.random.choice("abc")
        self.lives += 1
        clock, kinds = self.front.clock, host_kinds()
        numbers = iter(range(self.lives * 1_000_000, 2**40))
        options = HostOptions(clock, kinds, self.packing, ids=lambda: "call", number=lambda: next(numbers))
        guests, board = Guests(options), Switchboard()
        board.add(guests)
        cells = self.random.randint(1, 2)
        for pool, pool_kinds in (("runs", ["WORK"]), ("rest", ["URGENT", "IDLE"])):
            starting = pool == "runs"
            spec = PoolSpec(
                pool, pool_kinds, self.handle, cells=cells, concurrency=2, run_starting=starting, grace_s=1.0
            )
            guests.add_pool(spec)
        if name in self.hosts:
            self.gone.append(self.hosts[name][1])
        peer = connect(self.front.board, board, "front", name, incarnation=str(self.lives))[0]
        self.hosts[name] = (peer, guests)

    def cut(self) -> None:
        if self.hosts:
            name = self.random.choice(sorted(self.hosts))
            peer, guests = self.hosts.pop(name)
            peer.cut()
            self.gone.append(guests)

    def stall(self) -> None:
        if self.hosts:
            end = self.hosts[self.random.choice(sorted(self.hosts))][0]
            side = self.random.choice((end, end.other))
            side.hold(urgent=self.random.random() < 0.5)

    def let_go(self) -> None:
        for end, _ in self.hosts.values():
            for side in (end, end.other):
                for urgent in (False, True):
                    side.let_go(urgent=urgent)

    def offer(self) -> None:
        for _ in range(self.random.randint(1, 8)):
            number = self.number = self.number + 1
            kind = self.random.choice(sorted(LANES))
            deadline = self.front.clock.now() + self.random.uniform(0.0, 20.0)
            fields: dict[str, Any] = {"deadline": deadline} if self.random.random() < 0.2 else {}
            env = make_event(
                number,
                kind=kind,
                lane=LANES[kind],
                session=self.random.choice("xyz"),
                run=f"r{number}",
                accepted=self.front.clock.now(),
                **fields,
            )
            self.offered[number] = env
            if self.front.dispatcher.offer_batch([env], self.front.answers.all) != [None]:
                del self.offered[number]

    def cancel(self) -> None:
        if self.offered:
            env = self.offered[self.random.choice(sorted(self.offered))]
            self.front.dispatcher.cancel(env[3], env[4], run=env[5])

    def shut(self) -> None:
        self.taker.shut()

    def open(self) -> None:
        self.taker.let_go()

    async def play(self) -> None:
        """Things happen in some order; the books balance after each."""
        steps = [self.offer] * 6 + [self.cancel] * 2 + [self.raise_host] * 2
        steps += [self.cut, self.stall, self.let_go, self.let_go, self.shut, self.open, self.open]
        async with self.front:
            for _ in range(STEPS):
                self.random.choice(steps)()
                self.front.books()
                await asyncio.sleep(self.random.choice((0, 0, 0.001, 0.02, 0.5, 3.0)))
            self.open()
            self.let_go()
            self.raise_host()
            await asyncio.sleep(200)
            self.front.books()
            pending = self.front.dispatcher.statistics().pending
            assert pending == 0, f"{pending} events are not over"
        for _, guests in self.hosts.values():
            self.gone.append(guests)
        for guests in self.gone:
            await guests.drain(self.front.clock.now())
        await asyncio.sleep(50)
        assert sorted(self.front.answers.by_counter) == sorted(self.offered)
        for number, outcome in self.front.answers.by_counter.items():
            if outcome.status == "handled":
                delivery, _, count = outcome.value.rpartition(b"/")
                if self.taker.last.get(delivery, 0) != int(count):
                    self.faults.append(f"event {number} was answered before all it said was taken")
        assert self.faults == []


@pytest.mark.parametrize("seed", range(25))
def test_every_event_ends_once_whatever_happens_to_hosts(seed: int) -> None:
    """No run begins twice, nothing overtakes what waits for another host, what is said keeps its order."""

    async def main() -> None:
        await World(seed).play()

    run(main())


def test_an_event_that_loses_three_hosts_is_a_dead_letter() -> None:
    """It is over when the letter is in the store; an event that came later is none the worse for it."""

    async def main() -> None:
        async with cluster(work="WORK") as made:
            front = await made.front()
            started: list[int] = []

            async def handler(env: Any, context: Any) -> None:
                started.append(env[1])
                if env[1] == 1:
                    await asyncio.sleep(1_000)

            async with front.session("s") as session:
                await session.send_event("WORK", b"poison")
                for name in "abc":
                    host = made.host(name)
                    host.add("work", "WORK", handler)
                    peer, _ = made.join(front, host)
                    await asyncio.sleep(1.0)
                    if name == "c":
                        await session.send_event("WORK", b"fine")
                        await asyncio.sleep(1.0)
                    peer.cut()
                    await asyncio.sleep(1.0)
                assert started == [1, 1, 1, 2]
                assert await front.store.dead("t") == []
                await front.directory.sweep()
                (letter,) = await front.store.dead("t")
                assert (letter.session, letter.code, letter.attempts) == ("s", "POISON", 3)
                assert front.directory.statistics().pending == 0

    run(main())
