"""W3: 100 streams of tokens at once, as fast as they come and at 5,000 tokens a second.

Burst: 200 tokens each without pause. Paced: 150 tokens each, one every 20 ms. First-token time counts
from the request; a token's lag from when it was made to when all of it was read.

Law of this file: every row has the same generator, and every token must come once and in order. Laneway
gathers text for its window (`flush_s`, 10 ms by default), so its lag is also told beyond that window.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Final

from benchmarks import nats_bus, raw_grpc
from benchmarks.counts import Lost
from benchmarks.measure import Options, Row, Stage, Stopwatch, percentile, repeated
from benchmarks.process import NotInstalled
from benchmarks.remote_engine import engine_server
from benchmarks.token_source import Reading, TokenModel, tokens
from laneway import Client, Config, Engine

__all__ = ["BURST", "GAP_S", "PACED", "ROWS", "Ask", "Opener", "asking", "measure", "run", "through"]

GAP_S: Final = 0.020
_PATIENCE_S: Final = 60.0
_WARM_TOKENS: Final = 10
_WINDOW_MS: Final = Config().session.flush_s * 1e3

BURST: Final = "W3 burst"
PACED: Final = "W3 paced"

Ask = Callable[[int, str, Reading], Awaitable[None]]
"""(which stream, what to ask for, where to read to): read one stream to its end."""
Opener = Callable[[Stopwatch, int], AbstractAsyncContextManager[Ask]]


@asynccontextmanager
async def _bare(watch: Stopwatch, streams: int) -> AsyncIterator[Ask]:
    async def produce(asked: Any, queue: asyncio.Queue[str]) -> None:
        async for token in tokens(asked["count"], asked["gap_s"]):
            queue.put_nowait(token)
        queue.put_nowait("")

    async def ask(number: int, request: str, reading: Reading) -> None:
        queue: asyncio.Queue[str] = asyncio.Queue()
        producer = asyncio.create_task(produce(json.loads(request), queue))
        while token := await queue.get():
            reading.take(token)
        await producer

    yield ask


@asynccontextmanager
async def _embedded(watch: Stopwatch, streams: int) -> AsyncIterator[Ask]:
    async with Engine() as engine:
        engine.nlp.use(TokenModel())
        async with asking(engine, "s", streams) as ask:
            yield ask


@asynccontextmanager
async def asking(engine: Engine, names: str, streams: int) -> AsyncIterator[Ask]:
    """Open sessions of an engine in this process, `names` and a number each; yields what reads a run's answer."""
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(engine.session(f"{names}{n}")) for n in range(streams)]

        async def ask(number: int, request: str, reading: Reading) -> None:
            async for event in sessions[number].ask(request):
                reading.take(event.text)

        yield ask


@asynccontextmanager
async def _remote(watch: Stopwatch, streams: int) -> AsyncIterator[Ask]:
    async with engine_server("default") as program, AsyncExitStack() as stack:
        watch.watch("engine", program.pid)
        clients = [
            await stack.enter_async_context(Client(program.address, session=f"s{number}")) for number in range(streams)
        ]

        async def ask(number: int, request: str, reading: Reading) -> None:
            receipt = await clients[number].send(request)
            async for event in clients[number]:
                if event.run == receipt.run:
                    reading.take(event.text)
                    if event.ends_run:
                        return

        yield ask


@asynccontextmanager
async def _raw(watch: Stopwatch, streams: int) -> AsyncIterator[Ask]:
    async with raw_grpc.connected(watch) as channel:
        stream = channel.unary_stream(raw_grpc.method("Tokens"))

        async def ask(number: int, request: str, reading: Reading) -> None:
            async for message in stream(request.encode()):
                reading.take(message.decode())

        yield ask


@asynccontextmanager
async def _nats(watch: Stopwatch, streams: int) -> AsyncIterator[Ask]:
    async with nats_bus.connected(watch) as connection:

        async def ask(number: int, request: str, reading: Reading) -> None:
            over, inbox = asyncio.Event(), connection.new_inbox()

            async def came(message: Any) -> None:
                reading.take(message.data.decode())
                if not message.data:
                    over.set()

            subscription = await connection.subscribe(inbox, cb=came)
            await connection.publish("tokens", request.encode(), reply=inbox)
            await over.wait()
            await subscription.unsubscribe()

        yield ask


ROWS: Final[Mapping[str, Opener]] = {
    "asyncio.Queue": _bare,
    "laneway": _embedded,
    "laneway over gRPC": _remote,
    "raw grpc.aio, one message a token": _raw,
    "nats": _nats,
}


def run(options: Options, status: Callable[[str], None]) -> list[Row]:
    """Measure every row, burst and paced. Raises Lost if a token is missing."""
    rows = []
    for workload, count, gap_s in ((BURST, options.burst_tokens, 0.0), (PACED, options.paced_tokens, GAP_S)):
        for row, opener in ROWS.items():
            status(f"{workload} {row}")
            try:
                rows.append(measure(workload, row, opener, options, count, gap_s))
            except NotInstalled as error:
                status(f"{workload} {row} is left out: {error}")
    return rows


def measure(workload: str, row: str, opener: Opener, options: Options, count: int, gap_s: float) -> Row:
    """Return one row."""
    stage = through(row, opener, options.streams, count, gap_s)
    return repeated(workload, row, stage, options.streams * count, options.repeats, "tokens/s")


def through(row: str, opener: Opener, streams: int, count: int, gap_s: float) -> Stage:
    """Return the streams of one row, `count` tokens each, as a stage to repeat."""

    async def stage(watch: Stopwatch) -> int:
        async with opener(watch, streams) as ask:
            await _read_all(row, ask, streams, _WARM_TOKENS, 0.0)
            with watch:
                readings = await _read_all(row, ask, streams, count, gap_s)
        watch.note(**_figures(readings, windowed=row.startswith("laneway")))
        return sum(len(reading.lags_s) for reading in readings)

    return stage


async def _read_all(row: str, ask: Ask, streams: int, count: int, gap_s: float) -> list[Reading]:
    request = json.dumps({"count": count, "gap_s": gap_s})
    readings: list[Reading] = []

    async def read(number: int) -> None:
        readings.append(reading := Reading())
        await ask(number, request, reading)

    try:
        async with asyncio.timeout(_PATIENCE_S):
            await asyncio.gather(*(read(number) for number in range(streams)))
    except TimeoutError:
        had = sum(len(reading.lags_s) for reading in readings)
        raise Lost(f"{row}: {had} of {streams * count} tokens came within {_PATIENCE_S:g} s") from None
    short = next((len(reading.lags_s) for reading in readings if len(reading.lags_s) != count), None)
    if short is not None:
        raise Lost(f"{row}: a stream ended after {short} of {count} tokens")
    return readings


def _figures(readings: list[Reading], *, windowed: bool) -> dict[str, float]:
    first_ms = [(reading.first_s - reading.asked_s) * 1e3 for reading in readings]
    lags_ms = [lag_s * 1e3 for reading in readings for lag_s in reading.lags_s]
    figures = {
        "first_p50_ms": percentile(first_ms, 0.5),
        "first_p99_ms": percentile(first_ms, 0.99),
        "lag_p50_ms": percentile(lags_ms, 0.5),
        "lag_p99_ms": percentile(lags_ms, 0.99),
    }
    figures["beyond_window_p99_ms"] = max(0.0, figures["lag_p99_ms"] - (_WINDOW_MS if windowed else 0.0))
    return figures
