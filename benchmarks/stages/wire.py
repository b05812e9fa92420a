"""Bytes and envelopes: what an edge and a client do with a frame.

Law of this file: see `harness`; the frames are those that W1 over gRPC exchanges, protobuf wrapping
and answers included.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from benchmarks.stages.harness import Batches, Stage, Work, results
from benchmarks.workload import KINDS
from laneway.engine.client_outbox import Outbox
from laneway.engine.codec import decode_frame, encode_frame, pack_envelope, unpack_envelope
from laneway.engine.limits import DEFAULT_LIMITS
from laneway.engine.proto.message import unwrap, wrap
from laneway.routing.classify import KindTable
from laneway.routing.envelope import Envelope
from laneway.routing.inbox import Inbox

__all__ = ["CLIENT", "EDGE"]


def _kinds() -> KindTable:
    return KindTable(KINDS)


def _packed(events: Batches) -> list[list[bytes]]:
    kinds, now = _kinds(), time.monotonic()
    return [[pack_envelope(env, now, kinds) for env in batch] for batch in events]


def _answers(batch: Sequence[Envelope]) -> dict[str, Any]:
    """The header of a frame that answers this batch: its OKs."""
    return {"ok": [[env[1], "volatile"] for env in batch]}


async def _decode(events: Batches) -> Work:
    """A client's frame of events, to its items."""
    return _decoding([wrap(encode_frame({}, items)) for items in _packed(events)])


async def _decode_answers(events: Batches) -> Work:
    """The engine's frame of results, whose header has an OK per event, to its items."""
    frames = [
        wrap(encode_frame({**_answers(batch), "stream": 1, "first": 1}, items))
        for batch, items in zip(events, _packed(results(events)), strict=True)
    ]
    return _decoding(frames)


def _decoding(frames: list[bytes]) -> Work:
    done = 0

    def step(number: int) -> None:
        nonlocal done
        _, items = decode_frame(unwrap(frames[number]), DEFAULT_LIMITS)
        done += len(items)

    return Work(step, lambda: done)


async def _unpack(events: Batches) -> Work:
    return _unpacking(_packed(events))


async def _unpack_results(events: Batches) -> Work:
    return _unpacking(_packed(results(events)))


def _unpacking(packed: list[list[bytes]]) -> Work:
    kinds, kept = _kinds(), 0

    def step(number: int) -> None:
        nonlocal kept
        now = time.monotonic()
        kept += len([unpack_envelope(item, now, kinds, DEFAULT_LIMITS) for item in packed[number]])

    return Work(step, lambda: kept)


async def _pack_results(events: Batches) -> Work:
    return _packing(results(events))


async def _pack(events: Batches) -> Work:
    return _packing(events)


def _packing(events: Batches) -> Work:
    kinds, done = _kinds(), 0

    def step(number: int) -> None:
        nonlocal done
        now = time.monotonic()
        done += len([pack_envelope(env, now, kinds) for env in events[number]])

    return Work(step, lambda: done)


async def _encode_answers(events: Batches) -> Work:
    headers = [{**_answers(batch), "stream": 1, "first": 1} for batch in events]
    return _encoding(headers, _packed(results(events)))


async def _encode(events: Batches) -> Work:
    return _encoding([{} for _ in events], _packed(events))


def _encoding(headers: list[dict[str, Any]], packed: list[list[bytes]]) -> Work:
    done = 0

    def step(number: int) -> None:
        nonlocal done
        frame = wrap(encode_frame(headers[number], packed[number]))
        done += len(packed[number]) if frame else 0

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
    """A client's own books: kept until answered, taken for a frame, answered. No futures, no waiting."""
    outbox, taken = Outbox(), 0
    puts = [[outbox.put(env) for env in batch] for batch in events]

    async def one(number: int) -> None:
        nonlocal taken
        for put in puts[number]:
            put.send(None)  # runs until it waits for the answer
        envs = outbox.take(time.monotonic())
        taken += len(envs)
        for env, put in zip(envs, puts[number], strict=True):
            outbox.ok(env[1], "volatile")
            try:
                put.send(None)
            except StopIteration:
                continue

    return Work(one, lambda: taken)


EDGE: Final = (
    Stage("decode frame", "edge in", _decode, ("served",)),
    Stage("unpack envelope", "edge in", _unpack, ("served",)),
    Stage("pack envelope", "edge out", _pack_results, ("served",)),
    Stage("encode frame", "edge out", _encode_answers, ("served",)),
)
CLIENT: Final = (
    Stage("client: outbox", "client", _outbox, ("client",)),
    Stage("client: pack envelope", "client", _pack, ("client",)),
    Stage("client: encode frame", "client", _encode, ("client",)),
    Stage("client: decode frame", "client", _decode_answers, ("client",)),
    Stage("client: unpack envelope", "client", _unpack_results, ("client",)),
    Stage("client: inbox", "client", _inbox, ("client", "embedded")),
)
