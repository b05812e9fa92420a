"""Batches of writes: one after the other, each carried out once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgpack
import pytest

from laneway.actors.ports import Entry
from laneway.engine.stores.redis_address import Address
from laneway.engine.stores.redis_chunks import chunked
from laneway.engine.stores.redis_scripts import script
from laneway.engine.stores.redis_standing import Standing, fresh_name
from laneway.engine.stores.redis_wire import Refused, Wire
from laneway.engine.stores.redis_writer import Writer
from laneway.engine.testing.proxy import Proxy
from laneway.routing.errors import StoreError
from tests.redis_server import RedisServer


def check(
    server: RedisServer,
    body: Callable[[Writer, Wire], Coroutine[Any, Any, None]],
    port: int = 0,
    max_pending_bytes: int = 10_000_000,
) -> None:
    asyncio.run(using(server, body, port, max_pending_bytes))


async def using(
    server: RedisServer, body: Callable[[Writer, Wire], Awaitable[None]], port: int, max_pending_bytes: int = 10_000_000
) -> None:
    wire = Wire(Address.parse(f"redis://127.0.0.1:{port or server.port}"), connect_s=5.0, answer_s=5.0)
    writer = Writer(wire, Standing(fresh_name(), False), max_pending_bytes=max_pending_bytes, answer_s=5.0)
    try:
        await writer.open()
        await body(writer, wire)
    finally:
        await writer.close(5.0)


def counted(server: RedisServer, what: str) -> int:
    """How many calls of a command the server has had."""
    for line in server.command("INFO", "commandstats").decode().splitlines():
        if line.startswith(f"cmdstat_{what}:"):
            return int(line.partition("calls=")[2].partition(",")[0])
    return 0


def test_what_waits_is_one_call(server: RedisServer) -> None:
    """A hundred operations handed in at once: one script call, one answer for each."""

    async def body(writer: Writer, wire: Wire) -> None:
        before = counted(server, "evalsha")
        answers = await asyncio.gather(*(writer.submit(("put", f"v{n}", b"", -1, 0)) for n in range(100)))
        assert len(set(answers)) == 100
        assert sorted(answers) == answers
        assert counted(server, "evalsha") == before + 1

    check(server, body)


def test_a_lost_answer_is_asked_for_again_and_nothing_is_written_twice(server: RedisServer) -> None:
    """The reply is cut on its way back: the same batch gets the first time's answers, also the refusals."""

    async def main() -> None:
        async with Proxy(server.port) as proxy:

            async def body(writer: Writer, wire: Wire) -> None:
                _, generation, epoch = await writer.submit(("claim", "k", "k", "epoch"))
                await writer.submit(("put", "v", b"", -1, 0))
                for number in range(1, 4):
                    proxy.swallow()
                    entry = chunked("k", [Entry(1, number, number, b"x")])
                    operations: list[tuple[Any, ...]] = [
                        ("append", "k", str(generation), epoch, entry),
                        ("append", "k", str(generation), epoch, entry),
                        ("put", "v", b"", 0, 0),
                        ("claim", "other", "other", "e"),
                        ("bury", "t", 1, msgpack.packb(["t", "s", "", "", 1, "x", 1.0], use_bin_type=False), 9, 99),
                    ]
                    first, repeated, refused, claimed, buried = await asyncio.gather(*map(writer.submit, operations))
                    assert first == b"OK"
                    assert repeated[:3] == [b"HOLE", 1, number]
                    assert refused == 0
                    assert claimed[1] == number
                    assert buried == number
                    assert proxy.cuts == number, "the fault was meant to fire"
                proxy.swallow()
                assert (await writer.submit(("exhume", [1, 2])))[::2] == [1, 2]

            await using(server, body, proxy.port)

    asyncio.run(main())


