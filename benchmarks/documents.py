"""State: what an edit of a shared document costs beside the bare CRDT, and how soon ten subscribers see it.

One author types one character after another; the updates are made before the clock runs. Cost: batches
of 64 at once to the documents' handler, each answered when it is in the log (in memory), against
`apply_update` of pycrdt one after the other. Latency: open loop, 4,000 updates a second through an
embedded engine to ten clients of one session, each with a replica of its own, from the scheduled time. Far away: see
`regions`.

Law of this file: every replica must end with the author's text, or there is no figure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from benchmarks.counts import Lost
from benchmarks.link import SessionLink
from benchmarks.measure import Options, Row, Stage, Stopwatch, percentile, repeated
from benchmarks.regions import REGIONS, regions
from benchmarks.replica import Replica, edits
from benchmarks.workload import Job, open_config
from laneway import Engine
from laneway.actors.sync.documents import Documents
from laneway.actors.sync.messages import MessageType, encode_message, encode_vector
from laneway.engine.app.clock import SystemClock
from laneway.engine.documents.yjs import YjsEngine
from laneway.engine.stores.memory import MemoryStore
from laneway.routing.classify import KindTable
from laneway.routing.envelope import Envelope, envelope
from laneway.routing.lanes import Lane

__all__ = ["BARE", "CELL", "PER_S", "SPREAD", "at_cell", "bare", "run", "spread"]

BATCH: Final = 64
PER_S: Final = 4_000
SUBSCRIBERS: Final = 10

BARE: Final = "pycrdt, apply_update"
CELL: Final = "documents, batches of 64"
SPREAD: Final = f"{PER_S:,} updates/s to {SUBSCRIBERS} subscribers"

_NAME: Final = "notes"
_HELLO: Final = encode_message(MessageType.STEP1, encode_vector({}))
_PATIENCE_S: Final = 30.0
_ROUNDS_PER_S: Final = 10
"""Edits from region to region for each second of open loop: each takes 0.3 s."""


def run(options: Options, status: Callable[[str], None]) -> list[Row]:
    """Measure all rows. Raises Lost if a replica differs."""
    work = edits(options.edits)
    rows = []
    for name, stage in ((BARE, bare(work)), (CELL, at_cell(work))):
        status(f"state {name}")
        rows.append(repeated("state", name, stage, len(work), options.repeats, "updates/s"))
    status(f"state {SPREAD}")
    live = edits(int(PER_S * options.seconds))
    rows.append(repeated("state", SPREAD, spread(live), len(live), options.overload_repeats, "updates/s"))
    status(f"state {REGIONS}")
    rounds = max(2, int(options.seconds * _ROUNDS_PER_S))
    return [*rows, repeated("state", REGIONS, regions(rounds), rounds, options.overload_repeats, "edits/s")]


def bare(work: Sequence[bytes]) -> Stage:
    """Return the baseline: pycrdt alone."""

    async def stage(watch: Stopwatch) -> int:
        replica = Replica()
        with watch:
            for update in work:
                replica.apply(update)
        replica.check(BARE, len(work))
        return len(work)

    return stage


class _Told:
    """Where the documents tell sessions; and the context of their handler, which is told nothing."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Envelope] = asyncio.Queue()

    async def emit(self, env: Any) -> None:
        self.events.put_nowait(env)

    async def emit_all(self, envs: Sequence[Envelope]) -> None:
        for env in envs:
            self.events.put_nowait(env)


