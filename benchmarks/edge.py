"""Edge: 2,000 users at once on 40 connections, the tool catalogue, and what an open session holds.

Users: each has a session of its own over gRPC, fifty streams to a connection; all open it, say one
thing, and read their whole answer of twenty tokens. Sessions: 10,000 of them stay open over gRPC, and the
engine's process is weighed before and after (resident memory, what the transport holds included).

Law of this file: every user is served and every session welcomed, or there is no figure; the engine runs
with its defaults, in another process.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

from benchmarks import catalogue
from benchmarks.counts import Lost
from benchmarks.measure import Options, Row, Stage, Stopwatch, percentile, repeated
from benchmarks.remote_engine import engine_server
from benchmarks.token_source import Reading
from benchmarks.wire import Item, Wire
from laneway import Client
from laneway.engine.client_dial import CHANNEL_OPTIONS
from laneway.engine.delivery import Event
from laneway.routing.classify import KindTable
from laneway.routing.errors import LanewayError
from laneway.routing.lanes import Lane

__all__ = ["CONNECTIONS", "SESSIONS", "USERS", "resident_bytes", "run", "serve_users", "weigh"]

_T = TypeVar("_T")

CONNECTIONS: Final = 40
TOKENS: Final = 20
USERS: Final = "2,000 users over gRPC"
SESSIONS: Final = "10,000 open sessions over gRPC"

_WARM: Final = 100
_AT_ONCE: Final = 200
_HEARTBEAT_S: Final = 300.0
"""What the weighed sessions wish for: no pings while they are counted."""
_PATIENCE_S: Final = 180.0
_QUIET_S: Final = 1.0
_TOLD: Final = 5
_ESTABLISHED: Final = "01"


def run(options: Options, status: Callable[[str], None]) -> list[Row]:
    """Measure all rows. Raises Lost if a user is not served."""
    rows = catalogue.run(options, status)
    status(f"edge {USERS}")
    rows.append(repeated("edge", USERS, serve_users(options.users), options.users, 1, "per s"))
    status(f"edge {SESSIONS}")
    rows.append(repeated("edge", SESSIONS, weigh(options.sessions), options.sessions, 1, "per s"))
    return rows


def serve_users(count: int, model_tokens: int = TOKENS) -> Stage:
    """Return the stage of all users at once; `model_tokens` is how many each asks for, TOKENS what must come."""

    async def stage(watch: Stopwatch) -> int:
        async with engine_server("default") as program, _channels(program.address) as channels:
            watch.watch("engine", program.pid)
            kinds = KindTable()
            for number, channel in enumerate(channels):
                await _user(Wire(channel, f"warm{number}", kinds), TOKENS)
            with watch:
                wires = [Wire(channels[at % CONNECTIONS], f"user{at}", kinds) for at in range(count)]
                took_s = await _all(USERS, [_user(wire, model_tokens) for wire in wires])
                found = _connections(program.address)
            if found > CONNECTIONS:
                raise Lost(f"{USERS}: {found} TCP connections for {CONNECTIONS} channels")
            took_ms = [each * 1e3 for each in took_s]
            watch.note(success=len(took_s) / count, connections=found)
            watch.note(p50_ms=percentile(took_ms, 0.5), p99_ms=percentile(took_ms, 0.99))
        return len(took_s)

    return stage


async def _user(wire: Wire, tokens: int) -> float:
    """Open, ask, read to the end of the run; return how long it took in seconds. Raises Lost."""
    reading = Reading()
    await _welcomed(USERS, wire)
    ask = json.dumps({"count": tokens, "gap_s": 0.0}).encode()
    await wire.send([Item("USER_MESSAGE", Lane.HIGH, ask)])
    over = False
    while not over:
        frame = await wire.receive()
        if frame is None:
            raise Lost("a user's stream was ended")
        header, came = frame
        if header.get("refused"):
            raise Lost(f"a user's message was refused: {header['refused'][0]}")
        for event in map(Event, came):
            reading.take(event.text)
            over = over or event.ends_run
        await wire.answer()
    if len(reading.lags_s) != TOKENS:
        raise Lost(f"a user's answer had {len(reading.lags_s)} tokens, not {TOKENS}")
    took_s = time.monotonic() - reading.asked_s
    await wire.close()
    return took_s


async def _all(row: str, parts: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Wait for all; one that fails ends the rest."""
    try:
        async with asyncio.timeout(_PATIENCE_S), asyncio.TaskGroup() as group:
            tasks = [group.create_task(part) for part in parts]
    except TimeoutError as error:
        raise Lost(f"{row}: not all were done within {_PATIENCE_S:g} s") from error
    except BaseExceptionGroup as error:
        raise error.exceptions[0] from error
    return [task.result() for task in tasks]


def weigh(count: int) -> Stage:
    """Return the stage that opens `count` sessions, keeps them open, and weighs the engine's process."""

    async def stage(watch: Stopwatch) -> int:
        async with engine_server("default") as program, _channels(program.address) as channels:
            watch.watch("engine", program.pid)
            kinds = KindTable()
            wires: list[Wire] = []
            left = (Wire(channels[at % CONNECTIONS], f"open{at}", kinds) for at in range(count))
            warm = min(_WARM, count // 10)
            await _open(islice(left, warm), wires)
            before = resident_bytes(program.pid)
            with watch:
                await _open(left, wires)
            held_bytes = resident_bytes(program.pid) - before
            attached = (await Client(program.address).call("status"))["sessions"]["links"]
            watch.note(each_kb=held_bytes / (count - warm) / 1e3, connections=_connections(program.address))
            if attached != count or len(wires) != count:
                told = await _lost(wires)
                raise Lost(f"{SESSIONS}: {len(wires)} were opened, and the engine has {attached}; {told}")
        return len(wires)

    return stage


async def _open(left: Iterator[Wire], opened: list[Wire]) -> None:
    """Open sessions, some at once; a stream begins when it is taken from `left`. Raises Lost if one is not welcomed."""

    async def some() -> None:
        for wire in left:
            await _welcomed(SESSIONS, wire, _HEARTBEAT_S)
            opened.append(wire)

    await _all(SESSIONS, [some() for _ in range(_AT_ONCE)])


async def _welcomed(row: str, wire: Wire, heartbeat_s: float = 0.0) -> None:
    """Open a link. Raises Lost: which one was refused, and with which error."""
    try:
        await wire.hello(heartbeat_s)
    except LanewayError as error:
        raise Lost(f"{row}: {wire.session} was not welcomed: {error}") from error


async def _lost(wires: Sequence[Wire]) -> str:
    """Return which of the links that were welcomed are over, and why; at most so many as one reads."""
    found = await asyncio.gather(*(wire.lost(_QUIET_S) for wire in wires))
    over = [f"{wire.session}: {error}" for wire, error in zip(wires, found, strict=True) if error is not None]
    return "; ".join(over[:_TOLD]) or "no link has ended"


@asynccontextmanager
async def _channels(address: str) -> AsyncIterator[list[Any]]:
    """Open the connections; equal channels share none."""
    import grpc.aio

    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(grpc.aio.insecure_channel(address, CHANNEL_OPTIONS))
            for _ in range(CONNECTIONS)
        ]


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a live process (Linux)."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _connections(address: str) -> int:
    """Return how many TCP connections to a port of ours are established (Linux), as the kernel counts them."""
    port = f":{int(address.rpartition(':')[2]):04X}"
    lines = [line for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text("ascii").splitlines()[1:]]
    rows = [line.split() for line in lines]
    return sum(local.endswith(port) and state == _ESTABLISHED for _, local, _, state, *_ in rows)
