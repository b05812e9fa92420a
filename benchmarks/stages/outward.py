"""From an emitted event to a frame: coalesced, numbered, logged, folded, read by a link. And the stores.

Law of this file: see `harness`. `outbound, whole` runs the product's own loop around those parts, so
that the glue between them shows as a difference. What is no text is not offered to the coalescer nor folded
in that loop, unless there is text around it; so neither is part of a sum.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.stages.harness import ALWAYS, Batches, Stage, Work, results
from benchmarks.workload import KINDS
from laneway.actors.ports import Principal, Store
from laneway.actors.sessions.attachment import Attachment
from laneway.actors.sessions.committer import Committer
from laneway.actors.sessions.intake import Intake
from laneway.actors.sessions.keeping import Run
from laneway.actors.sessions.outbound import Outbound
from laneway.actors.sessions.transcript import Transcript
from laneway.engine.app.clock import SystemClock
from laneway.engine.app.packing import LogPacking
from laneway.engine.stores.memory import MemoryStore
from laneway.engine.stores.sqlite import SqliteStore
from laneway.routing.answers import oks
from laneway.routing.classify import KindTable
from laneway.routing.coalescer import Coalescer
from laneway.routing.envelope import Envelope
from laneway.routing.errors import Fenced
from laneway.routing.handshake import LinkPlan
from laneway.routing.link import Link
from laneway.routing.replay import Cursor, Numbered, ReplayRing

__all__ = ["LINK", "OUTBOUND", "STORES"]

_CLOCK: Final = SystemClock()
_PLENTY: Final = 1 << 40
_DATA: Final = 1


def _pack() -> Callable[[Envelope], bytes]:
    packing = LogPacking(KindTable(KINDS))
    return lambda env: packing.pack(env, _CLOCK.now())


async def _coalesce(events: Batches) -> Work:
    """Events that are not text: they pass, and push out what is held of their run."""
    coalescer, passed, out = Coalescer(), 0, results(events)

    def step(number: int) -> None:
        nonlocal passed
        for env in out[number]:
            passed += len(coalescer.offer(env, 0.0))

    return Work(step, lambda: passed)


async def _coalesce_text(events: Batches) -> Work:
    """Text deltas of five characters, one run per session."""
    coalescer, texts = Coalescer(), _texts(events)
    offered = 0

    def step(number: int) -> None:
        nonlocal offered
        for env in texts[number]:
            offered += sum(len(one[11]) for one in coalescer.offer(env, 0.0)) // 5

    return Work(step, lambda: offered)


def _texts(events: Batches) -> Batches:
    """As many text deltas: five characters, one message per session."""
    return [
        [(e[0], e[1], "TEXT_MESSAGE_CONTENT", "t", e[4], e[4], "m1", 2, e[8], "", "", b"token", e[12]) for e in batch]
        for batch in events
    ]


async def _number(events: Batches) -> Work:
    """A seq each, kept for replay within the session's bounds, released to links; several are one list."""
    rings, out = [ReplayRing() for _ in range(8)], results(events)

    def step(number: int) -> None:
        ring, batch = rings[number % 8], out[number]
        if len(batch) > 1:
            ring.extend(ring.numbered(batch))
        else:
            ring.append(batch[0])
        ring.commit(ring.head)

    return Work(step, lambda: sum(ring.committed for ring in rings))


async def _log_pack(events: Batches) -> Work:
    pack, out, packed = _pack(), results(events), 0

    def step(number: int) -> None:
        nonlocal packed
        packed += len([pack(env) for env in out[number]])

    return Work(step, lambda: packed)


async def _fold(events: Batches) -> Work:
    return _folding(results(events))


async def _fold_text(events: Batches) -> Work:
    return _folding(_texts(events))


def _folding(out: Batches) -> Work:
    transcript, folded = Transcript(), 0
    for number in range(8):
        transcript.fold(("p", 1, "TEXT_MESSAGE_START", "t", f"s{number}", "", "m1", 2, 0.0, "", "", b"\x80", 0.0))

    def step(number: int) -> None:
        nonlocal folded
        for env in out[number]:
            transcript.fold(env)
            folded += 1

    return Work(step, lambda: folded)


async def _link(events: Batches) -> Work:
    """Poll for a frame that is due; the client's ack and grant of the one before."""
    data, size, out = ReplayRing(1 << 20, 1 << 40), len(events[0]), results(events)
    link = Link(
        LinkPlan(max_items=size, heartbeat_s=1e6, dead_after_s=1e7),
        ReplayRing(),
        data,
        Cursor("e", 0, 0),
        KindTable(KINDS),
        0.0,
    )
    for batch in out:
        for env in batch:
            data.commit(data.append(env)[0])
    sent = 0

    def step(number: int) -> None:
        nonlocal sent
        now = number * 1.0  # after silence: due at once
        link.receive({"ack": ["e", 0, sent], "grant": _PLENTY}, now)
        sent += sum(len(frame.envelopes) for frame in link.poll(now))

    return Work(step, lambda: sent)


async def _answers(events: Batches) -> Work:
    """An OK for each event, those of a frame together, gathered into the next frame's header."""
    link = Link(
        LinkPlan(heartbeat_s=1e6, dead_after_s=1e7),
        ReplayRing(),
        ReplayRing(),
        Cursor("e", 0, 0),
        KindTable(KINDS),
        0.0,
    )
    clock, told = _Steps(), 0
    attachment = Attachment(_Owner(), link, client="c", principal=Principal("c"), clock=clock, opening=())

    def step(number: int) -> None:
        nonlocal told
        clock.at_s = number
        attachment.tell(ok=oks([env[1] for env in events[number]], "volatile"))
        frames = link.poll(number) + link.poll(number + 0.5)  # they wait a moment for a frame to ride on
        told += sum(count for frame in frames for _, count, _ in frame.header.get("ok", ()))

    return Work(step, lambda: told)


