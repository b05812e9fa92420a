"""Both ends of one stream behave alike: frames, the end, a break, a cancelled reader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from laneway.engine.peer.wires import AcceptedWire, DialledWire


@asynccontextmanager
async def wires() -> AsyncIterator[tuple[AcceptedWire, DialledWire, grpc.aio.Server]]:
    """Both ends of a stream between a server and a client of this process."""
    accepted: asyncio.Future[AcceptedWire] = asyncio.get_running_loop().create_future()

    async def serve(_requests: object, context: Any) -> None:
        accepted.set_result(wire := AcceptedWire(context))
        await wire.over.wait()

    server = grpc.aio.server()
    handlers = {"Open": grpc.stream_stream_rpc_method_handler(serve)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Wire", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with asyncio.timeout(60), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            dialled = DialledWire(channel.stream_stream("/test.Wire/Open")())
            yield await accepted, dialled, server
    finally:
        await server.stop(None)


def test_frames_go_both_ways() -> None:
    """Each end reads what the other wrote."""

    async def scenario() -> None:
        async with wires() as (accepted, dialled, _):
            await accepted.write(b"down")
            await dialled.write(b"up")
            assert (await dialled.read(), await accepted.read()) == (b"down", b"up")

    asyncio.run(scenario())


def test_an_ended_stream_reads_as_its_end() -> None:
    """When the accepting side ends it, the other side reads None; its writes are ConnectionErrors."""

    async def scenario() -> None:
        async with wires() as (accepted, dialled, _):
            accepted.end()
            assert await dialled.read() is None
            with pytest.raises(ConnectionError):
                await dialled.write(b"late")

    asyncio.run(scenario())


def test_a_cancelled_call_breaks_at_both_ends() -> None:
    """When the dialling side ends it, pending reads end at both ends, and writes are ConnectionErrors."""

    async def scenario() -> None:
        async with wires() as (accepted, dialled, _):
            readers = [asyncio.create_task(_read(wire)) for wire in (accepted, dialled)]
            await asyncio.sleep(0)
            dialled.end()
            dialled.end()
            assert await asyncio.gather(*readers) == [None, None]
            for wire in (accepted, dialled):
                with pytest.raises(ConnectionError):
                    await _write_on(wire)

    asyncio.run(scenario())


async def _write_on(wire: Any) -> None:
    while True:
        await wire.write(b"late")


async def _read(wire: Any) -> bytes | None:
    try:
        return await wire.read()
    except ConnectionError:
        return None


def test_a_server_that_goes_breaks_the_stream() -> None:
    """A pending read of the client raises ConnectionError with the status."""

    async def scenario() -> None:
        async with wires() as (_, dialled, server):
            reader = asyncio.create_task(dialled.read())
            await asyncio.sleep(0)
            await server.stop(None)
            with pytest.raises(ConnectionError, match=r"UNAVAILABLE|CANCELLED"):
                await reader

    asyncio.run(scenario())


def test_a_cancelled_reader_is_cancelled() -> None:
    """Cancelling the task that reads is not taken for a broken stream."""

    async def scenario() -> None:
        async with wires() as (_, dialled, _):
            reader = asyncio.create_task(dialled.read())
            await asyncio.sleep(0.01)
            reader.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reader

    asyncio.run(scenario())