def at_cell(work: Sequence[bytes]) -> Stage:
    """Return the handler's stage: checked, applied, logged and answered, `BATCH` at once."""

    async def stage(watch: Stopwatch) -> int:
        told, kinds = _Told(), KindTable()
        context: Any = told
        documents = Documents(MemoryStore(), YjsEngine(), outlet=told, clock=SystemClock(), kinds=kinds)
        events = [_event(encode_message(MessageType.UPDATE, update), at) for at, update in enumerate(work, 1)]
        with watch:
            for at in range(0, len(events), BATCH):
                batch = events[at : at + BATCH]
                refused = [error for error in await documents.handle_all(batch, [context] * len(batch)) if error]
                if refused:
                    raise Lost(f"{CELL}: {refused[0]}")
        replica = Replica()
        await documents.handle(_event(_HELLO, len(work) + 1), context)
        async with asyncio.timeout(_PATIENCE_S):
            while not replica.take(await told.events.get(), ()):
                pass
        replica.check(CELL, len(work))
        await documents.close()
        return len(work)

    return stage


def _event(body: bytes, counter: int) -> Envelope:
    where: Any = {"tenant": "t", "session": "s", "lane": Lane.HIGH, "entity": _NAME}
    return envelope("DOC_SYNC", producer="bench", counter=counter, body=body, **where)


def spread(work: Sequence[bytes], patience_s: float = _PATIENCE_S) -> Stage:
    """Return the open loop to ten subscribers, each with its own replica."""

    async def stage(watch: Stopwatch) -> int:
        replicas, due_s = [Replica() for _ in range(SUBSCRIBERS)], list[float]()
        async with Engine(open_config()) as engine:
            author = await SessionLink.open(engine, "author")
            readers = [await SessionLink.open(engine, "readers", f"reader{at}") for at in range(SUBSCRIBERS)]
            followed = list(zip(readers, replicas, strict=True))
            await readers[0].send([Job("DOC_SYNC", Lane.HIGH, _HELLO)], _NAME)
            await _within(patience_s, *(_read(*each, due_s, 0) for each in followed))
            with watch:
                begun = time.perf_counter()
                due_s += [begun + number / PER_S for number in range(len(work))]
                reading = (_read(*each, due_s, len(work)) for each in followed)
                writing = _write(author, work, due_s), _answers(author, len(work))
                await _within(len(work) / PER_S + patience_s, *writing, *reading)
            for link in (author, *readers):
                await link.close()
        for replica in replicas:
            replica.check(SPREAD, len(work))
        late_s = [late for replica in replicas for late in replica.late_s]
        watch.note(p50_ms=percentile(late_s, 0.5) * 1e3, p99_ms=percentile(late_s, 0.99) * 1e3)
        return len(late_s) // SUBSCRIBERS

    return stage


async def _within(patience_s: float, *parts: Awaitable[None]) -> None:
    """Wait for all. Raises Lost if it takes longer: an update that never comes leaves a gap in the text."""
    try:
        async with asyncio.timeout(patience_s):
            await asyncio.gather(*parts)
    except TimeoutError as error:
        raise Lost(f"{SPREAD}: not every subscriber had every update in time") from error


async def _write(author: SessionLink, work: Sequence[bytes], due_s: Sequence[float]) -> None:
    """Send each update when it is due; those that are due together travel together, at most `BATCH`."""
    sent = 0
    while sent < len(work):
        now = time.perf_counter()
        upto = sent
        while upto < min(len(work), sent + BATCH) and due_s[upto] <= now:
            upto += 1
        bodies = [encode_message(MessageType.UPDATE, update) for update in work[sent:upto]]
        if bodies:
            await author.send([Job("DOC_SYNC", Lane.HIGH, body) for body in bodies], _NAME)
        sent = upto
        await asyncio.sleep(max(0.0, due_s[sent] - time.perf_counter()) if sent < len(work) else 0)


async def _answers(author: SessionLink, count: int) -> None:
    """Read until every update is answered. Raises Lost for a refusal."""
    while author.accepted < count:
        await author.receive()
        if author.refused:
            raise Lost(f"{SPREAD}: the engine refused an update: {author.refused[0]}")


async def _read(reader: SessionLink, replica: Replica, due_s: Sequence[float], count: int) -> None:
    """Read until `count` updates are there; with none, until the asking was answered."""
    answered = False
    while not answered or len(replica.late_s) < count:
        for env in await reader.receive():
            answered = replica.take(env, due_s) or answered
