"""The SQLite store against what happens to files and processes; the port's promises are in conformance."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from laneway.actors.ports import Entry
from laneway.engine.stores.sqlite import SqliteStore
from laneway.routing.errors import ConfigError, Fenced, StoreError
from tests.engine.stores.filling import entries, using
from tests.engine.stores.writer_process import entry

PROCESS = [sys.executable, "-m", "tests.engine.stores.writer_process"]
ROOT = Path(__file__).parents[3]


def spawn(mode: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROCESS, mode, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_kill_9_under_load_keeps_every_acknowledged_append(tmp_path: Path) -> None:
    """Two kills in a row: what was acknowledged is there with its content, and the log has no hole."""
    path = tmp_path / "store.db"
    acknowledged: dict[int, int] = {}
    for _ in range(2):
        with spawn("load", path) as process:
            assert process.stdout is not None
            for _ in range(400):
                log, seq = map(int, process.stdout.readline().split())
                acknowledged[log] = seq
            os.kill(process.pid, signal.SIGKILL)
            for line in process.stdout:
                if line.endswith("\n"):
                    log, seq = map(int, line.split())
                    acknowledged[log] = seq
        assert process.returncode == -signal.SIGKILL

        async def body(store: SqliteStore) -> None:
            for log, seq in acknowledged.items():
                head = (await store.claim(f"log.{log}")).heads[1][0]
                assert head >= seq
                assert head % 3 == 0, "an append is all or nothing"
                found: list[Entry] = []
                while page := await store.read(f"log.{log}", 1, len(found) + 1):
                    found += page
                assert found == [entry(log, number) for number in range(1, head + 1)]

        using(SqliteStore(path), body)
    assert sum(acknowledged.values()) > 1_000, "the load was meant to be one"


def test_two_processes_fence_each_other(tmp_path: Path) -> None:
    """The newer claim wins whichever process holds it; the older one is told NOT_OWNER at its append."""
    path = tmp_path / "store.db"

    with spawn("home", path) as other:
        assert other.stdin is not None
        assert other.stdout is not None

        def tell(line: str) -> str:
            assert other.stdin is not None
            assert other.stdout is not None
            other.stdin.write(line + "\n")
            other.stdin.flush()
            return other.stdout.readline().strip()

        assert other.stdout.readline().strip() == "claimed 1"
        assert tell("1") == "ok"

        async def body(store: SqliteStore) -> None:
            claim = await store.claim("k")
            assert (claim.generation, claim.heads) == (2, {1: (1, 10)})
            assert tell("2") == "NOT_OWNER"
            await store.append(claim, [entry(0, 2)])
            with spawn("home", path) as third:
                assert third.stdout is not None
                assert third.stdout.readline().strip() == "claimed 3"
                with pytest.raises(Fenced):
                    await store.append(claim, [entry(0, 3)])
                third.stdin.close()  # type: ignore[union-attr]
            assert await store.read("k", 1, 1) == [entry(0, 1), entry(0, 2)]

        using(SqliteStore(path), body)
        other.stdin.close()
    assert other.returncode == 0


def test_what_another_process_wrote_is_seen(tmp_path: Path) -> None:
    """Two open stores on one file: neither trusts its memory once the other has written."""
    first, second = SqliteStore(tmp_path / "s.db"), SqliteStore(tmp_path / "s.db")

    async def main() -> None:
        await first.open()
        await second.open()
        for turn in range(6):
            store, other = (first, second) if turn % 2 == 0 else (second, first)
            claim = await store.claim("k")
            assert claim.heads == ({1: (turn * 2, turn * 20)} if turn else {})
            await store.append(claim, entries(turn * 2 + 1, turn * 2 + 2))
            if turn == 3:
                await store.trim(claim, 1, 7)
            assert await other.read("k", 1, turn * 2 + 1) == entries(turn * 2 + 1, turn * 2 + 2)
        await first.close()
        await second.close()

    asyncio.run(main())


def test_a_torn_log_end_is_cut_off(tmp_path: Path) -> None:
    """A write-ahead log whose last commit is damaged opens with the commits before it."""
    path, copy = tmp_path / "a" / "s.db", tmp_path / "b" / "s.db"

    async def body(store: SqliteStore) -> None:
        claim = await store.claim("k")
        await store.append(claim, entries(1, 3))
        await store.append(claim, entries(4, 6))
        shutil.copytree(path.parent, copy.parent)

    using(SqliteStore(path), body)
    wal = Path(f"{copy}-wal")
    wal.write_bytes(wal.read_bytes()[:-100])

    async def reopened(store: SqliteStore) -> None:
        assert (await store.claim("k")).heads[1][0] == 3
        assert await store.read("k", 1, 1) == entries(1, 3)

    using(SqliteStore(copy), reopened)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"this is a text file, not a database" * 100, "damaged"), (None, "not a laneway store")],
)
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    """Garbage, or another program's database, is named as such and left as it is."""
    path = tmp_path / "s.db"
    if content is None:
        db = sqlite3.connect(path)
        db.execute("CREATE TABLE theirs (a)")
        db.close()
    else:
        path.write_bytes(content)
    with pytest.raises(StoreError, match=words):
        asyncio.run(SqliteStore(path).open())
    if content is not None:
        assert path.read_bytes() == content


