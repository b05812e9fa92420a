"""The Redis store as a whole: what survives, what is noticed, and who may write."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from laneway.actors.ports import Claim, DeadLetter, Entry, Record
from laneway.actors.sync.archive import Archive
from laneway.actors.tools.entries import CallKey, Settled, digest
from laneway.actors.tools.ledger import Ledger, Ticket
from laneway.actors.tools.lifecycle import State
from laneway.engine.stores.redis import RedisStore
from laneway.engine.stores.redis_standing import fresh_name
from laneway.engine.testing.proxy import Proxy
from laneway.routing.errors import ConfigError, Fenced, OutcomeUnknown, StoreError
from tests.engine.stores.filling import entries, using
from tests.redis_server import RedisServer, redis_server

PROCESS = [sys.executable, "-m", "tests.engine.stores.writer_process"]
ROOT = Path(__file__).parents[3]
OPERATIONS = ROOT / "docs" / "operations.md"


def spawn(mode: str, server: RedisServer) -> subprocess.Popen[str]:
    return subprocess.Popen([*PROCESS, mode, server.url], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_two_stores_fence_each_other(server: RedisServer) -> None:
    """What one writes the other reads; the newer claim wins whichever store holds it."""

    async def body(store: RedisStore) -> None:
        other = RedisStore(server.url, prefix=store._prefix)
        await other.open()
        old = await store.claim("k")
        await store.append(old, entries(1, 3))
        new = await other.claim("k")
        assert (new.heads, new.epoch) == ({1: (3, 30)}, old.epoch)
        with pytest.raises(Fenced):
            await store.append(old, entries(4, 4))
        await other.append(new, entries(4, 4))
        assert await store.read("k", 1, 1) == entries(1, 4)
        await other.close()

    using(RedisStore(server.url, prefix=fresh_name()), body)


def test_keys_come_from_an_index_in_pages(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those with braces and percent signs, which mean something to Redis."""
    monkeypatch.setattr("laneway.engine.stores.redis._PAGE_KEYS", 3)

    async def body(store: RedisStore) -> None:
        keys = sorted(f"t/{name}" for name in ("a", "b}", "{c}", "%7D", "}", "é", "a/b", "zz"))
        for key in keys:
            claim = await store.claim(key)
            await store.append(claim, entries(1, 2))
        assert await store.keys("t/") == keys
        assert await store.keys("t/a") == ["t/a", "t/a/b"]
        for key in keys:
            assert await store.read(key, 1, 1) == entries(1, 2)

    using(RedisStore(server.url, prefix=fresh_name()), body)


def test_a_prefix_is_checked() -> None:
    """A brace in it would break the place of a log."""
    for prefix in ("", "a{b"):
        with pytest.raises(ConfigError, match=r"store\.prefix"):
            RedisStore("redis://host", prefix=prefix)


# -- what survives ------------------------------------------------------------------------------


class Load:
    """Logs that are appended to until the store fails, and what it acknowledged."""

    def __init__(self, store: RedisStore) -> None:
        self.store = store
        self.claims: list[Claim] = []
        self.acknowledged: dict[str, int] = {}
        self.values: dict[str, bytes] = {}
        self.progress = asyncio.Semaphore(0)

    async def write(self, log: int) -> None:
        claim = await self.store.claim(f"log.{log}")
        self.claims.append(claim)
        head = claim.heads.get(1, (0, 0))[0]
        for seq in itertools.count(head + 1, 3):
            await self.store.append(claim, entries(seq, seq + 2, size_bytes=300))
            self.acknowledged[claim.key] = seq + 2
            self.progress.release()
            value = b"%d" % seq
            await self.store.put(claim.key, value)
            self.values[claim.key] = value

    async def until(self, acknowledged: int, then: Callable[[], None]) -> None:
        """Let twenty logs write, do `then` after so many answers, and return when all writers have failed."""
        tasks = [asyncio.create_task(self.write(log)) for log in range(20)]
        for _ in range(acknowledged):
            await self.progress.acquire()
        then()
        for failed in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(failed, StoreError)


