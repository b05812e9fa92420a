"""The engine's process of the soak: handlers of every temper behind one gRPC edge, and its gauges on the side.

Law of this file: gauges are read beside the engine's own doors, on a socket of their own, so that looking
at them is not work of the engine; sessions fall asleep after a second, and what they leave is on disk.
What is held is counted by who gives it out, Python's allocator and the C library's, after a collection: unlike
resident memory it falls again.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import logging
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from benchmarks.token_source import TokenModel
from benchmarks.tool import wait
from laneway import Config, Context, Engine, EnvelopeView, Kind, Lane, Out
from laneway.engine.sections import SessionConfig
from laneway.routing.classify import IN, OUT

__all__ = ["FILL_BYTES", "KINDS", "gauges", "held", "serving", "tasks"]

_SESSION: Final = SessionConfig(idle_s=1.0, ring_events=64, ring_bytes=16_384, retention_bytes=16_384, runs=8)
"""Small, so that what a session may keep is reached in the warm-up and not in an hour."""
FILL_BYTES: Final = 4_096
_FILLS: Final = 200
"""800 KiB: more than a client's credit and a session's budget together."""

_WORKER: Final = "Cell._work"

KINDS: Final = (
    *(Kind(f"S_WORK_{lane.name}", lane, direction=IN) for lane in (Lane.HIGH, Lane.NORMAL, Lane.LOW)),
    Kind("S_DONE", Lane.NORMAL, direction=OUT),
    Kind("S_SLEEP", Lane.NORMAL, direction=IN),
    Kind("S_FAIL", Lane.HIGH, direction=IN),
    Kind("S_FILL", Lane.NORMAL, direction=IN),
    Kind("S_FILLER", Lane.NORMAL, direction=OUT),
)


async def _work(event: EnvelopeView, context: Context) -> Out:
    await asyncio.sleep(0.002)
    return Out("S_DONE", event.body)


async def _sleep(event: EnvelopeView, context: Context) -> None:
    await asyncio.sleep(30.0)


async def _fail(event: EnvelopeView, context: Context) -> None:
    raise ValueError("as asked")


async def _fill(event: EnvelopeView, context: Context) -> AsyncIterator[Out]:
    body = b"f" * FILL_BYTES
    for _ in range(_FILLS):
        yield Out("S_FILLER", body)


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """The engine's process; it listens at the edge's address, a comma, and that of the gauges.

    What handlers fail at is asked for, and is not logged.
    """
    logging.getLogger("laneway").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="laneway-soak-") as directory:
        config = Config(session=_SESSION)
        async with Engine(config, store=Path(directory) / "log.db", kinds=KINDS) as engine:
            engine.pool("work", [kind.name for kind in KINDS if kind.name.startswith("S_WORK")], _work, concurrency=64)
            engine.pool("sleep", ["S_SLEEP"], _sleep, concurrency=64)
            engine.pool("fail", ["S_FAIL"], _fail)
            engine.pool("fill", ["S_FILL"], _fill, concurrency=64)
            engine.tools.add(wait)
            engine.nlp.use(TokenModel())
            edge = await engine.serve_grpc(port=0)
            async with _telling(engine) as port:
                yield f"127.0.0.1:{edge.port},127.0.0.1:{port}"


@asynccontextmanager
async def _telling(engine: Engine) -> AsyncIterator[int]:
    """Tell the gauges, one line to whoever connects."""

    async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told = {"gauges": gauges(engine), "tasks": tasks(), "held": held()}
        writer.write(json.dumps(told).encode() + b"\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(tell, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def gauges(engine: Engine) -> Mapping[str, float]:
    """Return what must be zero when nobody is there."""
    dispatcher, sessions = engine.statistics()
    pools = dispatcher.pools
    tools = engine.builtins.tools().values()
    return {
        "sessions": sessions.sessions,
        "links": sessions.links,
        "pending journal": sessions.pending,
        "paused producers": sessions.paused,
        "unwritten bytes": sessions.commit_backlog_bytes,
        "pending events": dispatcher.pending,
        "pending bytes": dispatcher.core.pending_bytes,
        "reserved": dispatcher.reserved,
        "asks": dispatcher.asks,
        "queued": sum(dispatcher.core.waiting),
        "parked": dispatcher.core.parked,
        "waiting in cells": sum(pool.waiting for pool in pools),
        "running": sum(pool.running for pool in pools),
        "abandoned": sum(pool.abandoned for pool in pools),
        "tool calls": sum(tool.in_flight + tool.waiting for tool in tools),
        "connections": sum(row.active for row in engine.telemetry.traffic.values()),
    }


class _Mallinfo2(ctypes.Structure):
    """What glibc 2.33 and later tell of malloc, of all its arenas together (mallinfo(3)): ten numbers."""

    _fields_ = (("told", ctypes.c_size_t * 10),)  # type: ignore[mutable-override] # how ctypes is told


_MAPPED, _USED = 4, 7
"""Places of hblkhd and uordblks, in bytes."""


def held() -> Mapping[str, int]:
    """Return what this process holds, garbage not counted: Python's blocks, and KiB of malloc if its library tells."""
    gc.collect()
    found = {"blocks": sys.getallocatedblocks()}
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return found
    mallinfo2.restype = _Mallinfo2
    told = mallinfo2().told
    return {**found, "malloc_kib": (told[_MAPPED] + told[_USED]) // 1024}


def tasks() -> Mapping[str, int]:
    """Return how many tasks there are of each coroutine, less the one that asks and the cells' workers.

    A cell keeps its workers, as many as ever ran at once; what they do is the gauge `running`.
    """
    found = Counter(_coroutine(task) for task in asyncio.all_tasks() if task is not asyncio.current_task())
    return {name: count for name, count in sorted(found.items()) if name != _WORKER}


def _coroutine(task: asyncio.Task[object]) -> str:
    return getattr(task.get_coro(), "__qualname__", task.get_name())