def test_damage_under_way_is_a_store_error(tmp_path: Path) -> None:
    """Pages overwritten with rubbish give a StoreError that says so, not an exception of SQLite's."""
    path = tmp_path / "s.db"

    async def fill(store: SqliteStore) -> None:
        claim = await store.claim("k")
        await store.append(claim, entries(1, 500, size_bytes=1_000))

    using(SqliteStore(path), fill)
    raw = bytearray(path.read_bytes())
    raw[4096:] = b"\xa5" * (len(raw) - 4096)
    path.write_bytes(bytes(raw))
    with pytest.raises(StoreError, match="damaged"):
        using(SqliteStore(path), fill)


def test_an_unwritable_place_is_a_store_error(tmp_path: Path) -> None:
    """A path through a file cannot be opened; the message says what to check."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"the store .* failed"):
        asyncio.run(SqliteStore(tmp_path / "file" / "s.db").open())


def test_a_locked_file_is_a_store_error_until_it_is_free(tmp_path: Path) -> None:
    """While another connection holds the lock calls fail together after busy_s; then they work."""
    path = tmp_path / "s.db"

    async def body(store: SqliteStore) -> None:
        claim = await store.claim("k")
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        calls = [store.append(claim, entries(1, 1)), store.put("v", b""), store.get("v")]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results] == [StoreError] * 3
        assert "another process" in str(results[0])
        holder.execute("ROLLBACK")
        holder.close()
        await store.append(claim, entries(1, 1))
        assert await store.read("k", 1, 1) == entries(1, 1)

    using(SqliteStore(path, busy_s=0.05), body)


class SmallDisk(sqlite3.Connection):
    """A connection on a disk of 100 pages: SQLite itself says that it is full."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        super().execute("PRAGMA max_page_count = 100")


def test_a_full_disk_is_a_store_error_and_loses_nothing(tmp_path: Path) -> None:
    """What was acknowledged before the disk was full stays; the refused append left nothing."""

    async def body(store: SqliteStore) -> None:
        claim = await store.claim("k")
        head, refusal = 0, ""
        try:
            while head < 10_000:
                await store.append(claim, entries(head + 1, head + 10, size_bytes=1_000))
                head += 10
        except StoreError as error:
            refusal = str(error)
        assert "free space" in refusal
        claim = await store.claim("k")
        assert claim.heads[1][0] == head > 0
        assert (await store.read("k", 1, head - 5)) == entries(head - 5, head, size_bytes=1_000)
        await store.trim(claim, 1, head)
        await store.append(claim, entries(head + 1, head + 10, size_bytes=1_000))

    using(SqliteStore(tmp_path / "s.db", factory=SmallDisk), body)


class GatedDisk(sqlite3.Connection):
    """A connection whose COMMIT waits for a gate, and counts."""

    gate = threading.Event()
    began = threading.Event()
    commits = 0

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:  # type: ignore[override]
        if sql == "COMMIT":
            type(self).commits += 1
            type(self).began.set()
            assert type(self).gate.wait(30)
        return super().execute(sql, *parameters)


@pytest.fixture
def gated() -> type[GatedDisk]:
    GatedDisk.gate = threading.Event()
    GatedDisk.gate.set()
    GatedDisk.commits = 0
    GatedDisk.began = threading.Event()
    return GatedDisk


