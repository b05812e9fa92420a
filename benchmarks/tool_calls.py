"""W2: 2,000 tool calls that wait 5 ms, 256 at once; the theoretical limit is 3.07 million a minute.

Law of this file: every call has a number, and its answer must be that number; the engine's own books
must name as many calls as were made. Laneway's rows use eight sessions and the default settings: the
tool has effects as far as the engine knows, so each call is in the ledger before and after.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import nats_bus, raw_grpc
from benchmarks.counts import Counts, Lost, engine_counts, no_stages, remote_counts, require
from benchmarks.measure import Options, Row, Stage, Stopwatch, percentile, repeated
from benchmarks.process import NotInstalled
from benchmarks.remote_engine import engine_server
from benchmarks.tool import wait
from benchmarks.workload import SESSIONS
from laneway import Client, Engine
from laneway.engine.app.embedded import EmbeddedSession
from laneway.engine.codec import pack_body

__all__ = ["AT_ONCE", "ROWS", "Opened", "Opener", "calls_to", "measure", "run", "through"]

AT_ONCE: Final = 256
_TIMEOUT_S: Final = 30.0

Call = Callable[[int], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Opened:
    """How to make a call, and what the engine has counted."""

    call: Call
    counts: Counts = no_stages


Opener = Callable[[Stopwatch], AbstractAsyncContextManager[Opened]]


@asynccontextmanager
async def _bare(watch: Stopwatch) -> AsyncIterator[Opened]:
    yield Opened(wait)


def _embedded(*, sqlite: bool) -> Opener:
    @asynccontextmanager
    async def open_(watch: Stopwatch) -> AsyncIterator[Opened]:
        with tempfile.TemporaryDirectory(prefix="laneway-bench-") as directory:
            async with Engine(store=Path(directory) / "log.db" if sqlite else None) as engine:
                engine.tools.add(wait)
                async with calls_to(engine, "s") as call:
                    yield Opened(call, lambda: engine_counts(engine, sessions=False))

    return open_


@asynccontextmanager
async def calls_to(engine: Engine, names: str) -> AsyncIterator[Call]:
    """Open sessions of an engine in this process, `names` and a number each; yields what calls the tool."""
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        entered = [await stack.enter_async_context(engine.session(f"{names}{n}")) for n in range(SESSIONS)]
        desks = [_Desk(session) for session in entered]
        readers = [group.create_task(desk.read()) for desk in desks]
        yield lambda number: desks[number % SESSIONS].call(number)
        for reader in readers:
            reader.cancel()


class _Desk:
    """Calls of one session inside the engine's process, and their answers."""

    def __init__(self, session: EmbeddedSession) -> None:
        self._session = session
        self._waiting: dict[str, asyncio.Future[Mapping[str, Any]]] = {}
        self._ids = itertools.count()

    async def call(self, number: int) -> int:
        call_id = f"call-{next(self._ids)}"
        answer = self._waiting[call_id] = asyncio.get_running_loop().create_future()
        body = pack_body({"name": "wait", "arguments": {"number": number}, "call_id": call_id})
        await self._session.send_event("TOOL_CALL", body, entity=call_id, run=call_id)
        return _value(await answer)

    async def read(self) -> None:
        async for event in self._session:
            if event.kind == "TOOL_CALL_RESULT":
                self._waiting.pop(event.entity).set_result(event.data)


def _value(result: Mapping[str, Any]) -> int:
    return int(json.loads(result["content"]))


def _remote(*, sqlite: bool) -> Opener:
    @asynccontextmanager
    async def open_(watch: Stopwatch) -> AsyncIterator[Opened]:
        with tempfile.TemporaryDirectory(prefix="laneway-bench-") as directory:
            store = str(Path(directory) / "log.db") if sqlite else "memory"
            async with engine_server("default", store) as program, _clients(program.address) as clients:
                watch.watch("engine", program.pid)

                async def call(number: int) -> int:
                    return _value(await clients[number % SESSIONS].call_tool("wait", {"number": number}))

                yield Opened(call, lambda: remote_counts(clients[0], sessions=False))

    return open_


@asynccontextmanager
async def _clients(address: str) -> AsyncIterator[list[Client]]:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(address, session=f"s{n}")) for n in range(SESSIONS)]
        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(_drain(client)) for client in clients]
            yield clients
            for reader in readers:
                reader.cancel()


async def _drain(client: Client) -> None:
    async for _ in client:
        pass


@asynccontextmanager
async def _raw(watch: Stopwatch) -> AsyncIterator[Opened]:
    async with raw_grpc.connected(watch) as channel:
        ask = channel.unary_unary(raw_grpc.method("Call"))

        async def call(number: int) -> int:
            return int(await ask(b"%d" % number))

        yield Opened(call)


@asynccontextmanager
async def _nats(watch: Stopwatch) -> AsyncIterator[Opened]:
    async with nats_bus.connected(watch) as connection:

        async def call(number: int) -> int:
            return int((await connection.request("call", b"%d" % number, timeout=_TIMEOUT_S)).data)

        yield Opened(call)


ROWS: Final[Mapping[str, Opener]] = {
    "asyncio": _bare,
    "laneway": _embedded(sqlite=False),
    "laneway, sqlite": _embedded(sqlite=True),
    "laneway over gRPC": _remote(sqlite=False),
    "laneway over gRPC, sqlite": _remote(sqlite=True),
    "raw grpc.aio": _raw,
    "nats": _nats,
}


def run(options: Options, status: Callable[[str], None]) -> list[Row]:
    """Measure every row. Raises Lost if an answer is wrong or missing."""
    rows = []
    for row, opener in ROWS.items():
        status(f"W2 {row}")
        try:
            rows.append(measure(row, opener, options))
        except NotInstalled as error:
            status(f"W2 {row} is left out: {error}")
    return rows


def measure(row: str, opener: Opener, options: Options) -> Row:
    """Return one row."""
    return repeated("W2", row, through(row, opener, options), options.calls, options.repeats, "calls/s")


def through(row: str, opener: Opener, options: Options) -> Stage:
    """Return the calls of one row, as a stage to repeat."""

    async def stage(watch: Stopwatch) -> int:
        async with opener(watch) as opened:
            await _calls(row, opened.call, AT_ONCE)
            before = await opened.counts()
            with watch:
                took_s = await _calls(row, opened.call, options.calls)
            await require(row, opened.counts, options.calls, before)
        watch.note(p50_ms=percentile(took_s, 0.5) * 1e3, p99_ms=percentile(took_s, 0.99) * 1e3)
        return len(took_s)

    return stage


async def _calls(row: str, call: Call, count: int) -> list[float]:
    """Make `count` calls, `AT_ONCE` at a time; returns what each took."""
    numbers, took_s = iter(range(count)), list[float]()

    async def caller() -> None:
        for number in numbers:
            begun = time.monotonic()
            answer = await call(number)
            if answer != number:
                raise Lost(f"{row}: call {number} was answered {answer}")
            took_s.append(time.monotonic() - begun)

    async with asyncio.timeout(2 * _TIMEOUT_S), asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(caller())
    return took_s
