"""The same events through laneway in this process, layer by layer, so that a cost has an address.

- core: the pure decisions alone (admission, lanes, fairness, books); no loop, no handler.
- dispatcher: with pumps, cells and handlers; what an in-process event costs without a session.
- engine, frames: with sessions, as an edge brings events: duplicate check, journal, OK for each;
  results numbered, logged, under credit, on a link that could be resumed.
- engine, frames, handlers of lists: the same, its handlers called with up to 64 events at once.
- engine, calls: the same, one `await session.send_event(...)` per event.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from benchmarks.channels import Channel, Opened, Way
from benchmarks.counts import Lost, engine_counts
from benchmarks.link import SessionLink
from benchmarks.measure import Stopwatch
from benchmarks.workload import IN_FLIGHT, KINDS, POOLS, SESSIONS, Job, echo, envelopes, open_config
from laneway import Client, Config, Context, Engine, EnvelopeView, Out
from laneway.actors.pools.pool import PoolSpec
from laneway.actors.ports import Outcome
from laneway.engine.app.embedded import EmbeddedSession
from laneway.routing.classify import KindTable
from laneway.routing.dispatch import DispatchCore, PoolRoute
from laneway.routing.envelope import BODY, Envelope

__all__ = [
    "CALLS",
    "CORE",
    "DISPATCHER",
    "FRAMES",
    "FRAME_EVENTS",
    "LISTS",
    "SQLITE",
    "SQLITE_LISTS",
    "Calls",
    "add_pools",
    "called",
    "calling",
    "engine_frames",
    "linked",
]

CONCURRENCY: Final = 64
FRAME_EVENTS: Final = 64


class _Core:
    """DispatchCore alone: `send` admits and queues, `receive` takes and completes."""

    def __init__(self) -> None:
        self.core = DispatchCore(KindTable(KINDS), open_config().dispatch_policy())
        for pool, kinds in POOLS.items():
            self.core.add_pool(PoolRoute(pool, kinds))
        self._number = 0

    async def send(self, batch: Sequence[Job]) -> None:
        now = time.monotonic()
        answers = self.core.offer(envelopes(batch, self._number), now)
        assert all(type(answer) is tuple for answer in answers), answers
        self._number += len(batch)

    async def receive(self) -> list[bytes]:
        now, core = time.monotonic(), self.core
        bodies = []
        for pool in POOLS:
            while taken := core.take(pool, CONCURRENCY, now):
                core.done(taken)
                bodies += [env[BODY] for env in taken]
        return bodies

    async def counts(self) -> Mapping[str, int]:
        books = self.core.statistics()
        return {"admitted": books.admitted, "done": books.done}


@asynccontextmanager
async def _open_core(watch: Stopwatch) -> AsyncIterator[Opened]:
    core = _Core()
    yield Opened([core], core.counts)


class _Dispatcher:
    """Dispatcher, pumps, cells and handlers; no session."""

    def __init__(self, engine: Engine) -> None:
        self._dispatcher = engine.dispatcher
        for pool, kinds in POOLS.items():
            self._dispatcher.add_pool(PoolSpec(pool, kinds, echo, concurrency=CONCURRENCY))
        self._number = 0
        self._on_done = self._over
        self._came: list[bytes] = []
        self._news = asyncio.Event()

    async def send(self, batch: Sequence[Job]) -> None:
        refusals = self._dispatcher.offer_batch(envelopes(batch, self._number), self._on_done)
        assert not any(refusals), refusals
        self._number += len(batch)

    def _over(self, ended: Sequence[tuple[Envelope, Outcome]]) -> None:
        for _, outcome in ended:
            assert outcome.status == "handled", outcome
            self._came.append(outcome.value)
        self._news.set()

    async def receive(self) -> list[bytes]:
        await self._news.wait()
        self._news.clear()
        came, self._came = self._came, []
        return came


@asynccontextmanager
async def _open_dispatcher(watch: Stopwatch) -> AsyncIterator[Opened]:
    async with Engine(open_config(), kinds=KINDS) as engine:
        yield Opened([_Dispatcher(engine)], lambda: engine_counts(engine, sessions=False))


async def _answer(event: EnvelopeView, context: Context) -> Out:
    return Out("CUSTOM", event.body)


async def _answer_all(events: Sequence[EnvelopeView], contexts: Sequence[Context]) -> list[Out]:
    return [Out("CUSTOM", event.body) for event in events]


def add_pools(engine: Engine, *, lists: bool = False) -> None:
    """Add the three handlers; of lists, or of single events."""
    for pool, kinds in POOLS.items():
        engine.pool(pool, kinds, _answer_all if lists else _answer, batch=lists, concurrency=CONCURRENCY)


class _Frames:
    """A link of one session; its results as bodies."""

    def __init__(self, link: SessionLink) -> None:
        self._link = link
        self.send = link.send

    async def receive(self) -> list[bytes]:
        came = [env[BODY] for env in await self._link.receive()]
        if self._link.refused:
            raise Lost(f"the engine refused an event: {self._link.refused[0]}")
        return came


def engine_frames(row: str, config: Config, *, sqlite: bool = False, lists: bool = False) -> Way:
    """Return the row of an engine fed in frames by sessions' links, as an edge feeds them; `lists`: handlers too."""

    @asynccontextmanager
    async def open_(watch: Stopwatch) -> AsyncIterator[Opened]:
        with tempfile.TemporaryDirectory(prefix="laneway-bench-") as directory:
            store = Path(directory) / "log.db" if sqlite else None
            async with Engine(config, store=store, kinds=KINDS) as engine:
                add_pools(engine, lists=lists)
                async with linked(engine, "s") as channels:
                    yield Opened(channels, lambda: engine_counts(engine))

    return Way(row, open_, frame=FRAME_EVENTS)


