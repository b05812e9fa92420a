"""nats-server and nats-py with the same bodies: handlers in another process, core NATS (nothing kept).

Law of this file: one subject per handler, one message per event, the answer to the message's own reply
subject; a `request` per tool call; one message per token. The broker's processor time counts too.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from benchmarks.channels import Opened, Way
from benchmarks.measure import Stopwatch
from benchmarks.process import NotInstalled, nats_server, server
from benchmarks.token_source import tokens
from benchmarks.tool import wait
from benchmarks.workload import POOLS, Job

__all__ = ["EVENTS", "connected", "serving"]

_PENDING_BYTES: Final = 64 * 1024 * 1024


async def connect(address: str) -> Any:
    """Return a connection."""
    try:
        import nats
    except ImportError:
        raise NotInstalled("nats-py is not installed") from None
    return await nats.connect(address, pending_size=_PENDING_BYTES)


@asynccontextmanager
async def serving(address: str) -> AsyncIterator[str]:
    """The handlers' process."""
    connection = await connect(address)
    running: set[asyncio.Task[None]] = set()

    async def echo(message: Any) -> None:
        await connection.publish(message.reply, message.data)

    def at_once(handle: Any) -> Any:
        async def start(message: Any) -> None:
            task = asyncio.create_task(handle(message))
            running.add(task)
            task.add_done_callback(running.discard)

        return start

    async def call(message: Any) -> None:
        await connection.publish(message.reply, b"%d" % await wait(int(message.data)))

    async def stream(message: Any) -> None:
        asked = json.loads(message.data)
        async for token in tokens(asked["count"], asked["gap_s"]):
            await connection.publish(message.reply, token.encode())
        await connection.publish(message.reply, b"")

    for pool in POOLS:
        await connection.subscribe(pool, cb=echo)
    await connection.subscribe("call", cb=at_once(call))
    await connection.subscribe("tokens", cb=at_once(stream))
    await connection.flush()
    try:
        yield address
    finally:
        await connection.close()


@asynccontextmanager
async def connected(watch: Stopwatch) -> AsyncIterator[Any]:
    """Run broker and handlers; yield a connection. Raises NotInstalled."""
    async with nats_server() as broker, server("nats", broker.address) as handlers:
        watch.watch("nats_server", broker.pid)
        watch.watch("handlers", handlers.pid)
        connection = await connect(broker.address)
        try:
            yield connection
        finally:
            await connection.close()


class _Subjects:
    """A subject per handler, one for all answers."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._subject = {kind: pool for pool, kinds in POOLS.items() for kind in kinds}
        self._inbox = connection.new_inbox()
        self._came: list[bytes] = []
        self._news = asyncio.Event()

    async def listen(self) -> None:
        await self._connection.subscribe(self._inbox, cb=self._answered)
        await self._connection.flush()

    async def _answered(self, message: Any) -> None:
        self._came.append(message.data)
        self._news.set()

    async def send(self, batch: Sequence[Job]) -> None:
        for job in batch:
            await self._connection.publish(self._subject[job.kind], job.body, reply=self._inbox)

    async def receive(self) -> list[bytes]:
        await self._news.wait()
        self._news.clear()
        came, self._came = self._came, []
        return came


@asynccontextmanager
async def _open_events(watch: Stopwatch) -> AsyncIterator[Opened]:
    async with connected(watch) as connection:
        subjects = _Subjects(connection)
        await subjects.listen()
        yield Opened([subjects])


EVENTS: Final = Way("nats", _open_events)