def test_kill_9_of_the_server_keeps_every_acknowledged_write(tmp_path: Path) -> None:
    """Twice in a row, in the middle of appends, with the same store object: whole, and in the same epochs."""
    with redis_server(tmp_path) as server:

        async def body(store: RedisStore) -> None:
            assert store.durable
            for _ in range(2):
                load = Load(store)
                await load.until(300, server.kill)
                server.start()
                for claim in load.claims:
                    after = await store.claim(claim.key)
                    head = after.heads[1][0] if after.heads else 0
                    assert after.epoch == claim.epoch
                    assert after.generation == claim.generation + 1
                    assert head >= load.acknowledged.get(claim.key, 0)
                    assert head % 3 == 0, "an append is all or nothing"
                    found: list[Entry] = []
                    while page := await store.read(claim.key, 1, len(found) + 1):
                        found += page
                    assert found == entries(1, head, size_bytes=300)
                    assert int((await store.get(claim.key)).value or b"0") >= int(load.values.get(claim.key, b"0"))

        using(RedisStore(server.url), body)


def test_kill_9_of_a_writing_process_keeps_every_acknowledged_append(server: RedisServer) -> None:
    """The next process finds all of it in the same epoch."""
    acknowledged: dict[int, int] = {}
    with spawn("load", server) as process:
        assert process.stdout is not None
        for _ in range(200):
            log, seq = map(int, process.stdout.readline().split())
            acknowledged[log] = seq
        os.kill(process.pid, signal.SIGKILL)
        for line in process.stdout:
            if line.endswith("\n"):
                log, seq = map(int, line.split())
                acknowledged[log] = seq

    async def body(store: RedisStore) -> None:
        for log, seq in acknowledged.items():
            head = (await store.claim(f"log.{log}")).heads[1][0]
            assert head >= seq
            assert head % 3 == 0

    using(RedisStore(server.url), body)
    assert sum(acknowledged.values()) > 400, "the load was meant to be one"


def test_two_processes_race_and_each_generation_has_one_writer(tmp_path: Path) -> None:
    """Both claim and append as fast as they can: every acknowledged entry is there, from who was told so."""
    with redis_server(tmp_path) as server:
        with spawn("race", server) as left, spawn("race", server) as right:
            said = [process.communicate(timeout=60)[0] for process in (left, right)]
        told = [[tuple(map(int, line.split())) for line in lines.splitlines()] for lines in said]
        generations = [{generation for generation, _ in lines} for lines in told]
        assert not generations[0] & generations[1]
        assert all(generations), "both were meant to write"

        async def body(store: RedisStore) -> None:
            found: list[Entry] = []
            while page := await store.read("k", 1, len(found) + 1):
                found += page
            assert [entry.seq for entry in found] == list(range(1, len(found) + 1))
            writers = [int(entry.blob) for entry in found]
            assert writers == sorted(writers)
            for generation, seq in itertools.chain(*told):
                assert writers[seq - 1] == generation
            assert (await store.claim("k")).generation == 31

        using(RedisStore(server.url), body)


# -- what is noticed ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["restarted empty", "flushed under way"])
def test_lost_data_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str) -> None:
    """Older claims are over although the new one has their generation; epochs differ; versions are not used again."""
    with redis_server(tmp_path) as server:

        async def body(store: RedisStore) -> None:
            old = await store.claim("k")
            await store.append(old, entries(1, 3))
            version = await store.put("v", b"1")
            if how == "restarted empty":
                server.kill()
                server.wipe()
                server.start()
            else:
                server.command("FLUSHALL")
            assert await store.get("v") == Record(0, b"")
            with pytest.raises(Fenced):
                await store.append(old, entries(4, 4))
            new = await store.claim("k")
            assert (new.generation, new.heads) == (old.generation, {})
            assert new.epoch != old.epoch
            with pytest.raises(Fenced):
                await store.append(old, entries(1, 1))
            assert await store.put("v", b"2", version=version) == 0
            assert await store.put("v", b"2") > version
            await store.append(new, entries(1, 1))

        using(RedisStore(server.url), body)
        assert caplog.text.count("lost data") == 1