@asynccontextmanager
async def linked(engine: Engine, names: str) -> AsyncIterator[Sequence[Channel]]:
    """Open sessions, `names` and a number each; yields their links as channels, to be fed in frames."""
    links = [await SessionLink.open(engine, f"{names}{number}") for number in range(SESSIONS)]
    yield [_Frames(link) for link in links]
    for link in links:
        await link.close()


class Calls:
    """One session, one awaited `send_event` per event, by as many tasks as may be in flight."""

    def __init__(self, speaker: EmbeddedSession | Client) -> None:
        self.speaker = speaker
        self._jobs: asyncio.Queue[Job] = asyncio.Queue()

    async def send(self, batch: Sequence[Job]) -> None:
        for job in batch:
            self._jobs.put_nowait(job)

    async def receive(self) -> list[bytes]:
        return [(await anext(self.speaker)).body]

    async def work(self) -> None:
        while True:
            job = await self._jobs.get()
            await self.speaker.send_event(job.kind, job.body)


@asynccontextmanager
async def calling(channels: Sequence[Calls]) -> AsyncIterator[None]:
    """Run the senders of all channels; one that fails ends the block."""
    async with asyncio.TaskGroup() as group:
        senders = [group.create_task(one.work()) for one in channels for _ in range(IN_FLIGHT // len(channels))]
        yield
        for sender in senders:
            sender.cancel()


@asynccontextmanager
async def _open_calls(watch: Stopwatch) -> AsyncIterator[Opened]:
    async with Engine(open_config(), kinds=KINDS) as engine:
        add_pools(engine)
        async with called(engine, "s") as channels:
            yield Opened(channels, lambda: engine_counts(engine))


@asynccontextmanager
async def called(engine: Engine, names: str) -> AsyncIterator[Sequence[Channel]]:
    """Open sessions, `names` and a number each; yields them as channels of one awaited call per event."""
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(engine.session(f"{names}{n}")) for n in range(SESSIONS)]
        channels = [Calls(session) for session in sessions]
        async with calling(channels):
            yield channels


CORE: Final = Way("laneway core (decisions only)", _open_core, open_loop=False)
DISPATCHER: Final = Way("laneway dispatcher (no session)", _open_dispatcher)
FRAMES: Final = engine_frames("laneway engine, frames of 64", open_config())
LISTS: Final = engine_frames("laneway engine, frames of 64, handlers of lists", open_config(), lists=True)
CALLS: Final = Way("laneway engine, one call each", _open_calls)
SQLITE: Final = engine_frames("laneway engine, frames, sqlite", open_config(), sqlite=True)
SQLITE_LISTS: Final = engine_frames(
    "laneway engine, frames, sqlite, handlers of lists", open_config(), sqlite=True, lists=True
)
