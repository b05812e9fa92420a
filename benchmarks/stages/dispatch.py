"""From the session's home to a handler and back: repeats, admission, journal, queues, cell, books.

Law of this file: see `harness`. The dispatcher is the product's, with W1's three pools; where only
one of its parts is asked, that part is fed what the one before it gives.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Final

from benchmarks.stages.harness import ALWAYS, Batches, Stage, Work, in_batches
from benchmarks.workload import KINDS, POOLS, echo, open_config
from laneway import Engine
from laneway.actors.dispatch.accounts import totals
from laneway.actors.dispatch.books import Books, OnDone
from laneway.actors.pools.pool import PoolSpec
from laneway.actors.ports import Outcome, Principal
from laneway.actors.sessions.committer import Committer
from laneway.actors.sessions.ingress import Ingress
from laneway.actors.sessions.intake import Intake
from laneway.engine.app.clock import SystemClock
from laneway.engine.app.packing import LogPacking
from laneway.engine.stores.memory import MemoryStore
from laneway.routing.classify import KindTable
from laneway.routing.dispatch import DispatchCore, PoolRoute, Verdict
from laneway.routing.envelope import COUNTER, Envelope
from laneway.routing.frame import ascending, frame_of
from laneway.routing.placement import rendezvous
from laneway.routing.routes import PoolQueues
from laneway.routing.scheduler import Scheduler

__all__ = ["DISPATCH", "JOURNAL", "OUTCOME", "REFERENCE"]

_CLOCK: Final = SystemClock()
_COUNTER: Final = itemgetter(COUNTER)
_ROOM: Final = 64


def _intakes(*, journals: bool = False) -> dict[str, Intake]:
    packing = LogPacking(KindTable(KINDS))

    def pack(env: Envelope) -> bytes:
        return packing.pack(env, _CLOCK.now())

    return {
        f"s{n}": Intake("t", pack, lambda data: packing.unpack(data, 0.0), 1 << 30, journals=journals) for n in range(8)
    }


async def _dedupe(events: Batches) -> Work:
    intakes, new = _intakes(), 0

    def step(number: int) -> None:
        nonlocal new
        batch = events[number]
        intake = intakes[batch[0][4]]
        if len(batch) == 1:
            new += intake.seen(batch[0]) == "new"
            intake.mark(batch[0])
        else:  # as `stamp.framed` looks at a frame
            counters = list(map(_COUNTER, batch))
            new += len(batch) * (counters[0] > intake.newest(batch[0][0]) and ascending(counters))
            intake.mark_all(batch)

    return Work(step, lambda: new)


async def _journal(events: Batches) -> Work:
    """What a store that dies with its process gets of an event's life: nothing; it is held until it is over."""
    return _living(events, _intakes(journals=False), starts=False)


async def _records(events: Batches) -> Work:
    """The records of an event's life for other stores: accepted, started and ended."""
    return _living(events, _intakes(journals=True), starts=True)


def _living(events: Batches, intakes: dict[str, Intake], *, starts: bool) -> Work:
    held = 0

    def step(number: int) -> None:
        nonlocal held
        batch = events[number]
        intake = intakes[batch[0][4]]
        intake.accepted(batch)
        if starts:
            intake.started(batch)
        held += len(intake.pending)
        intake.ended(batch)

    return Work(step, lambda: held)


class _Door:
    """A dispatcher that takes everything and does nothing, and the speaker that brings it."""

    client, principal = "bench", Principal("bench", "t")
    origin: Mapping[str, str] = {}

    def __init__(self) -> None:
        self.queued = self.answers = 0

    def introduce(self, tenant: str, session: str, producer: str, subject: str) -> None:
        """Nobody has a quota."""

    def admit_batch(self, envs: Sequence[Envelope]) -> list[Verdict]:
        return list(envs)

    def enqueue_batch(self, envs: Sequence[Envelope], on_done: OnDone | None = None) -> None:
        self.queued += len(envs)

    def release(self, env: Envelope) -> None:
        raise AssertionError("nothing is given back")

    def forget(self, tenant: str, session: str) -> bool:
        raise AssertionError("nobody leaves")

    def cancel(
        self, tenant: str, session: str, run: str = "", event_id: str = "", reason: str = "", *, remember: bool = True
    ) -> int:
        raise AssertionError("nothing is cancelled")

    def tell(self, **fields: object) -> None:
        answers = fields["ok"]
        assert isinstance(answers, list)
        self.answers += sum(count for _, count, _ in answers)