def test_older_data_under_a_running_server_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A backup that was put back: it has the store's id and the log's generation, but lacks what was answered."""
    with redis_server(tmp_path / "data") as server:

        async def body(store: RedisStore) -> None:
            old = await store.claim("k")
            await store.append(old, entries(1, 3))
            files = {path: path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()}
            await store.append(old, entries(4, 6))
            server.kill()
            for path, content in files.items():
                path.write_bytes(content)
            server.start()
            with pytest.raises(Fenced):
                await store.append(old, entries(4, 4))
            new = await store.claim("k")
            assert new.heads == {1: (3, 30)}
            assert new.epoch != old.epoch

        using(RedisStore(server.url), body)
        assert "lost data" in caplog.text


def test_a_stream_that_vanished_is_noticed_by_the_next_claim(server: RedisServer) -> None:
    """Somebody deleted a key: another epoch, and the log goes on behind its head; other streams are kept."""

    async def body(store: RedisStore) -> None:
        old = await store.claim("k")
        await store.append(old, [*entries(1, 3), Entry(0, 1, 1, b"kept")])
        server.command("DEL", f"{store._prefix}:{{k}}:1")
        new = await store.claim("k")
        assert new.epoch != old.epoch
        assert (new.heads, new.floors) == ({0: (1, 1), 1: (3, 30)}, {0: 1, 1: 4})
        await store.append(new, entries(4, 4))
        assert await store.read("k", 1, 1) == entries(4, 4)
        assert (await store.claim("k")).epoch == new.epoch

    using(RedisStore(server.url, prefix=fresh_name()), body)


def test_a_server_that_syncs_later_is_a_volatile_store(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It says so at the start; epochs hold while it lives and change when it was restarted."""
    caplog.set_level(logging.WARNING)
    with redis_server(tmp_path, "--appendonly", "yes", "--appendfsync", "everysec") as server:

        async def body(store: RedisStore) -> None:
            assert not store.durable
            other = RedisStore(server.url)
            await other.open()
            old = await store.claim("k")
            assert (await other.claim("k")).epoch == old.epoch
            await other.close()
            newest = await store.claim("k")
            server.kill()
            server.start()
            with pytest.raises(Fenced):
                await store.append(newest, entries(1, 1))
            assert (await store.claim("k")).epoch != old.epoch

        using(RedisStore(server.url), body)
        assert "is a volatile store" in caplog.text
        assert "set appendfsync always" in caplog.text


# -- what fails and heals -----------------------------------------------------------------------


def test_a_server_that_is_away_is_a_store_error_and_heals(tmp_path: Path) -> None:
    """Refused, killed, frozen: each call says so within its deadline; back again, the same store goes on."""
    with redis_server(tmp_path) as server:

        async def main() -> None:
            async with Proxy(server.port) as proxy:
                store = RedisStore(f"redis://:hush@127.0.0.1:{proxy.port}", answer_s=0.3, connect_s=0.5)
                with pytest.raises(ConfigError, match="credentials"):
                    await store.open()
                store = RedisStore(f"redis://127.0.0.1:{proxy.port}", answer_s=0.3, connect_s=0.5)
                await store.open()
                claim = await store.claim("k")

                async def fails() -> None:
                    calls = (store.append(claim, entries(1, 1)), store.get("v"), store.keys(""), store.put("v", b""))
                    for error in await asyncio.gather(*calls, return_exceptions=True):
                        assert isinstance(error, StoreError)

                proxy.refuse()
                proxy.cut()
                await fails()
                proxy.refuse(False)
                server.kill()
                await fails()
                server.start()
                assert (await store.claim("k")).heads == {}
                server.freeze()
                await fails()
                server.freeze(frozen=False)
                claim = await store.claim("k")
                head = claim.heads.get(1, (0, 0))[0]
                assert head <= 1, "the frozen server had it in its socket, and may have written it"
                await store.append(claim, entries(head + 1, 3))
                assert await store.read("k", 1, 1) == entries(1, 3)
                await store.close()

        asyncio.run(main())


