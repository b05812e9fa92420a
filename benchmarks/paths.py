"""The same events through laneway, layer by layer, so that a cost can be told from its reason.

- core: the pure decisions alone (admission, lanes, fairness, books); no loop, no handler.
- dispatcher: with pumps, cells and handlers; what an in-process event costs without a session.
- engine, frames: with sessions, as an edge brings events: duplicate check, journal, OK for each;
  results numbered, logged, under credit, on a link that could be resumed.
- engine, calls: the same, one `await session.send_event(...)` per event.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from benchmarks.link import SessionLink
from benchmarks.measure import Stage, Stopwatch
from benchmarks.workload import IN_FLIGHT, KINDS, POOLS, SESSIONS, Job, echo, envelopes, open_config
from laneway import Context, Engine, EnvelopeView, Out
from laneway.actors.pool import PoolSpec
from laneway.actors.ports import Outcome
from laneway.engine.app.embedded import EmbeddedSession
from laneway.routing.classify import KindTable
from laneway.routing.dispatch import Admitted, DispatchCore, PoolRoute
from laneway.routing.envelope import Envelope

__all__ = ["calls_path", "core_path", "dispatcher_path", "frames_path"]

_CONCURRENCY: Final = 64
_FRAME_EVENTS: Final = 64


def core_path(work: list[Job]) -> Stage:
    """DispatchCore alone."""

    async def stage(watch: Stopwatch) -> int:
        core = DispatchCore(KindTable(KINDS), open_config().dispatch_policy())
        for pool, kinds in POOLS.items():
            core.add_pool(PoolRoute(pool, kinds))
        events = envelopes(work)
        with watch:
            done = sum(
                _round(core, events[at : at + IN_FLIGHT], time.monotonic()) for at in range(0, len(events), IN_FLIGHT)
            )
        books = core.statistics()
        assert (books.admitted, books.done, books.pending) == (len(work), done, 0)
        return done

    return stage


def _round(core: DispatchCore, events: list[Envelope], now: float) -> int:
    for env in events:
        if not isinstance(core.offer(env, now), Admitted):
            return 0
    done = 0
    for pool in POOLS:
        while taken := core.take(pool, _CONCURRENCY, now):
            for env in taken:
                core.done(env, now)
            done += len(taken)
    return done


def dispatcher_path(work: list[Job]) -> Stage:
    """Dispatcher, pumps, cells and handlers; no session."""

    async def stage(watch: Stopwatch) -> int:
        async with Engine(open_config(), kinds=KINDS) as engine:
            dispatcher, events, room = engine.dispatcher, envelopes(work), asyncio.Semaphore(IN_FLIGHT)
            for pool, kinds in POOLS.items():
                dispatcher.add_pool(PoolSpec(pool, kinds, echo, concurrency=_CONCURRENCY))
            handled = 0

            def over(env: Envelope, outcome: Outcome) -> None:
                nonlocal handled
                handled += outcome.status == "handled" and len(outcome.value) == len(env[11])
                room.release()

            with watch:
                for env in events:
                    await room.acquire()
                    refusal = dispatcher.offer(env, over)
                    assert refusal is None, refusal
                for _ in range(IN_FLIGHT):
                    await room.acquire()
            return handled

    return stage


@asynccontextmanager
async def _serving() -> AsyncIterator[Engine]:
    async with Engine(open_config(), kinds=KINDS) as engine:
        for pool, kinds in POOLS.items():
            engine.pool(pool, kinds, _answer, concurrency=_CONCURRENCY)
        yield engine


async def _answer(event: EnvelopeView, context: Context) -> Out:
    return Out("CUSTOM", event.body)


def frames_path(work: list[Job]) -> Stage:
    """Sessions, fed in frames of 64 events as an edge feeds them."""

    async def stage(watch: Stopwatch) -> int:
        async with _serving() as engine:
            links = [await SessionLink.open(engine, f"s{number}") for number in range(SESSIONS)]
            shares = [work[number::SESSIONS] for number in range(SESSIONS)]
            with watch:
                returned = await asyncio.gather(
                    *(_feed(link, share) for link, share in zip(links, shares, strict=True))
                )
            for link in links:
                assert not link.refused, link.refused[0]
                await link.close()
            return sum(returned)

    return stage


async def _feed(link: SessionLink, share: list[Job]) -> int:
    window = IN_FLIGHT // SESSIONS
    sent = returned = 0
    while returned < len(share):
        batch = share[sent : min(sent + _FRAME_EVENTS, returned + window)]
        if batch:
            await link.send(batch)
            sent += len(batch)
        if sent - returned >= window or sent == len(share):
            returned += len(await link.receive())
    return returned


def calls_path(work: list[Job]) -> Stage:
    """Sessions, one `send_event` per event."""

    async def stage(watch: Stopwatch) -> int:
        async with _serving() as engine:
            shares = [work[number::SESSIONS] for number in range(SESSIONS)]
            with watch:
                returned = await asyncio.gather(
                    *(_talk(engine.session(f"s{number}"), share) for number, share in enumerate(shares))
                )
            return sum(returned)

    return stage


async def _talk(session: EmbeddedSession, share: list[Job]) -> int:
    window = asyncio.Semaphore(IN_FLIGHT // SESSIONS)
    left = iter(share)

    async def sender() -> None:
        for job in left:
            await window.acquire()
            await session.send_event(job.kind, job.body)

    returned = 0
    async with session, asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT // SESSIONS):
            group.create_task(sender())
        async for _ in session:
            returned += 1
            window.release()
            if returned == len(share):
                break
    return returned
