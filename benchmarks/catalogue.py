"""Edge: the tool catalogue at 6,000 requests a second, beside a bare ASGI application in uvicorn.

Open loop over keep-alive connections, one request at a time on each; an engine with twenty tools in
another process, and the same bytes from bare uvicorn. Latency counts from the scheduled time. How many
the row can do at all, with every connection busy, is told too: that is of client and server together.

Law of this file: every request is answered by exactly the bytes of the first answer, or there is no figure.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from benchmarks.counts import Lost
from benchmarks.keepalive import Answer, Connections
from benchmarks.measure import Options, Row, Stage, Stopwatch, percentile, repeated
from benchmarks.process import Program, server

__all__ = ["BARE", "LANEWAY", "PER_S", "answered", "catalogue", "run"]

PER_S: Final = 6_000
CONNECTIONS: Final = 64
BARE: Final = "catalogue, bare uvicorn"
LANEWAY: Final = "catalogue, laneway"

_LONGEST_S: Final = 1.0
_WARM: Final = 256
_FULL: Final = 1_500
_PATIENCE_S: Final = 30.0


def run(options: Options, status: Callable[[str], None]) -> list[Row]:
    """Measure both rows. Raises Lost if an answer is missing or another one."""
    count = int(PER_S * min(options.seconds, _LONGEST_S))
    rows = []
    for name in (BARE, LANEWAY):
        status(f"edge {name}")
        stage = catalogue(name, count)
        rows.append(repeated("edge", name, stage, count, options.overload_repeats, "per s"))
    return rows


def catalogue(name: str, count: int) -> Stage:
    """Return a row's stage: warm, then as many as go, then `count` requests on time."""

    told: list[Answer] = []  # by the engine, once: what every answer is held against

    async def stage(watch: Stopwatch) -> int:
        if not told:
            told.append(await _told())
        (expected,) = told
        async with _served(name, expected) as program, _connected(program) as connections:
            watch.watch("engine" if name == LANEWAY else "uvicorn", program.pid)
            await _full(connections, _WARM, expected)
            begun = time.perf_counter()
            await _full(connections, _FULL, expected)
            most_per_s = _FULL / (time.perf_counter() - begun)
            with watch:
                late_s = await answered(connections, count, PER_S, expected)
        late_ms = [late * 1e3 for late in late_s]
        watch.note(mean_ms=statistics.fmean(late_ms), most_per_s=most_per_s)
        watch.note(p50_ms=percentile(late_ms, 0.5), p99_ms=percentile(late_ms, 0.99))
        return len(late_s)

    return stage


async def _told() -> Answer:
    """Ask an engine. Raises Lost if it has no catalogue."""
    async with server("catalogue", "engine") as engine, _connected(engine, 1) as connections:
        answer = await connections.ask()
    if answer.status != 200:
        raise Lost(f"the catalogue was answered with {answer.status}")
    return answer


def _served(name: str, expected: Answer) -> AbstractAsyncContextManager[Program]:
    """Run the row's server; the bare one says what the engine says."""
    if name == LANEWAY:
        return server("catalogue", "engine")
    headers = json.dumps([each for each in expected.headers if each[0] not in ("date", "server")])
    return server("catalogue", "uvicorn", headers, expected.body.decode())


@asynccontextmanager
async def _connected(program: Program, count: int = CONNECTIONS) -> AsyncIterator[Connections]:
    connections = await Connections.open(program.address, "/v1/tools", count)
    try:
        yield connections
    finally:
        connections.close()


async def _full(connections: Connections, count: int, expected: Answer) -> None:
    """Ask as fast as the connections answer."""
    left = iter(range(count))

    async def one() -> None:
        for _ in left:
            _same(await connections.ask(), expected)

    async with asyncio.timeout(_PATIENCE_S):
        await asyncio.gather(*(one() for _ in range(CONNECTIONS)))


async def answered(
    connections: Connections, count: int, per_s: float, expected: Answer, patience_s: float = _PATIENCE_S
) -> list[float]:
    """Ask `count` times on schedule; return how long after its scheduled time each answer was there.

    A request whose turn comes while every connection is busy waits for one; that counts. Raises Lost.
    """
    late_s: list[float] = []
    begun = time.perf_counter()

    def came(due: float) -> Callable[[Answer], None]:
        def take(answer: Answer) -> None:
            _same(answer, expected)
            late_s.append(time.perf_counter() - due)

        return take

    try:
        async with asyncio.timeout(count / per_s + patience_s):
            for number in range(count):
                due = begun + number / per_s
                if (early_s := due - time.perf_counter()) > 0:
                    await asyncio.sleep(early_s)
                connections.put(came(due))
            await connections.idle()
    except TimeoutError as error:
        raise Lost(f"{len(late_s)} of {count} requests were answered in time") from error
    return late_s


def _same(answer: Answer, expected: Answer) -> None:
    if (answer.status, answer.body) != (expected.status, expected.body):
        raise Lost(f"status {answer.status} and {len(answer.body)} bytes, not those of the first answer")