def test_what_waits_during_a_commit_is_one_commit(tmp_path: Path, gated: type[GatedDisk]) -> None:
    """Five hundred appends that gather while one commit runs share the next one."""

    async def body(store: SqliteStore) -> None:
        claims = [await store.claim(f"log.{n}") for n in range(500)]
        gated.gate.clear()
        gated.began.clear()
        before = gated.commits
        first = asyncio.ensure_future(store.put("first", b""))
        await asyncio.to_thread(gated.began.wait, 30)
        rest = [asyncio.ensure_future(store.append(claim, entries(1, 2))) for claim in claims]
        await asyncio.sleep(0)
        assert not first.done(), "nothing is told before its commit"
        gated.gate.set()
        await asyncio.gather(first, *rest)
        assert gated.commits - before <= 10, "about one commit for five hundred appends (5 ms of work each)"

    using(SqliteStore(tmp_path / "s.db", factory=gated), body)


def test_a_hanging_disk_is_a_store_error_of_unknown_outcome(tmp_path: Path, gated: type[GatedDisk]) -> None:
    """A commit that does not end is given up by its caller; the queue is bounded meanwhile."""

    async def body(store: SqliteStore) -> None:
        gated.gate.clear()
        with pytest.raises(StoreError, match="unknown"):
            await store.put("v", b"1")
        calls = [store.put(f"v.{n}", b"x" * 600) for n in range(3)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, StoreError) for result in results)
        assert any("too slow" in str(result) for result in results)
        gated.gate.set()
        await store.claim("wait for the queue")
        assert (await store.get("v")).value == b"1"

    using(SqliteStore(tmp_path / "s.db", factory=gated, answer_s=0.2, max_pending_bytes=1_000), body)


def test_a_value_sqlite_cannot_hold_fails_alone(tmp_path: Path) -> None:
    """A key that is not UTF-8 is refused; its neighbours in the same transaction are written."""

    async def body(store: SqliteStore) -> None:
        claim = await store.claim("k")
        calls = [
            store.put("a", b"1"),
            store.append(claim, entries(1, 5)),
            store.put("\ud800", b"2"),
            store.put("b", b"3"),
            store.append(claim, entries(6, 6)),
            store.claim("\ud800"),
            store.put("c", b"4"),
        ]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [isinstance(result, StoreError) for result in results] == [False, False, True, False, False, True, False]
        assert [(await store.get(key)).value for key in "abc"] == [b"1", b"3", b"4"]
        assert await store.read("k", 1, 1) == entries(1, 6)

    using(SqliteStore(tmp_path / "s.db"), body)


@pytest.mark.parametrize(("sync", "same"), [("full", True), ("normal", False)])
def test_epochs_after_a_reboot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: str, same: bool) -> None:
    """Under normal a reboot may have lost commits, so epochs change; under full they stay."""
    claims = []

    async def body(store: SqliteStore) -> None:
        claims.append(await store.claim("k"))

    for boot in ("boot one", "boot one", "boot two", "boot two"):
        monkeypatch.setattr("laneway.engine.stores.database.boot_id", lambda boot=boot: boot)
        using(SqliteStore(tmp_path / "s.db", sync=sync), body)
    epochs = [claim.epoch for claim in claims]
    assert epochs[0] == epochs[1]
    assert epochs[2] == epochs[3]
    assert (epochs[1] == epochs[2]) is same


def test_an_unknown_sync_mode_is_a_config_error(tmp_path: Path) -> None:
    """The message names the field and the choices."""
    with pytest.raises(ConfigError, match=r"store\.sync"):
        SqliteStore(tmp_path / "s.db", sync="off")


def test_a_cancelled_caller_leaves_the_store_well(tmp_path: Path) -> None:
    """A caller that is cancelled while it waits harms neither the store nor its neighbours."""

    async def body(store: SqliteStore) -> None:
        claim = await store.claim("k")
        task = asyncio.ensure_future(store.append(claim, entries(1, 1)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        head = (await store.claim("k")).heads.get(1, (0, 0))[0]
        assert head in (0, 1)

    using(SqliteStore(tmp_path / "s.db"), body)