async def _ingress(events: Batches) -> Work:
    """The product's own loop: repeats, record, commit to memory, OK; the dispatcher does nothing."""
    door, store, packing = _Door(), MemoryStore(max_bytes=1 << 30), LogPacking(KindTable(KINDS))
    await store.open()
    committer = Committer(store, await store.claim("t/session/s"), clock=_CLOCK, on_fenced=_raise)
    ingress = Ingress(
        "t",
        "s",
        intake=Intake(
            "t", lambda env: packing.pack(env, _CLOCK.now()), lambda data: packing.unpack(data, 0.0), journals=False
        ),
        committer=committer,
        dispatcher=door,
        kinds=KindTable(KINDS),
        clock=_CLOCK,
        durable=False,
        fail_run=lambda run, outcome: None,
        remember=lambda envs: None,
        answer_to=lambda client: None,
        observe=lambda direction, envs: None,
    )
    numbered = iter(range(1, 1 << 30))
    own = [[(env[0], next(numbered), *env[2:]) for env in batch] for batch in events]

    async def step(number: int) -> None:
        ingress.take(door, own[number])
        await committer.flush()

    async def close() -> None:
        await committer.close()
        await store.close()

    return Work(step, lambda: min(door.queued, door.answers), close)


async def _engine() -> Engine:
    engine = Engine(open_config(), kinds=KINDS)
    await engine.start()
    for pool, kinds in POOLS.items():
        engine.dispatcher.add_pool(PoolSpec(pool, kinds, echo, concurrency=_ROOM))
    return engine


async def _admit(events: Batches) -> Work:
    """What the session's home has stamped: frames, if they are of several events."""
    engine, stamped = await _engine(), [frame_of(batch) or batch for batch in events]

    def step(number: int) -> None:
        engine.dispatcher.admit_batch(stamped[number])

    return Work(step, lambda: engine.dispatcher.statistics().reserved, engine.close)


def _taken_in(engine: Engine, envs: list[Envelope]) -> list[Envelope]:
    answers = engine.dispatcher.admit_batch(envs)
    return envs if answers is envs else [answer for answer in answers if isinstance(answer, tuple)]


async def _enqueue(events: Batches) -> Work:
    engine = await _engine()
    admitted = [_taken_in(engine, frame_of(batch) or batch) for batch in events]

    def step(number: int) -> None:
        engine.dispatcher.enqueue_batch(admitted[number])

    return Work(step, lambda: engine.dispatcher.statistics().accepted, engine.close)


async def _dispatcher(events: Batches) -> Work:
    """The product's own loop: offered, queued, pumped, handled, booked."""
    engine, ends = await _engine(), list(itertools.accumulate(map(len, events)))
    handled, news = 0, asyncio.Event()

    def over(ended: Sequence[tuple[Envelope, Outcome]]) -> None:
        nonlocal handled
        handled += sum(outcome.status == "handled" for _, outcome in ended)
        news.set()

    async def step(number: int) -> None:
        engine.dispatcher.offer_batch(events[number], over)
        while handled < ends[number]:
            news.clear()
            await news.wait()

    return Work(step, lambda: handled, engine.close)


def _core() -> DispatchCore:
    core = DispatchCore(KindTable(KINDS), open_config().dispatch_policy())
    core.add_pool(PoolRoute("w", [kind.name for kind in KINDS]))
    return core


