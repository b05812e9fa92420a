"""Laneway with client and engine in separate processes, over gRPC on the loopback.

Two clients. The lean one writes and reads frames of 64 as the protocol has them (an agent server or
another host would); the other is `laneway.Client` with one awaited `send_event` per event.

Law of this file: the engine's settings are those of the rows in one process; only the wire is added.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from benchmarks.channels import Opened, Way
from benchmarks.counts import Lost, remote_counts
from benchmarks.measure import Stopwatch
from benchmarks.paths import FRAME_EVENTS, Calls, add_pools, calling
from benchmarks.process import server
from benchmarks.token_source import TokenModel
from benchmarks.tool import wait
from benchmarks.wire import Item, Wire
from benchmarks.workload import KINDS, SESSIONS, Job, open_config
from laneway import Client, Config, Engine
from laneway.engine.client_dial import CHANNEL_OPTIONS
from laneway.routing.classify import KindTable
from laneway.routing.envelope import BODY

__all__ = ["CALLS", "FRAMES", "engine_server", "serving"]


@asynccontextmanager
async def serving(limits: str = "open", store: str = "memory") -> AsyncIterator[str]:
    """The engine's process: every workload's handlers behind one gRPC edge."""
    config = open_config() if limits == "open" else Config()
    async with Engine(config, store=None if store == "memory" else store, kinds=KINDS) as engine:
        add_pools(engine)
        engine.tools.add(wait)
        engine.nlp.use(TokenModel())
        edge = await engine.serve_grpc(port=0)
        yield f"127.0.0.1:{edge.port}"


def engine_server(*arguments: str) -> Any:
    """Run an engine in a process of its own; yields its `Program`."""
    return server("engine", *arguments)


class _Frames:
    """A lean client's stream; its results as bodies."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def send(self, batch: Sequence[Job]) -> None:
        await self._wire.send([Item(*job) for job in batch])

    async def receive(self) -> list[bytes]:
        frame = await self._wire.receive()
        if frame is None:
            raise Lost("the engine ended the stream")
        header, came = frame
        if header.get("refused"):
            raise Lost(f"the engine refused an event: {header['refused'][0]}")
        await self._wire.answer()
        return [received.envelope[BODY] for received in came]


@asynccontextmanager
async def _open_frames(watch: Stopwatch) -> AsyncIterator[Opened]:
    import grpc.aio

    async with engine_server() as program, grpc.aio.insecure_channel(program.address, CHANNEL_OPTIONS) as channel:
        watch.watch("engine", program.pid)
        wires = [Wire(channel, f"s{number}", KindTable(KINDS)) for number in range(SESSIONS)]
        for wire in wires:
            await wire.hello()
        asker = Client(program.address)
        yield Opened([_Frames(wire) for wire in wires], lambda: remote_counts(asker))
        for wire in wires:
            await wire.close()


@asynccontextmanager
async def _open_calls(watch: Stopwatch) -> AsyncIterator[Opened]:
    kinds = KindTable(KINDS)
    async with engine_server() as program, AsyncExitStack() as stack:
        watch.watch("engine", program.pid)
        clients = [
            await stack.enter_async_context(Client(program.address, session=f"s{number}", kinds=kinds))
            for number in range(SESSIONS)
        ]
        channels = [Calls(client) for client in clients]
        async with calling(channels):
            yield Opened(channels, lambda: remote_counts(clients[0]))


FRAMES: Final = Way("laneway over gRPC, frames of 64", _open_frames, frame=FRAME_EVENTS)
CALLS: Final = Way("laneway over gRPC, one call each", _open_calls)
