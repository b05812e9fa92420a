"""Bytes and envelopes: what an edge and a client do with a frame.

Law of this file: see `harness`; the frames are those that W1 over gRPC exchanges, protobuf wrapping
and answers included.
"""

from __future__ import annotations

import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final

from benchmarks.stages.harness import Batches, Stage, Work, results
from benchmarks.workload import KINDS
from laneway.engine.client_outbox import Outbox
from laneway.engine.frames import Frames
from laneway.engine.proto.message import unwrap, wrap
from laneway.routing.answers import oks
from laneway.routing.classify import KindTable
from laneway.routing.envelope import Envelope
from laneway.routing.inbox import Inbox

__all__ = ["CLIENT", "EDGE"]


def _frames() -> Frames:
    return Frames(KindTable(KINDS), time.monotonic)


def _sent(batch: Sequence[Envelope]) -> list[Envelope]:
    """As one client sends them: numbered without gaps, with neither tenant nor session."""
    return [(env[0], 1 + number, env[2], "", "", *env[5:]) for number, env in enumerate(batch)]


def _answers(batch: Sequence[Envelope]) -> dict[str, Any]:
    """The header of a frame that answers this batch: its OKs."""
    return {"ok": oks([env[1] for env in _sent(batch)], "volatile")}


def _with_answers(events: Batches) -> list[tuple[dict[str, Any], list[Envelope]]]:
    """The engine's frames of results, whose headers have the answers too."""
    pairs = zip(events, results(events), strict=True)
    return [({**_answers(batch), "stream": 1, "first": 1}, came) for batch, came in pairs]


async def _decode(events: Batches) -> Work:
    """A client's frames, from a gRPC message to events."""
    return _decoding([({}, _sent(batch)) for batch in events])


async def _decode_answers(events: Batches) -> Work:
    """The engine's frames, from a gRPC message to events."""
    return _decoding(_with_answers(events))


def _decoding(sent: Sequence[tuple[dict[str, Any], Sequence[Envelope]]]) -> Work:
    frames, done = _frames(), 0
    messages = [wrap(frames.encode(*frame)) for frame in sent]

    def step(number: int) -> None:
        nonlocal done
        done += len(frames.decode(unwrap(messages[number]))[1])

    return Work(step, lambda: done)


async def _encode(events: Batches) -> Work:
    """A client's frames, from events to a gRPC message."""
    return _encoding([({}, _sent(batch)) for batch in events])


async def _encode_answers(events: Batches) -> Work:
    """The engine's frames, from events to a gRPC message."""
    return _encoding(_with_answers(events))


def _encoding(sent: Sequence[tuple[dict[str, Any], Sequence[Envelope]]]) -> Work:
    frames, done = _frames(), 0

    def step(number: int) -> None:
        nonlocal done
        header, batch = sent[number]
        done += len(batch) if wrap(frames.encode(header, batch)) else 0

    return Work(step, lambda: done)


async def _inbox(events: Batches) -> Work:
    """Eight clients' inboxes: order checked, credit and acks kept."""
    inboxes = [Inbox() for _ in range(8)]
    for inbox in inboxes:
        inbox.receive({"welcome": {"resume": "new", "cursor": ["e", 0, 0], "position": 0, "grant": 65_536}}, [], 0.0)
    frames, next_seq, given = [], [1] * 8, 0
    for number, batch in enumerate(results(events)):
        frames.append(({"stream": 1, "first": next_seq[number % 8]}, batch))
        next_seq[number % 8] += len(batch)

    def step(number: int) -> None:
        nonlocal given
        inbox, now = inboxes[number % 8], time.monotonic()
        given += len(inbox.receive(*frames[number], now))
        inbox.ack_due(now)

    return Work(step, lambda: given)


async def _outbox(events: Batches) -> Work:
    """A client's own books of events sent one by one: kept until answered, taken for a frame, answered."""
    outbox, taken = Outbox(), 0
    puts = [[outbox.put(env) for env in _sent(batch)] for batch in events]

    async def one(number: int) -> None:
        nonlocal taken
        for put in puts[number]:
            put.send(None)  # runs until it waits for the answer
        envs = outbox.take(time.monotonic())
        taken += len(envs)
        outbox.ok(envs[0][1], len(envs), "volatile")
        for put in puts[number]:
            _end(put)

    return Work(one, lambda: taken)


async def _outbox_of_many(events: Batches) -> Work:
    """The same of events that are sent together."""
    outbox, taken = Outbox(), 0
    puts = [outbox.put_all(_sent(batch)) for batch in events]

    async def one(number: int) -> None:
        nonlocal taken
        puts[number].send(None)
        while envs := outbox.take(time.monotonic()):
            taken += len(envs)
            outbox.ok(envs[0][1], len(envs), "volatile")
        _end(puts[number])

    return Work(one, lambda: taken)


def _end(put: Coroutine[Any, Any, object]) -> None:
    with suppress(StopIteration):
        put.send(None)


EDGE: Final = (
    Stage("frame in", "edge in", _decode, ("served",)),
    Stage("frame out", "edge out", _encode_answers, ("served",)),
)
CLIENT: Final = (
    Stage("client: outbox", "client", _outbox, ("client",)),
    Stage("client: outbox, many at once", "client", _outbox_of_many, ()),
    Stage("client: frame out", "client", _encode, ("client",)),
    Stage("client: frame in", "client", _decode_answers, ("client",)),
    Stage("client: inbox", "client", _inbox, ("client", "embedded")),
)
