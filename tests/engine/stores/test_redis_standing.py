"""Coming to a server: is it the store that we knew, and what may it have lost?"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from laneway.engine.stores.redis_address import Address
from laneway.engine.stores.redis_standing import Mark, Standing, fresh_name, look
from laneway.engine.stores.redis_wire import Wire
from laneway.routing.errors import ConfigError, StoreError
from tests.redis_server import DURABLE, RedisServer, redis_server

LOG = "laneway.engine.stores.redis_standing"


def check(server: RedisServer, body: Callable[[Wire], Coroutine[Any, Any, None]], password: str = "") -> None:
    async def main() -> None:
        address = Address.parse(server.url.replace("//", f"//{password}@" if password else "//"))
        wire = Wire(address, connect_s=5.0, answer_s=5.0)
        await wire.open()
        try:
            await body(wire)
        finally:
            await wire.close()

    asyncio.run(main())


def era(server: RedisServer, prefix: str) -> bytes:
    return server.command("HGET", f"{prefix}:store", "era")


def test_a_store_is_made_once_and_known_by_its_id(server: RedisServer) -> None:
    """The second to come finds the first one's; another prefix is another store."""

    async def body(wire: Wire) -> None:
        prefix = fresh_name()
        first, second, other = Standing(prefix, False), Standing(prefix, False), Standing(fresh_name(), False)
        for standing in (first, second, other):
            await standing.make(wire, Mark(fresh_name()))
        assert first.id == second.id != other.id
        assert first.lacks == ""
        assert not first.is_due()

    check(server, body)


def test_a_missing_password_is_told_as_that(tmp_path: Path) -> None:
    """With where to write it."""
    with redis_server(tmp_path, "--requirepass", "word") as server:

        async def asks(wire: Wire) -> None:
            with pytest.raises(ConfigError, match=r"asks for a password and store\.url has none; write redis://"):
                await look(wire)

        check(server, asks)


def test_a_restart_of_a_durable_server_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its file was synced before each answer, so era and id are kept, silently."""
    with redis_server(tmp_path) as server:
        standing, mark = Standing("p", False), Mark("w")

        async def enter(wire: Wire) -> None:
            await standing.make(wire, mark)

        check(server, enter)
        known, before = standing.id, era(server, "p")
        server.kill()
        server.start()
        check(server, enter)
        assert (standing.id, era(server, "p")) == (known, before)
        assert caplog.text == ""


def test_a_restart_that_proves_nothing_ends_the_era(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One that syncs each second, or was durable only afterwards; said in the log, once."""
    caplog.set_level(logging.WARNING, LOG)
    with redis_server(tmp_path, "--appendonly", "yes", "--appendfsync", "everysec") as server:
        standing, mark = Standing("p", False), Mark("w")

        async def enter(wire: Wire) -> None:
            await standing.make(wire, mark)

        check(server, enter)
        assert "appendfsync everysec" in str(standing.lacks)
        before = era(server, "p")
        server.command("CONFIG", "SET", "appendfsync", "always")
        server.command("SET", "sync", "this")
        server.kill()
        server.options = DURABLE
        server.start()
        check(server, enter)
        check(server, enter)
        assert era(server, "p") != before
        assert caplog.text.count("cannot prove") == 1


def test_an_operator_can_say_that_a_backup_was_put_back(tmp_path: Path) -> None:
    """Where no engine was running that could know: the next one to come begins a new era."""
    with redis_server(tmp_path) as server:

        async def enter(wire: Wire) -> None:
            await Standing("p", False).make(wire, Mark(fresh_name()))

        check(server, enter)
        before = era(server, "p")
        server.kill()
        server.start()
        server.command("HSET", "p:store", "kept", "0")
        check(server, enter)
        assert era(server, "p") != before