def test_a_batch_that_comes_late_does_nothing(server: RedisServer) -> None:
    """Its writer was told that the outcome is unknown, and went on."""

    async def body(writer: Writer, wire: Wire) -> None:
        await writer.submit(("put", "v", b"new", -1, 0))
        await writer.submit(("put", "v", b"newer", -1, 0))
        standing, mark = writer._standing, writer._mark
        stale = msgpack.packb([("put", "v", b"old", -1, 0)], use_bin_type=False)
        arguments = (standing.prefix, standing.id, mark.writer, 1, 60, stale)
        (reply,) = await wire.ask(("EVALSHA", script("write").digest, 1, standing.store, *arguments))
        assert isinstance(reply, Refused)
        assert reply.code == "LATE"
        assert b"newer" in server.command("HGETALL", f"{standing.prefix}:value:v")

    check(server, body)


def test_scripts_that_the_server_forgot_are_sent_again(server: RedisServer) -> None:
    """SCRIPT FLUSH under way is not noticed outside."""

    async def body(writer: Writer, wire: Wire) -> None:
        server.command("SCRIPT", "FLUSH")
        assert await writer.submit(("put", "v", b"", -1, 0)) > 0

    check(server, body)


def test_an_operation_that_fails_leaves_its_neighbours_alone(server: RedisServer) -> None:
    """Somebody else's key stands where a log should be; the message says what to do."""

    async def body(writer: Writer, wire: Wire) -> None:
        server.command("SET", f"{writer._standing.prefix}:{{k}}", "something else")
        bad, good = writer.submit(("claim", "k", "k", "e")), writer.submit(("claim", "l", "l", "e"))
        with pytest.raises(StoreError, match=r"WRONGTYPE.*store\.prefix"):
            await bad
        assert (await good)[1] == 1

    check(server, body)


def test_what_cannot_be_packed_is_refused_at_once(server: RedisServer) -> None:
    """Before it can spoil a batch."""

    async def body(writer: Writer, wire: Wire) -> None:
        for value in ("\ud800", 2**70):
            with pytest.raises(StoreError, match="cannot hold this"):
                writer.submit(("put", value, b"", -1, 0))

    check(server, body)


def test_what_waits_is_bounded_in_bytes(server: RedisServer) -> None:
    """A slow server makes its writers wait outside."""

    async def body(writer: Writer, wire: Wire) -> None:
        accepted = [writer.submit(("put", f"v{n}", bytes(300_000), -1, 0)) for n in range(3)]
        with pytest.raises(StoreError, match=r"store\.pending_bytes"):
            writer.submit(("put", "v", bytes(300_000), -1, 0))
        await asyncio.gather(*accepted)
        assert await writer.submit(("put", "v", bytes(300_000), -1, 0)) > 0

    check(server, body, max_pending_bytes=1_000_000)


def test_a_server_that_became_a_replica_is_told_as_one(server: RedisServer) -> None:
    """Writes are refused with the way out, and pass again once it is a master."""

    async def body(writer: Writer, wire: Wire) -> None:
        server.command("REPLICAOF", "127.0.0.1", "1")
        try:
            with pytest.raises(StoreError, match="replica"):
                await writer.submit(("put", "v", b"", -1, 0))
        finally:
            server.command("REPLICAOF", "NO", "ONE")
        assert await writer.submit(("put", "v", b"", -1, 0)) > 0

    check(server, body)


def test_settings_are_looked_at_again_under_way(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that keeps less than promised is not written to any more, until it is mended."""
    monkeypatch.setattr("laneway.engine.stores.redis_standing._CHECK_S", 0.0)

    async def body(writer: Writer, wire: Wire) -> None:
        server.command("CONFIG", "SET", "appendfsync", "everysec")
        try:
            with pytest.raises(StoreError, match="keeps less"):
                await writer.submit(("put", "v", b"", -1, 0))
        finally:
            server.command("CONFIG", "SET", "appendfsync", "always")
        assert await writer.submit(("put", "v", b"", -1, 0)) > 0

    check(server, body)
