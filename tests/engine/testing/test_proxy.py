"""The cruel proxy: what each of its cruelties does to a connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from laneway.engine.testing.proxy import Proxy


@asynccontextmanager
async def echoing() -> AsyncIterator[Proxy]:
    """A proxy in front of a server that sends everything back."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while block := await reader.read(4096):
                writer.write(block)
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Proxy(server.sockets[0].getsockname()[1]) as proxy, asyncio.timeout(60):
        yield proxy


async def connect(proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def sent_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bytes:
    writer.write(data)
    return await reader.readexactly(len(data))


def test_it_forwards_and_counts() -> None:
    """Bytes pass both ways unchanged and are counted."""

    async def main() -> None:
        async with echoing() as proxy:
            reader, writer = await connect(proxy)
            data = bytes(range(256)) * 64
            assert await sent_back(reader, writer, data) == data
            assert (proxy.up_bytes, proxy.connections, proxy.cuts) == (len(data), 1, 0)
            writer.close()

    asyncio.run(main())


def test_a_cut_is_a_reset() -> None:
    """`cut` ends every connection with RST; the next one works."""

    async def main() -> None:
        async with echoing() as proxy:
            pairs = [await connect(proxy) for _ in range(2)]
            for reader, writer in pairs:
                assert await sent_back(reader, writer, b"hello") == b"hello"
            assert proxy.cut() == 2
            for reader, writer in pairs:
                with pytest.raises(ConnectionResetError):
                    await reader.readexactly(1)
                writer.close()
            reader, writer = await connect(proxy)
            assert await sent_back(reader, writer, b"again") == b"again"
            assert proxy.cuts == 2
            writer.close()

    asyncio.run(main())


def test_a_cut_after_so_many_bytes() -> None:
    """`cut_after` lets at least so many more bytes through to clients, then cuts once."""

    async def main() -> None:
        async with echoing() as proxy:
            reader, writer = await connect(proxy)
            proxy.cut_after(10_000)
            writer.write(bytes(100_000))
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(100_001)
            assert (proxy.down_bytes >= 10_000, proxy.cuts) == (True, 1)
            writer.close()

    asyncio.run(main())


def test_a_swallowed_answer_never_comes() -> None:
    """What the client sent has arrived, what comes back is lost with the connection; the next one works."""

    async def main() -> None:
        async with echoing() as proxy:
            proxy.swallow()
            reader, writer = await connect(proxy)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await sent_back(reader, writer, b"lost")
            assert (proxy.up_bytes, proxy.down_bytes, proxy.cuts) == (4, 0, 1)
            writer.close()
            reader, writer = await connect(proxy)
            assert await sent_back(reader, writer, b"found") == b"found"
            writer.close()

    asyncio.run(main())


def test_a_stall_holds_bytes_back_and_loses_none() -> None:
    """While stalled nothing passes and nothing is closed; `resume` lets it all through."""

    async def main() -> None:
        async with echoing() as proxy:
            reader, writer = await connect(proxy)
            assert await sent_back(reader, writer, b"before") == b"before"
            proxy.stall()
            writer.write(b"during")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await reader.read(1)
            proxy.resume()
            assert await reader.readexactly(6) == b"during"
            writer.close()

    asyncio.run(main())


def test_one_direction_stalls_alone() -> None:
    """With the way back stalled the server still gets everything, and its answer comes with `resume`."""

    async def main() -> None:
        async with echoing() as proxy:
            reader, writer = await connect(proxy)
            assert await sent_back(reader, writer, b"before") == b"before"
            proxy.stall(up=False)
            writer.write(b"during")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await reader.read(1)
            assert proxy.up_bytes == len(b"beforeduring")
            assert proxy.down_bytes == len(b"before")
            proxy.resume()
            assert await reader.readexactly(6) == b"during"
            writer.close()

    asyncio.run(main())


def test_refusing_and_retargeting() -> None:
    """New connections are reset while it refuses; a target that is gone is a reset as well."""

    async def main() -> None:
        async with echoing() as proxy:
            proxy.refuse()
            with pytest.raises(ConnectionError):
                await sent_back(*await connect(proxy), b"x")
            proxy.refuse(False)
            free = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
            port = free.sockets[0].getsockname()[1]
            free.close()
            await free.wait_closed()
            proxy.retarget(port)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await sent_back(*await connect(proxy), b"x")

    asyncio.run(main())


def test_a_throttled_connection_still_brings_everything() -> None:
    """`throttle` slows down and loses nothing."""

    async def main() -> None:
        async with echoing() as proxy:
            proxy.throttle(400_000)
            reader, writer = await connect(proxy)
            data = bytes(20_000)
            assert await sent_back(reader, writer, data) == data
            writer.close()

    asyncio.run(main())