def test_an_answered_batch_that_is_gone_is_lost_data(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """Even if the server's life did not end: the writer knows better. The era ends once, not again and again."""

    async def body(wire: Wire) -> None:
        prefix = fresh_name()
        standing, mark = Standing(prefix, False), Mark("w")
        await standing.make(wire, mark)
        before = era(server, prefix)
        mark.answered, mark.at = 7, asyncio.get_running_loop().time()
        server.command("SET", f"{prefix}:writer:w", "7:x")
        await standing.make(wire, mark)
        assert era(server, prefix) == before
        server.command("SET", f"{prefix}:writer:w", "6:x")
        await standing.make(wire, mark)
        after = era(server, prefix)
        assert after != before
        await standing.make(wire, mark)
        assert era(server, prefix) == after

    check(server, body)
    assert caplog.text.count("lost data") == 1


def test_an_emptied_server_is_a_new_store_and_said_to_be(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """The first visit is silent, the second is an error in the log."""

    async def body(wire: Wire) -> None:
        prefix = fresh_name()
        standing, mark = Standing(prefix, False), Mark("w")
        await standing.make(wire, mark)
        known = standing.id
        assert caplog.text == ""
        server.command("DEL", f"{prefix}:store")
        await standing.make(wire, mark)
        assert standing.id != known

    check(server, body)
    assert caplog.text.count("lost data") == 1


def test_a_server_that_keeps_less_than_before_is_not_written_to(tmp_path: Path) -> None:
    """What was promised at the start holds until the end; mended, it goes on."""
    with redis_server(tmp_path) as server:

        async def body(wire: Wire) -> None:
            standing, mark = Standing("p", False), Mark("w")
            await standing.make(wire, mark)
            server.command("CONFIG", "SET", "appendfsync", "everysec")
            with pytest.raises(StoreError, match="keeps less than when"):
                await standing.make(wire, mark)
            server.command("CONFIG", "SET", "appendfsync", "always")
            await standing.make(wire, mark)
            server.command("CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru")
            with pytest.raises(ConfigError, match="noeviction"):
                await standing.make(wire, mark)

        check(server, body)


def test_a_replica_is_refused_and_followers_make_a_store_volatile(tmp_path: Path) -> None:
    """A failover loses what was answered; who has only followers to read from may vouch for that."""
    with (
        redis_server(tmp_path / "a", *DURABLE, "--repl-diskless-sync-delay", "0") as master,
        redis_server(tmp_path / "b", "--replicaof", "127.0.0.1", str(master.port)) as replica,
    ):
        master.says(b"connected_slaves:1", "INFO", "replication")

        async def on_master(wire: Wire) -> None:
            server = await look(wire)
            assert "1 replicas follow" in server.lacks(False)
            assert server.lacks(True) == ""

        async def on_replica(wire: Wire) -> None:
            with pytest.raises(ConfigError, match="is a replica"):
                await Standing("p", False).make(wire, Mark("w"))

        check(master, on_master)
        check(replica, on_replica)


def test_a_user_who_may_not_read_settings_needs_somebodys_word(tmp_path: Path) -> None:
    """CONFIG forbidden: volatile, unless the operator vouches; too few rights altogether: refused."""
    with redis_server(tmp_path) as server:
        server.command("ACL", "SETUSER", "few", "on", ">w", "~*", "+@all", "-config")
        server.command("ACL", "SETUSER", "none", "on", ">w", "~*", "-@all")

        async def few(wire: Wire) -> None:
            doubtful, vouched = Standing("p", False), Standing("p", True)
            await doubtful.make(wire, Mark("w"))
            await vouched.make(wire, Mark("w"))
            assert "CONFIG GET" in str(doubtful.lacks)
            assert vouched.lacks == ""

        async def none(wire: Wire) -> None:
            with pytest.raises(ConfigError, match="does not let this user work"):
                await Standing("p", False).make(wire, Mark("w"))

        check(server, few, "few:w")
        check(server, none, "none:w")


def test_a_store_of_another_format_is_left_alone(server: RedisServer) -> None:
    """A newer laneway made it."""

    async def body(wire: Wire) -> None:
        prefix = fresh_name()
        server.command("HSET", f"{prefix}:store", "id", "x", "era", "y", "format", "9")
        with pytest.raises(ConfigError, match=r"store\.prefix"):
            await Standing(prefix, False).make(wire, Mark("w"))

    check(server, body)