def test_a_lost_answer_of_an_append_is_no_hole(server: RedisServer) -> None:
    """The server wrote it, the answer never came: the store asks again and hears that it is written."""

    async def main() -> None:
        async with Proxy(server.port) as proxy:
            store = RedisStore(f"redis://127.0.0.1:{proxy.port}", prefix=fresh_name())
            await store.open()
            claim = await store.claim("k")
            for seq in range(1, 10):
                proxy.swallow()
                await store.append(claim, entries(seq, seq))
            proxy.swallow()
            assert (await store.claim("k")).generation == claim.generation + 1
            assert proxy.cuts == 10
            assert await store.read("k", 1, 1) == entries(1, 9)
            await store.close()

    asyncio.run(main())


def test_a_network_that_cuts_all_the_time_loses_and_doubles_nothing(server: RedisServer) -> None:
    """Ten logs, a cut at every few answers: each entry once, in order, and what was acknowledged is there."""
    dice = random.Random(4)

    async def write(store: RedisStore, proxy: Proxy, log: int) -> None:
        """Append 60 entries one by one as a home does: after an error claim again and compare."""
        acknowledged, claim = 0, None
        while acknowledged < 60:
            try:
                if claim is None:
                    claim = await store.claim(f"log.{log}")
                    head = claim.heads.get(1, (0, 0))[0]
                    assert acknowledged <= head <= acknowledged + 1
                    acknowledged = head
                    continue
                await store.append(claim, [Entry(1, acknowledged + 1, acknowledged + 1, b"%d" % acknowledged)])
                acknowledged += 1
                if dice.random() < 0.1:
                    dice.choice((proxy.cut, proxy.swallow, lambda: proxy.cut_after(dice.randrange(1, 900))))()
            except StoreError:
                claim = None

    async def main() -> None:
        async with Proxy(server.port) as proxy, asyncio.timeout(60):
            store = RedisStore(f"redis://127.0.0.1:{proxy.port}", prefix=fresh_name())
            await store.open()
            await asyncio.gather(*(write(store, proxy, log) for log in range(10)))
            assert proxy.cuts > 10, "the faults were meant to fire"
            for log in range(10):
                found = await store.read(f"log.{log}", 1, 1)
                assert found == [Entry(1, seq, seq, b"%d" % (seq - 1)) for seq in range(1, len(found) + 1)]
                assert len(found) >= 60
            await store.close()

    asyncio.run(main())


