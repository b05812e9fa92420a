"""Bare grpc.aio with the same bodies: what the transport costs, without anything that laneway does.

Server and client are separate processes. `Frames` echoes frames of events through the three handlers
in order; the unary methods take one event, one call or one number each; `Tokens` streams one token
per message.

Law of this file: no admission, no sessions, no resume, no journal; msgpack where something must be
told apart, as laneway has it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import msgpack

from benchmarks.channels import Opened, Way
from benchmarks.measure import Stopwatch
from benchmarks.paths import FRAME_EVENTS
from benchmarks.process import server
from benchmarks.token_source import tokens
from benchmarks.tool import wait
from benchmarks.workload import IN_FLIGHT, POOLS, SESSIONS, Job

__all__ = ["FRAMES", "MESSAGES", "UNARY", "serving"]

_SERVICE: Final = "bench.Raw"
_ROOM: Final = (("grpc.server.max_pending_requests", 4096), ("grpc.server.max_pending_requests_hard_limit", 8192))
"""By default a server cancels calls at random once a thousand wait."""


async def _echo(body: bytes) -> bytes:
    return body


_HANDLERS: Final = {kind: _echo for kinds in POOLS.values() for kind in kinds}


async def _frames(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield msgpack.packb([await _HANDLERS[kind](body) for kind, body in msgpack.unpackb(request)])


async def _one(request: bytes, context: Any) -> bytes:
    return await _echo(request)


async def _call(request: bytes, context: Any) -> bytes:
    return b"%d" % await wait(int(request))


async def _tokens(request: bytes, context: Any) -> AsyncIterator[bytes]:
    asked = json.loads(request)
    async for token in tokens(asked["count"], asked["gap_s"]):
        yield token.encode()


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """The server's process."""
    import grpc.aio

    methods = {
        "Frames": grpc.stream_stream_rpc_method_handler(_frames),
        "Call": grpc.unary_unary_rpc_method_handler(_call),
        "Tokens": grpc.unary_stream_rpc_method_handler(_tokens),
        **{kind: grpc.unary_unary_rpc_method_handler(_one) for kind in _HANDLERS},
    }
    grpc_server = grpc.aio.server(options=_ROOM)
    grpc_server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_SERVICE, methods)])
    port = grpc_server.add_insecure_port("127.0.0.1:0")
    await grpc_server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await grpc_server.stop(1.0)


@asynccontextmanager
async def connected(watch: Stopwatch) -> AsyncIterator[Any]:
    """Run the server and yield a channel to it."""
    import grpc.aio

    async with server("grpc") as program, grpc.aio.insecure_channel(program.address) as channel:
        watch.watch("server", program.pid)
        await channel.channel_ready()
        yield channel


def method(name: str) -> str:
    """Return the full name of a method."""
    return f"/{_SERVICE}/{name}"


class _Stream:
    """One bidirectional call; each frame's bodies come back in one frame."""

    def __init__(self, channel: Any) -> None:
        self._call = channel.stream_stream(method("Frames"))()

    async def send(self, batch: Sequence[Job]) -> None:
        await self._call.write(msgpack.packb([(job.kind, job.body) for job in batch]))

    async def receive(self) -> list[bytes]:
        bodies: list[bytes] = msgpack.unpackb(await self._call.read())
        return bodies

    async def close(self) -> None:
        await self._call.done_writing()


def _frames_way(row: str, frame: int) -> Way:
    @asynccontextmanager
    async def open_(watch: Stopwatch) -> AsyncIterator[Opened]:
        async with connected(watch) as channel:
            streams = [_Stream(channel) for _ in range(SESSIONS)]
            yield Opened(streams)
            for stream in streams:
                await stream.close()

    return Way(row, open_, frame=frame)


class _Unary:
    """A unary call per event, by as many tasks as may be in flight."""

    def __init__(self, channel: Any) -> None:
        self._methods = {kind: channel.unary_unary(method(kind)) for kind in _HANDLERS}
        self._jobs: asyncio.Queue[Job] = asyncio.Queue()
        self._came: list[bytes] = []
        self._news = asyncio.Event()

    async def send(self, batch: Sequence[Job]) -> None:
        for job in batch:
            self._jobs.put_nowait(job)

    async def receive(self) -> list[bytes]:
        await self._news.wait()
        self._news.clear()
        came, self._came = self._came, []
        return came

    async def work(self) -> None:
        while True:
            job = await self._jobs.get()
            body = await self._methods[job.kind](job.body)
            self._came.append(body)  # after the wait: `receive` takes the list away meanwhile
            self._news.set()


@asynccontextmanager
async def _open_unary(watch: Stopwatch) -> AsyncIterator[Opened]:
    async with connected(watch) as channel:
        unary = _Unary(channel)
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(unary.work()) for _ in range(IN_FLIGHT)]
            yield Opened([unary])
            for worker in workers:
                worker.cancel()


FRAMES: Final = _frames_way("raw grpc.aio, frames of 64", FRAME_EVENTS)
MESSAGES: Final = _frames_way("raw grpc.aio, one event a message", 1)
UNARY: Final = Way("raw grpc.aio, one unary call each", _open_unary)
