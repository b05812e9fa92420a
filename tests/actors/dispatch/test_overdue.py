"""Deadlines at dequeue: on every path an event past its deadline ends without its handler."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from laneway.actors.dispatch.dispatcher import Dispatcher
from laneway.actors.pools.cell import Cell
from laneway.actors.pools.context import Surroundings
from laneway.actors.pools.pool import PoolSpec
from laneway.actors.ports import Context
from laneway.routing.classify import IN, Kind, KindTable
from laneway.routing.codel import CodelPolicy
from laneway.routing.dispatch import DispatchCore, DispatchPolicy
from laneway.routing.envelope import BODY, COUNTER, Envelope
from laneway.routing.lanes import Lane


class _Engine:
    """A dispatcher with one pool whose handler takes 1 s and writes down what it was given."""

    def __init__(self, rig: Any, *, kind: str = "WORK", policy: DispatchPolicy | None = None, **spec: Any) -> None:
        self.rig, self.kind = rig, kind
        kinds = KindTable([Kind("WORK", Lane.NORMAL, direction=IN), Kind("IDLE", Lane.LOW, direction=IN)])
        self.clock, self.answers, self.handled = (
            rig.VirtualClock(asyncio.get_running_loop()),
            rig.Answers(),
            list[int](),
        )
        self.bodies: list[int] = []
        outlet = SimpleNamespace()
        around = Surroundings(outlet, self.clock, kinds, lambda: "call")
        self.dispatcher = Dispatcher(DispatchCore(kinds, policy), around)
        spec = {"concurrency": 1, **spec}
        self.pool = self.dispatcher.add_pool(PoolSpec("p", [kind], self.handle, **spec))

    async def handle(self, env: Envelope, context: Context) -> None:
        self.handled.append(env[COUNTER])
        self.bodies.append(len(env[BODY]))
        await asyncio.sleep(1)

    def offer(self, counter: int, within_s: float | None = None, **fields: Any) -> None:
        if within_s is not None:
            fields["deadline"] = self.clock.now() + within_s
        event = self.rig.event(counter, kind=self.kind, accepted=self.clock.now(), **fields)
        assert self.dispatcher.offer_batch([event], self.answers.all) == [None]

    def balanced(self) -> Any:
        books = self.dispatcher.statistics()
        ended = books.handled + books.expired + books.dropped + books.cancelled + books.failed + books.dead
        assert books.accepted == ended + books.pending
        assert books.core.pending == books.pending
        return books

    async def __aenter__(self) -> _Engine:
        await self.dispatcher.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.dispatcher.close()


def test_deadline_at_dequeue_in_a_pool_of_this_process(rig: Any) -> None:
    """In the queue and in the mailbox alike: 2 to 9 are too late behind a handler of 1 s, 10 is not."""

    async def main() -> None:
        async with _Engine(rig) as engine:
            engine.offer(1)
            for counter in range(2, 10):
                engine.offer(counter, within_s=0.5)
            engine.offer(10, within_s=5.0)
            await asyncio.sleep(3)
            assert engine.handled == [1, 10]
            assert engine.balanced().expired == 8
            assert engine.answers[2].code == "DEADLINE_EXCEEDED"

    rig.run(main())


@pytest.mark.parametrize("streams_input", [False, True])
def test_deadline_at_dequeue_of_an_event_in_parts(rig: Any, streams_input: bool) -> None:
    """A large text whose deadline passes before its parts are taken ends once; the one behind it is whole."""

    async def main() -> None:
        async with _Engine(rig, kind="USER_MESSAGE", streams_input=streams_input) as engine:
            engine.offer(1, body=b"x")
            engine.offer(2, within_s=0.5, body=b"word " * 20_000)
            engine.offer(3, body=b"y" * 20_000)
            await asyncio.sleep(20)
            assert 2 not in engine.handled
            assert engine.answers.status() == {1: "handled", 2: "expired", 3: "handled"}
            assert sum(engine.bodies) == 20_001
            assert (engine.balanced().expired, engine.balanced().pending) == (1, 0)

    rig.run(main())


def test_deadline_at_dequeue_in_a_keyed_pool(rig: Any) -> None:
    """Each cell's queue by itself: the late ones of both keys end, the others are handled in order."""

    async def main() -> None:
        async with _Engine(rig, cells=2, keyed="session") as engine:
            for base, session in ((0, "s"), (100, "r")):
                engine.offer(base + 1, session=session)
                for number in range(2, 8):
                    engine.offer(base + number, within_s=0.5, session=session)
                engine.offer(base + 8, session=session)
            await asyncio.sleep(10)
            assert sorted(engine.handled) == [1, 8, 101, 108]
            assert engine.balanced().expired == 12

    rig.run(main())


def test_deadline_at_dequeue_for_cells_elsewhere(rig: Any) -> None:
    """What waits while no cell is there ends at its deadline, within 0.1 s; a cell that comes gets only the rest."""

    async def main() -> None:
        async with _Engine(rig, remote=True) as engine:
            for counter in range(1, 5):
                engine.offer(counter, within_s=0.5)
            engine.offer(5)
            await asyncio.sleep(0.7)
            assert set(engine.answers.status()) == {1, 2, 3, 4}
            assert engine.balanced().expired == 4
            cell = Cell(
                "elsewhere",
                engine.handle,
                concurrency=1,
                clock=engine.clock,
                make_context=rig.Context,
                on_done=engine.pool.answer,
            )
            engine.pool.join(cell)
            await asyncio.sleep(2)
            assert engine.handled == [5]
            await cell.close(0.0)

    rig.run(main())


def test_low_events_that_keep_waiting_are_dropped_and_their_producer_is_told(rig: Any) -> None:
    """CoDel ends them with a typed outcome, retryable after the interval; the books stay balanced."""

    async def main() -> None:
        policy = DispatchPolicy(codel=CodelPolicy(target_s=0.5, interval_s=2.0))
        async with _Engine(rig, kind="IDLE", policy=policy) as engine:
            for counter in range(1, 60):
                engine.offer(counter, lane=Lane.LOW)
            await asyncio.sleep(60)
            books = engine.balanced()
            assert books.dropped > 5
            assert (books.pending, books.handled + books.dropped) == (0, 59)
            outcome = next(outcome for outcome in engine.answers.by_counter.values() if outcome.status == "dropped")
            assert (outcome.code, outcome.retryable, outcome.retry_after_ms) == ("OVERLOADED", True, 2000)

    rig.run(main())