def test_a_server_that_loads_its_data_is_waited_for_by_who_retries() -> None:
    """LOADING is a StoreError that says what happens there, at the start and under way."""

    async def loading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            writer.write(b"-LOADING Redis is loading the dataset in memory\r\n")
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(loading, "127.0.0.1", 0)
        async with server:
            store = RedisStore(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", answer_s=1.0)
            with pytest.raises(StoreError, match="loads its data"):
                await store.open()

    asyncio.run(main())


def test_a_full_server_says_so_and_can_be_trimmed(server: RedisServer) -> None:
    """Appends are refused with the way out, trimming is not, and what was refused is not there."""

    async def body(store: RedisStore) -> None:
        claim = await store.claim("k")
        await store.append(claim, entries(1, 300, size_bytes=1_000))
        server.command("CONFIG", "SET", "maxmemory", 1)
        try:
            with pytest.raises(StoreError, match="raise maxmemory"):
                await store.append(claim, entries(301, 301))
            await store.trim(claim, 1, 250)
        finally:
            server.command("CONFIG", "SET", "maxmemory", 0)
        claim = await store.claim("k")
        assert (claim.heads, claim.floors) == ({1: (300, 3000)}, {1: 250})
        assert await store.read("k", 1, 1) == entries(250, 300, size_bytes=1_000)

    using(RedisStore(server.url, prefix=fresh_name()), body)


def test_trimming_frees_the_server(server: RedisServer) -> None:
    """But for the chunk in which the floor lies."""

    async def body(store: RedisStore) -> None:
        claim = await store.claim("k")
        for first in range(1, 1_000, 10):
            await store.append(claim, entries(first, first + 9))
        await store.trim(claim, 1, 955)
        assert server.command("XLEN", f"{store._prefix}:{{k}}:1") == b":5\r\n"
        assert await store.read("k", 1, 1) == entries(955, 1_000)

    using(RedisStore(server.url, prefix=fresh_name()), body)


def test_looking_at_a_server_writes_nothing(server: RedisServer) -> None:
    """For `laneway doctor`."""

    async def main() -> None:
        store = RedisStore(server.url, prefix=fresh_name())
        version, lacks = await store.look()
        assert (version[:1].isdigit(), lacks) == (True, "")
        assert server.command("EXISTS", f"{store._prefix}:store") == b":0\r\n"

    asyncio.run(main())


def test_the_rights_that_the_documentation_names_are_enough(tmp_path: Path) -> None:
    """Its own keys and no other; durability can be seen."""
    rules = next(
        line for line in OPERATIONS.read_text(encoding="utf-8").splitlines() if line.startswith("user laneway")
    )
    assert "~laneway:*" in rules
    with redis_server(tmp_path) as server:
        server.command("ACL", "SETUSER", "laneway", *rules.replace("PASSWORD", "word").split()[2:])

        async def body(store: RedisStore) -> None:
            assert store.durable
            claim = await store.claim("k")
            await store.append(claim, entries(1, 3))
            await store.trim(claim, 1, 2)
            await store.put("v", b"1", ttl_s=10)
            await store.put("v", b"1")
            await store.delete("v")
            number = await store.bury(DeadLetter(0, "t", "s", "C", "m", 1, b"p", 1.0))
            assert [letter.id for letter in await store.dead("t")] == [number]
            assert len(await store.exhume([number])) == 1
            assert await store.keys("") == ["k"]
            assert await store.read("k", 1, 1) == entries(2, 3)

        using(RedisStore(server.url.replace("//", "//laneway:word@")), body)
        with pytest.raises(ConfigError, match="does not let this user work"):
            using(RedisStore(server.url.replace("//", "//laneway:word@"), prefix="other"), body)


# -- what stands on it --------------------------------------------------------------------------


def test_the_ledger_of_tool_effects(server: RedisServer) -> None:
    """An effect starts once, whichever process asks; one that died in between is OutcomeUnknown."""

    async def body(store: RedisStore) -> None:
        other = RedisStore(server.url, prefix=store._prefix)
        await other.open()
        here, there = Ledger(store), Ledger(other)
        key, hashed = CallKey("t", "s", "r", "c"), digest("pay", {"eur": 5})
        ticket = await here.claim(key, hashed, repeatable=False)
        assert isinstance(ticket, Ticket)
        await ticket.start()
        with pytest.raises(OutcomeUnknown):
            await there.claim(key, hashed, repeatable=False)
        done = Settled(State.SUCCEEDED, "{}")
        second = await here.claim(key._replace(call_id="d"), hashed, repeatable=False)
        assert isinstance(second, Ticket)
        await second.start()
        assert await second.settle(done)
        assert await there.claim(key._replace(call_id="d"), hashed, repeatable=False) == done
        await other.close()

    using(RedisStore(server.url, prefix=fresh_name()), body)


def test_a_document_moves_between_stores(server: RedisServer) -> None:
    """Its log and snapshot are read by the next home, and the former one is fenced."""

    async def body(store: RedisStore) -> None:
        other = RedisStore(server.url, prefix=store._prefix)
        await other.open()
        first, second = Archive(store, "t/doc/d"), Archive(other, "t/doc/d")
        await first.open()
        await first.append([b"%d" % number for number in range(600)])
        await first.compact(lambda updates: [b",".join(updates)])
        await first.append([b"more"])
        assert b",".join(await second.open()) == b",".join([*(b"%d" % number for number in range(600)), b"more"])
        with pytest.raises(Fenced):
            await first.append([b"late"])
        await second.append([b"on"])
        await other.close()

    using(RedisStore(server.url, prefix=fresh_name()), body)
