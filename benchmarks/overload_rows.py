"""Who is overloaded in this process: two bare queues, the dispatcher, the engine with sessions.

Law of this file: all get the same events on the same schedule, the same 4 ms in the handler, and eight
slots; laneway's cell has one more for critical events only.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from benchmarks.link import SessionLink
from benchmarks.measure import Stopwatch
from benchmarks.sweep import HANDLE_S, WORKERS, Due, Offer, Speaker, Subject, Tally, by_speaker, seen
from benchmarks.workload import Job
from laneway import Config, Context, Engine, EnvelopeView, Kind, Lane, Out
from laneway.actors.homes.homes import is_elsewhere
from laneway.actors.pools.pool import PoolSpec
from laneway.actors.ports import Outcome
from laneway.engine.sections import DispatchConfig
from laneway.routing.classify import IN, OUT
from laneway.routing.envelope import BODY, Envelope, envelope
from laneway.routing.errors import Fenced

__all__ = ["CONFIG", "EMBEDDED", "ENGINE", "KINDS", "KIND_OF", "PRIORITY", "SLOTS", "add_pool", "offering"]

SLOTS: Final = f"{WORKERS} + 1 for critical"
KIND_OF: Final = tuple(f"O_{lane.name}" for lane in Lane)
KINDS: Final = (
    *(Kind(name, lane, durable=lane is not Lane.LOW, direction=IN) for name, lane in zip(KIND_OF, Lane, strict=True)),
    *(Kind(f"{name}_DONE", lane, direction=OUT) for name, lane in zip(KIND_OF, Lane, strict=True)),
)
"""One kind per lane, and its result: what was urgent to ask is urgent to tell."""
CONFIG: Final = Config(dispatch=DispatchConfig(rate_per_s=1e6, burst=1e6))
"""Default caps; no rate limit, so that what is refused is refused for want of room."""


async def _handle(event: EnvelopeView, context: Context) -> Out:
    await asyncio.sleep(HANDLE_S)
    return Out(f"{event.kind}_DONE", event.body)


def add_pool(engine: Engine) -> None:
    """Add the handler."""
    engine.pool("work", KIND_OF, _handle, concurrency=WORKERS)


# ---- queues -------------------------------------------------------------------------------------


def _queue(make: Any, *, prioritised: bool) -> Any:
    """Eight workers at one queue; entries are (lane or 0, number, event)."""

    @asynccontextmanager
    async def open_(tally: Tally, watch: Stopwatch) -> AsyncIterator[Offer]:
        queue = make()

        async def work() -> None:
            while True:
                _, _, due = await queue.get()
                await asyncio.sleep(HANDLE_S)
                tally.finish(due)

        async def offer(events: Sequence[Due]) -> None:
            for due in events:
                queue.put_nowait((due.lane if prioritised else 0, due.number, due))

        workers = [asyncio.create_task(work()) for _ in range(WORKERS)]
        yield offer
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    return open_


# ---- laneway ------------------------------------------------------------------------------------


@asynccontextmanager
async def _dispatcher(tally: Tally, watch: Stopwatch) -> AsyncIterator[Offer]:
    """No sessions' streams; latency until the handler has answered."""

    async def handle(env: Envelope, context: Context) -> None:
        await asyncio.sleep(HANDLE_S)

    def over(ended: Sequence[tuple[Envelope, Outcome]]) -> None:
        for env, outcome in ended:
            assert outcome.status == "handled", outcome
            tally.finish(seen(env[BODY]))

    async with Engine(CONFIG, kinds=KINDS) as engine:
        engine.dispatcher.add_pool(PoolSpec("work", KIND_OF, handle, concurrency=WORKERS))

        async def offer(events: Sequence[Due]) -> None:
            for due in events:
                whose = tally.crowd[due.who]
                env = envelope(
                    KIND_OF[due.lane],
                    producer="bench",
                    counter=due.number + 1,
                    tenant=whose.tenant,
                    session=whose.session,
                    lane=due.lane,
                    body=due.body(),
                )
                (refusal,) = engine.dispatcher.offer_batch((env,), over)
                if refusal is not None:
                    tally.refuse(due, refusal.retry_after_ms)

        yield offer


@asynccontextmanager
async def _engine(tally: Tally, watch: Stopwatch) -> AsyncIterator[Offer]:
    """Sessions and all; latency until the session's client has the result."""
    async with Engine(CONFIG, kinds=KINDS) as engine:
        add_pool(engine)
        async with offering([engine], tally) as offer:
            yield offer


@asynccontextmanager
async def offering(engines: Sequence[Engine], tally: Tally, prefix: str = "") -> AsyncIterator[Offer]:
    """Open the crowd's sessions, by turns at these engines; yields what puts events into them.

    `prefix`: before the sessions' names, where an engine has had others of the same.
    """
    opened = [
        await _at_home(engines[number % len(engines)], whose._replace(session=f"{prefix}{whose.session}"))
        for number, whose in enumerate(tally.crowd)
    ]
    links = [_Link(link, tally) for link in opened]

    async def offer(events: Sequence[Due]) -> None:
        for who, theirs in by_speaker(events).items():
            await links[who].send(theirs)

    readers = [asyncio.create_task(link.read()) for link in links]
    yield offer
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    for link in links:
        await link.close()


async def _at_home(engine: Engine, whose: Speaker) -> SessionLink:
    """Open a session of about this name that is at home with this engine, and with no other front."""
    for again in itertools.count():
        try:
            return await SessionLink.open(engine, f"{whose.session}-{again}", tenant=whose.tenant)
        except Fenced as error:
            if not is_elsewhere(error):
                raise
    raise AssertionError


class _Link:
    """A session's link that knows what it sent, for what is refused or given up."""

    def __init__(self, link: SessionLink, tally: Tally) -> None:
        self._link = link
        self._tally = tally
        self._sent: list[Due] = []

    async def send(self, events: Sequence[Due]) -> None:
        """Send what is due in one frame."""
        self._sent += events
        jobs = [Job(KIND_OF[due.lane], due.lane, due.body()) for due in events]
        await self._link.send(jobs, deadlines=[due.until for due in events])

    async def read(self) -> None:
        """Take frames until it is cancelled; what failed and may not be tried again counts as lost."""
        link, tally = self._link, self._tally
        taken = link.taken = list[int]()
        while True:
            for env in await link.receive():
                tally.finish(seen(env[BODY]))
            for counter in taken:
                tally.accept(self._sent[counter - 1])
            taken.clear()
            for counters, _, reason, _, retry_after_ms in link.refused:
                for counter in counters:
                    tally.refuse(self._sent[counter - 1], retry_after_ms, reason)
            link.refused.clear()
            for notice in link.failures:
                if notice["retryable"]:
                    tally.expire(self._sent[notice["counter"] - 1])
            link.failures.clear()

    async def close(self) -> None:
        await self._link.close()


PRIORITY: Final = Subject("asyncio.PriorityQueue", _queue(asyncio.PriorityQueue, prioritised=True))
ENGINE: Final = Subject("laneway engine", _engine, SLOTS)
EMBEDDED: Final = (
    Subject("asyncio.Queue", _queue(asyncio.Queue, prioritised=False)),
    PRIORITY,
    Subject("laneway dispatcher", _dispatcher, SLOTS),
    ENGINE,
)