class _Steps(SystemClock):
    """A clock that goes from step to step: when answers may go depends on the frame before."""

    at_s = 0.0

    def now(self) -> float:
        return self.at_s


class _Owner:
    """A home that is not asked anything here."""

    def ingest(self, speaker: Attachment, envelopes: Sequence[Envelope]) -> None:
        raise AssertionError("nothing comes in")

    def moved(self, attachment: Attachment) -> None:
        raise AssertionError("nothing is acked")

    def detached(self, attachment: Attachment) -> None:
        raise AssertionError("nobody leaves")

    def snapshot(self) -> Envelope:
        raise AssertionError("nobody starts afresh")

    async def read_log(self, stream: int, first: int) -> list[tuple[int, int, Envelope]]:
        raise AssertionError("nothing is behind")


# ---- stores -------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _opened(*, sqlite: bool) -> AsyncIterator[Store]:
    with tempfile.TemporaryDirectory() as directory:
        store: Store = SqliteStore(Path(directory) / "bench.db") if sqlite else MemoryStore(max_bytes=1 << 30)
        await store.open()
        try:
            yield store
        finally:
            await store.close()


async def _journalling(events: Batches) -> Work:
    """A frame's records (accepted, started, ended), one each; each is waited for."""
    stack = contextlib.AsyncExitStack()
    store = await stack.enter_async_context(_opened(sqlite=True))
    committer = Committer(store, await store.claim("t/session/s"), clock=_CLOCK, on_fenced=_raise)
    intake, written = Intake("t", _pack(), lambda data: events[0][0], 1 << 30), 0
    lives = [(intake.accepted(batch), intake.started(batch), intake.ended(batch)) for batch in events]

    async def step(number: int) -> None:
        nonlocal written
        accepted, *later = lives[number]
        committer.add(accepted)
        await committer.flush()
        for record in later:
            assert record is not None, "a durable store has records of all"
            committer.add([record])
            await committer.flush()
        written += len(events[number])

    async def close() -> None:
        await committer.close()
        await stack.aclose()

    return Work(step, lambda: written, close)


class _Numbered:
    """What gathers events for the committer, already numbered."""

    def __init__(self, committer: Committer) -> None:
        self.rows: list[Numbered] = []
        self.written_events = self.waiting_bytes = 0
        self._pack = _pack()
        committer.bind(self)

    def take(self) -> list[Run]:
        rows, self.rows = self.rows, []
        return [Run(_DATA, rows, self._pack)]

    def written(self, run: Run) -> None:
        self.written_events += len(run.rows)


async def _committing(events: Batches, *, sqlite: bool) -> Work:
    """What was said in one turn of the loop, numbered already, to the log; each batch is waited for."""
    stack = contextlib.AsyncExitStack()
    store = await stack.enter_async_context(_opened(sqlite=sqlite))
    committer = Committer(store, await store.claim("t/session/s"), clock=_CLOCK, on_fenced=_raise)
    source, ring, out = _Numbered(committer), ReplayRing(), results(events)
    rounds = [[ring.append(env) for env in batch] for batch in out]

    async def step(number: int) -> None:
        source.rows = rounds[number]
        committer.stir()
        await committer.flush()

    async def close() -> None:
        await committer.close()
        await stack.aclose()

    return Work(step, lambda: source.written_events, close)


def _raise(error: Fenced) -> None:
    raise error


async def _outbound(events: Batches, *, listed: bool) -> Work:
    """The product's own loop: emit to committed, memory store; a batch said at once or event by event."""
    stack = contextlib.AsyncExitStack()
    store = await stack.enter_async_context(_opened(sqlite=False))
    committer = Committer(store, await store.claim("t/session/s"), clock=_CLOCK, on_fenced=_raise)
    out = results(events)
    outbound = Outbound(
        committer,
        _pack(),
        _CLOCK,
        ring_events=1000,
        ring_bytes=262_144,
        budget_bytes=_PLENTY,
        stall_s=1.0,
        on_commit=lambda: None,
    )

    async def step(number: int) -> None:
        if listed:
            await outbound.emit_all(out[number])
        else:
            for env in out[number]:
                await outbound.emit(env)
        await committer.flush()

    async def close() -> None:
        await committer.close()
        await stack.aclose()

    return Work(step, lambda: outbound.rings[_DATA].committed, close)


OUTBOUND: Final = (
    Stage("coalesce, no text", "home out", _coalesce),
    Stage("coalesce, text", "home out", _coalesce_text),
    Stage("number, ring", "home out", _number, ALWAYS),
    Stage("pack for the log", "home out", _log_pack),
    Stage("transcript, no text", "home out", _fold),
    Stage("transcript, text", "home out", _fold_text),
    Stage("outbound, whole", "home out", partial(_outbound, listed=False)),
    Stage("outbound, whole, as lists", "home out", partial(_outbound, listed=True)),
)
STORES: Final = (
    Stage("commit out, memory", "store", partial(_committing, sqlite=False), ALWAYS),
    Stage("commit journal, sqlite", "store", _journalling, waits=True, batches=(64,)),
    Stage("commit out, sqlite", "store", partial(_committing, sqlite=True), waits=True, batches=(64,)),
)
LINK: Final = (
    Stage("answer OK", "link", _answers, ALWAYS),
    Stage("poll: chunk, credit", "link", _link, ALWAYS),
)