async def _take(events: Batches) -> Work:
    """All that waits fits: nothing is chosen."""
    schedulers, taken, now = [Scheduler() for _ in events], 0, time.monotonic()
    for scheduler, batch in zip(schedulers, events, strict=True):
        for env in batch:
            scheduler.push(env)

    def step(number: int) -> None:
        nonlocal taken
        taken += len(schedulers[number].take(len(events[number]), now))

    return Work(step, lambda: taken)


async def _take_fair(events: Batches) -> Work:
    """More waits than fits: lanes, tenants and sessions take turns for every event."""
    core, taken, now, room = _core(), 0, time.monotonic(), len(events[0])
    core.offer(list(itertools.chain.from_iterable(events)), now)

    def step(number: int) -> None:
        nonlocal taken
        taken += len(core.take("w", room, now))

    return Work(step, lambda: taken)


async def _place(events: Batches) -> Work:
    """A keyed pool of eight cells; the keys are known."""
    queues = PoolQueues(PoolRoute("w", ("W_TEXT",), keyed="session"), Scheduler)
    queues.members([f"w/{number}" for number in range(8)])
    placed = 0

    def step(number: int) -> None:
        nonlocal placed
        for env in events[number]:
            placed += queues.place(env) is not None

    return Work(step, lambda: placed)


async def _place_new(events: Batches) -> Work:
    """As above, every key new."""
    cells, placed = [f"w/{number}" for number in range(8)], 0

    def step(number: int) -> None:
        nonlocal placed
        for env in events[number]:
            placed += rendezvous(f"{env[4]}:{env[1]}", cells) in cells

    return Work(step, lambda: placed)


async def _outcome(events: Batches) -> Work:
    """An event is over: caps freed, books closed, whoever waits is told."""
    core, books, now, told = _core(), Books(_raise), time.monotonic(), 0
    outcome = Outcome("handled")

    def over(ended: Sequence[tuple[Envelope, Outcome]]) -> None:
        nonlocal told
        told += len(ended)

    every = list(itertools.chain.from_iterable(events))
    core.offer(every, now)
    books.enter(every, over)
    taken = list(in_batches(core.take("w", len(every), now), len(events[0])))

    def step(number: int) -> None:
        core.done(taken[number])
        books.close([(env, outcome) for env in taken[number]], now)

    return Work(step, lambda: min(core.statistics().done, totals(books)["handled"], told))


def _raise(error: Exception) -> None:
    raise error


async def _reference(events: Batches) -> Work:
    """Nothing of laneway: a tuple built, read and kept. What it costs tells runs and machines apart."""
    kept: dict[int, tuple[object, ...]] = {}

    def step(number: int) -> None:
        for env in events[number]:
            row = (*env[:11], env[11], env[12])
            kept[len(kept)] = row[:4] if row[7] else row[4:]

    return Work(step, lambda: len(kept))


REFERENCE: Final = (Stage("reference: a tuple", "machine", _reference),)
JOURNAL: Final = (
    Stage("dedupe", "home in", _dedupe, ALWAYS),
    Stage("held until over", "home in", _journal, ALWAYS),
    Stage("journal records", "home in", _records),
    Stage("ingress, whole", "home in", _ingress),
)
DISPATCH: Final = (
    Stage("admit: classify, rate, quota", "dispatcher", _admit, ALWAYS),
    Stage("enqueue: books, lane", "dispatcher", _enqueue, ALWAYS),
    Stage("take, nothing to choose", "dispatcher", _take, ALWAYS),
    Stage("take, fair queue forced", "dispatcher", _take_fair),
    Stage("place by key, known", "dispatcher", _place),
    Stage("place by key, new", "dispatcher", _place_new, batches=(64,)),
)
OUTCOME: Final = (
    Stage("outcome, books", "dispatcher", _outcome, ALWAYS),
    Stage("dispatcher, whole", "dispatcher", _dispatcher),
)
