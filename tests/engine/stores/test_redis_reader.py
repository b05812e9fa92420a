"""Reads on a connection of their own."""

from __future__ import annotations

import asyncio

import pytest

from laneway.engine.stores.redis_address import Address
from laneway.engine.stores.redis_reader import Reader
from laneway.engine.stores.redis_standing import Mark, Standing, fresh_name
from laneway.engine.stores.redis_wire import Wire
from laneway.engine.testing.proxy import Proxy
from laneway.routing.errors import StoreError
from tests.redis_server import RedisServer


class Reading:
    """A reader over a proxy, and what a writer would do for it."""

    def __init__(self, server: RedisServer, port: int) -> None:
        self.server = server
        self.address = Address.parse(f"redis://127.0.0.1:{port}")
        self.standing = Standing(fresh_name(), False)
        self.entered = 0
        self.reader: Reader

    async def enter(self) -> None:
        self.entered += 1
        wire = Wire(self.address, connect_s=5.0, answer_s=5.0)
        await wire.open()
        await self.standing.make(wire, Mark(fresh_name()))
        await wire.close()

    def put(self, key: str, value: str) -> None:
        self.server.command("HSET", f"{self.standing.prefix}:value:{key}", "v", 1, "b", value)

    async def __aenter__(self) -> Reading:
        await self.enter()
        self.reader = Reader(Wire(self.address, connect_s=5.0, answer_s=5.0), self.standing, self.enter, answer_s=5.0)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.reader.close(5.0)


def test_reads_pass_over_a_connection_that_breaks(server: RedisServer) -> None:
    """Whether before they are sent or on their way back; each gets its own answer."""

    async def main() -> None:
        async with Proxy(server.port) as proxy, Reading(server, proxy.port) as reading:
            for number in range(20):
                reading.put(f"v{number}", f"value {number}")
            for _ in range(3):
                wanted = [[b"1", b"value %d" % number] for number in range(20)]
                assert await asyncio.gather(*(reading.reader.ask("value", f"v{n}") for n in range(20))) == wanted
                proxy.cut()
                assert await reading.reader.ask("value", "v1") == wanted[1]
                proxy.swallow()
                assert await reading.reader.ask("value", "v2") == wanted[2]
            assert reading.entered == 1

    asyncio.run(main())


def test_a_store_that_was_emptied_is_not_read_as_if_nothing_had_been_there(server: RedisServer) -> None:
    """The writer enters it anew, which says so in the log; then the read goes on in the new store."""

    async def main() -> None:
        async with Reading(server, server.port) as reading:
            reading.put("v", "value")
            assert await reading.reader.ask("value", "v") == [b"1", b"value"]
            known = reading.standing.id
            server.command("DEL", f"{reading.standing.prefix}:store", f"{reading.standing.prefix}:value:v")
            assert await reading.reader.ask("value", "v") == [None, None]
            assert reading.entered == 2
            assert reading.standing.id != known

    asyncio.run(main())


def test_a_read_that_fails_is_its_own(server: RedisServer) -> None:
    """Somebody else's key; the neighbour is answered."""

    async def main() -> None:
        async with Reading(server, server.port) as reading:
            server.command("SET", f"{reading.standing.prefix}:value:bad", "x")
            reading.put("good", "value")
            bad, good = reading.reader.ask("value", "bad"), reading.reader.ask("value", "good")
            failed, found = await asyncio.gather(bad, good, return_exceptions=True)
            assert isinstance(failed, StoreError)
            assert "WRONGTYPE" in failed.message
            assert found == [b"1", b"value"]

    asyncio.run(main())


def test_scripts_that_the_server_forgot_are_sent_again(server: RedisServer) -> None:
    """SCRIPT FLUSH under way is not noticed outside."""

    async def main() -> None:
        async with Reading(server, server.port) as reading:
            server.command("SCRIPT", "FLUSH")
            assert await reading.reader.ask("value", "v") == [None, None]

    asyncio.run(main())


def test_a_server_that_is_away_is_a_store_error(server: RedisServer) -> None:
    """And answers again once it is back."""

    async def main() -> None:
        async with Proxy(server.port) as proxy, Reading(server, proxy.port) as reading:
            proxy.refuse()
            proxy.cut()
            with pytest.raises(StoreError):
                await reading.reader.ask("value", "v")
            proxy.refuse(False)
            assert await reading.reader.ask("value", "v") == [None, None]

    asyncio.run(main())
