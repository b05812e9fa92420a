"""Two regions: how soon an edit made beside a document's home is in a replica 80 ms away, and the other way round.

The engine is a process of its own behind gRPC. The far client's connection passes a relay that holds every byte
for 80 ms, each way and in order. Edits come one by one, each after a silence: the first after silence is to go at once.

Law of this file: an edit counts from the moment at which its author's client is given it to the moment at which
the other's replica has it; if the two differ at the end, there is no figure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

from benchmarks.counts import Lost
from benchmarks.measure import Stage, Stopwatch, percentile
from benchmarks.process import server
from laneway import Client
from laneway.engine.documents.replica import Replica

__all__ = ["APART_S", "REGIONS", "regions", "relay"]

APART_S: Final = 0.080
REGIONS: Final = f"an edit and a replica {APART_S * 1e3:.0f} ms apart"

_NAME: Final = "notes"
_SILENCE_S: Final = 0.2
_PATIENCE_S: Final = 20.0


@asynccontextmanager
async def relay(address: str, hold_s: float) -> AsyncIterator[str]:
    """Pass bytes to and from `address`, each `hold_s` seconds later; yields where to connect."""
    host, _, port = address.rpartition(":")
    pumps: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        with suppress(ConnectionError):  # the other side has gone, which is how each of these ends
            while data := await reader.read(65_536):
                loop.call_later(hold_s, writer.write, data)
        loop.call_later(hold_s, _end, writer)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(host, int(port))
        writers.extend((writer, there[1]))
        for one, other in ((reader, there[1]), (there[0], writer)):
            pumps.add(asyncio.get_running_loop().create_task(pump(one, other)))

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        listener.close()
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for each in writers:
            each.close()


def _end(writer: asyncio.StreamWriter) -> None:
    """One direction is over; the other one goes on."""
    if not writer.is_closing():
        writer.write_eof()


class _Region:
    """A client and its replica."""

    def __init__(self, client: Client) -> None:
        self.replica = Replica(_NAME)
        self._client = client
        self._changed = asyncio.Event()

    async def follow(self) -> None:
        """Keep the replica as the home tells."""
        await self._send(self.replica.hello())
        async for event in self._client:
            if event.kind == "DOC_SYNC":
                for body in self.replica.receive(event.body):
                    await self._send(body)
                self._changed.set()

    async def _send(self, body: bytes) -> None:
        await self._client.send_event("DOC_SYNC", body, entity=_NAME)

    async def type(self, char: str) -> None:
        """Add a character; returns once the home has it."""
        self.replica.insert_text(len(self.replica.text()), char)
        for body in self.replica.changes():
            await self._send(body)

    async def until(self, text: str) -> float:
        """Wait until the replica says so; returns when."""
        while self.replica.text() != text:
            self._changed.clear()
            await self._changed.wait()
        return time.perf_counter()


def regions(rounds: int, apart_s: float = APART_S) -> Stage:
    """Return the stage: `rounds` edits, made near and far by turns."""

    async def stage(watch: Stopwatch) -> int:
        async with AsyncExitStack() as stack:
            program = await stack.enter_async_context(server("engine"))
            watch.watch("engine", program.pid)
            far_address = await stack.enter_async_context(relay(program.address, apart_s))
            sides = [
                _Region(await stack.enter_async_context(Client(address, session=f"region{number}")))
                for number, address in enumerate((program.address, far_address))
            ]
            following = [asyncio.create_task(side.follow()) for side in sides]
            try:
                await asyncio.sleep(10 * apart_s)
                with watch:
                    late_s = [await _one(sides[at % 2], sides[1 - at % 2], at) for at in range(rounds)]
            finally:
                for task in following:
                    task.cancel()
                await asyncio.gather(*following, return_exceptions=True)
        near, far = (percentile(late_s[first::2], 0.5) * 1e3 for first in (0, 1))
        watch.note(p50_ms=percentile(late_s, 0.5) * 1e3, p99_ms=percentile(late_s, 0.99) * 1e3)
        watch.note(near_p50_ms=near, far_p50_ms=far)
        return len(late_s)

    return stage


async def _one(author: _Region, reader: _Region, number: int) -> float:
    """Make one edit after a silence; returns how long it took to the other side. Raises Lost if it does not come."""
    await asyncio.sleep(_SILENCE_S)
    char = "abcdefghij"[number % 10]
    text = author.replica.text() + char
    begun = time.perf_counter()
    typing = asyncio.create_task(author.type(char))
    try:
        async with asyncio.timeout(_PATIENCE_S):
            at = await reader.until(text)
            await typing
    except TimeoutError:
        raise Lost(f"{REGIONS}: edit {number} did not come") from None
    return at - begun
