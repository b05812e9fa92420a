"""Laneway with client and engine in separate processes, over gRPC on the loopback.

Two clients. The lean one writes and reads frames of 64 as the protocol has them (an agent server or
another host would); the other is `laneway.Client` with one awaited `send_event` per event.

Law of this file: the engine's settings are those of the rows in one process; only the wire is added.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from benchmarks.channels import Opened, Way
from benchmarks.counts import Lost, remote_counts
from benchmarks.measure import Stopwatch
from benchmarks.paths import FRAME_EVENTS, add_pools
from benchmarks.process import server
from benchmarks.token_source import TokenModel
from benchmarks.tool import wait
from benchmarks.workload import IN_FLIGHT, KINDS, SESSIONS, Job, open_config
from laneway import Client, Config, Engine
from laneway.engine.client_dial import CHANNEL_OPTIONS
from laneway.engine.codec import decode_frame, encode_frame, pack_envelope, unpack_envelope
from laneway.engine.proto.message import SESSION_METHOD, unwrap, wrap
from laneway.routing.classify import KindTable
from laneway.routing.envelope import BODY, envelope
from laneway.routing.inbox import Inbox

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


class _Wire:
    """One stream of one session, frames as the protocol has them."""

    def __init__(self, channel: Any, session: str) -> None:
        self._call = channel.stream_stream(SESSION_METHOD)()
        self._session = session
        self._kinds = KindTable(KINDS)
        self._inbox = Inbox()
        self._counter = 0
        self._writing = asyncio.Lock()  # a call takes one write at a time; acks come in between

    async def hello(self) -> None:
        """Open the link."""
        hello = {"v": [1], "client": "bench", "session": self._session, "caps": {"grants": True}}
        await self._write({"hello": hello}, [])
        await self.receive()

    async def send(self, batch: Sequence[Job]) -> None:
        now, items = time.monotonic(), []
        for job in batch:
            self._counter += 1
            env = envelope(
                job.kind,
                producer="bench",
                counter=self._counter,
                tenant="",
                session="",
                lane=job.lane,
                body=job.body,
            )
            items.append(pack_envelope(env, now, self._kinds))
        await self._write({}, items)

    async def receive(self) -> list[bytes]:
        header, items = decode_frame(unwrap(await self._call.read()))
        now = time.monotonic()
        came = self._inbox.receive(header, [unpack_envelope(item, now, self._kinds) for item in items], now)
        if header.get("refused"):
            raise Lost(f"the engine refused an event: {header['refused'][0]}")
        answer = self._inbox.ack_due(now) or {}
        if "ping" in header:
            answer["pong"] = header["ping"]
        if answer:
            await self._write(answer, [])
        return [received.envelope[BODY] for received in came]

    async def close(self) -> None:
        """Leave."""
        await self._write({"bye": True}, [])
        await self._call.done_writing()

    async def _write(self, header: dict[str, Any], items: list[bytes]) -> None:
        async with self._writing:
            await self._call.write(wrap(encode_frame(header, items)))


@asynccontextmanager
async def _open_frames(watch: Stopwatch) -> AsyncIterator[Opened]:
    import grpc.aio

    async with engine_server() as program, grpc.aio.insecure_channel(program.address, CHANNEL_OPTIONS) as channel:
        watch.watch("engine", program.pid)
        wires = [_Wire(channel, f"s{number}") for number in range(SESSIONS)]
        for wire in wires:
            await wire.hello()
        asker = Client(program.address)
        yield Opened(wires, lambda: remote_counts(asker))
        for wire in wires:
            await wire.close()


class _Calls:
    """One `laneway.Client`, one awaited `send_event` per event, by as many tasks as may be in flight."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._jobs: asyncio.Queue[Job] = asyncio.Queue()

    async def send(self, batch: Sequence[Job]) -> None:
        for job in batch:
            self._jobs.put_nowait(job)

    async def receive(self) -> list[bytes]:
        return [(await anext(self.client)).body]

    async def work(self) -> None:
        while True:
            job = await self._jobs.get()
            await self.client.send_event(job.kind, job.body)


@asynccontextmanager
async def _open_calls(watch: Stopwatch) -> AsyncIterator[Opened]:
    kinds = KindTable(KINDS)
    async with engine_server() as program, AsyncExitStack() as stack:
        watch.watch("engine", program.pid)
        channels = [
            _Calls(await stack.enter_async_context(Client(program.address, session=f"s{number}", kinds=kinds)))
            for number in range(SESSIONS)
        ]
        async with asyncio.TaskGroup() as group:
            senders = [group.create_task(one.work()) for one in channels for _ in range(IN_FLIGHT // SESSIONS)]
            yield Opened(channels, lambda: remote_counts(channels[0].client))
            for sender in senders:
                sender.cancel()


FRAMES: Final = Way("laneway over gRPC, frames of 64", _open_frames, frame=FRAME_EVENTS)
CALLS: Final = Way("laneway over gRPC, one call each", _open_calls)
