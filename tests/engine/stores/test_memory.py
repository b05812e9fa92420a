"""What only the memory store promises; the port's promises are in conformance."""

from __future__ import annotations

import asyncio

import pytest

from laneway.actors.ports import Entry
from laneway.actors.sessions.keeping import Run
from laneway.engine.stores.memory import MemoryStore
from laneway.routing.envelope import COUNTER, Envelope, envelope
from laneway.routing.errors import Fenced, LocalProtocolError, StoreError


def test_each_instance_is_an_epoch() -> None:
    """Two instances never share an epoch unless one is given."""

    async def main() -> None:
        epochs = {(await MemoryStore().claim("k")).epoch for _ in range(5)}
        assert len(epochs) == 5
        assert (await MemoryStore(epoch="e").claim("k")).epoch == "e"

    asyncio.run(main())


def test_bytes_are_counted_back_to_zero() -> None:
    """Everything that leaves gives its bytes back; only the logs themselves stay."""

    async def main() -> None:
        store = MemoryStore()
        claim = await store.claim("k")
        empty = store.used_bytes
        await store.append(claim, [Entry(1, seq, seq, b"x" * 100) for seq in range(1, 11)])
        await store.put("v", b"x" * 100)
        await store.put("v", b"x" * 10)
        assert store.used_bytes > empty + 1_010
        await store.trim(claim, 1, 11)
        await store.delete("v")
        assert store.used_bytes == empty

    asyncio.run(main())


def _run(first: int, last: int, size_bytes: int = 10) -> Run:
    body = bytes(size_bytes)
    rows = [
        (
            n,
            n * (16 + size_bytes),
            envelope("CUSTOM", producer="p", counter=n, tenant="t", session="s", lane=2, body=body),
        )
        for n in range(first, last + 1)
    ]
    return Run(1, rows, _pack)


def _pack(env: Envelope) -> bytes:
    return b"%d" % env[COUNTER]


def test_events_are_kept_as_they_are_and_packed_when_read() -> None:
    """Beside records of bytes, in one stream or in several; what leaves gives its bytes back."""

    async def main() -> None:
        store = MemoryStore()
        claim = await store.claim("k")
        empty = store.used_bytes
        store.append_now(claim, [Entry(1, 1, 26, b"1"), Entry(2, 1, 5, b"other")], [_run(2, 4)])
        store.append_now(claim, [], [_run(5, 6)])
        await store.append(claim, [Entry(1, 7, 7 * 26, b"7")])
        assert await store.read("k", 1, 1) == [Entry(1, n, n * 26, b"%d" % n) for n in range(1, 8)]
        assert await store.read("k", 1, 3, max_bytes=2) == [Entry(1, n, n * 26, b"%d" % n) for n in (3, 4)]
        assert (await store.claim("k")).heads == {1: (7, 182), 2: (1, 5)}
        claim = await store.claim("k")
        await store.trim(claim, 1, 4)
        assert [entry.seq for entry in await store.read("k", 1, 1)] == [4, 5, 6, 7]
        await store.trim(claim, 1, 8)
        await store.trim(claim, 2, 2)
        assert store.used_bytes == empty

    asyncio.run(main())


def test_a_run_follows_its_log_or_nothing_is_kept() -> None:
    """All or nothing, with the records beside it."""

    async def main() -> None:
        store = MemoryStore(30_000)
        claim = await store.claim("k")
        empty = store.used_bytes
        with pytest.raises(LocalProtocolError, match="cannot follow"):
            store.append_now(claim, [Entry(2, 1, 5, b"other")], [_run(2, 4)])
        with pytest.raises(StoreError, match="full"):
            store.append_now(claim, [Entry(2, 1, 5, b"other")], [_run(1, 2, 20_000)])
        newer = await store.claim("k")
        with pytest.raises(Fenced):
            store.append_now(claim, [], [_run(1, 2)])
        assert (store.used_bytes, newer.heads, await store.read("k", 2, 1)) == (empty, {}, [])

    asyncio.run(main())


def test_old_events_are_packed_once_half_of_the_memory_is_used() -> None:
    """The newest 1,024 of a stream stay as they are; what is read is the same, and it all adds up."""

    async def main() -> None:
        store = MemoryStore(1_200_000)
        claim = await store.claim("k")
        empty = store.used_bytes
        for first in range(1, 3_001, 100):
            store.append_now(claim, [], [_run(first, first + 99)])
        assert store.used_bytes < 3_000 * 400, "as events they would take more"
        found: list[Entry] = []
        while page := await store.read("k", 1, len(found) + 1):
            found += page
        assert found == [Entry(1, n, n * 26, b"%d" % n) for n in range(1, 3_001)]
        await store.trim(claim, 1, 1_501)
        store.append_now(claim, [], [_run(3_001, 3_100)])
        await store.trim(claim, 1, 3_101)
        assert store.used_bytes == empty

    asyncio.run(main())


def test_full_is_refused_and_says_what_to_do() -> None:
    """Beyond its bound nothing is kept, and the message names the settings."""

    async def main() -> None:
        store = MemoryStore(5_000)
        claim = await store.claim("k")
        with pytest.raises(StoreError, match=r"store\.memory_bytes"):
            await store.append(claim, [Entry(1, 1, 1, b"x" * 5_000)])
        assert await store.read("k", 1, 1) == []

    asyncio.run(main())


def test_ended_values_give_their_room_back_however_they_were_written() -> None:
    """Values rewritten for longer, for ever, or deleted and written again end at their own last time, and only then."""

    async def main() -> None:
        now = 0.0
        store = MemoryStore(now=lambda: now)
        empty = store.used_bytes
        for number in range(3_000):
            await store.put(f"v{number}", b"x", ttl_s=10)
            if number % 3 == 0:
                await store.delete(f"v{number}")
        await store.put("longer", b"x", ttl_s=10)
        await store.put("longer", b"x", ttl_s=30)
        await store.put("shorter", b"x", ttl_s=30)
        await store.put("shorter", b"x", ttl_s=5)
        await store.put("for ever", b"x", ttl_s=5)
        await store.put("for ever", b"x")
        await store.delete("v1")
        await store.put("v1", b"x", ttl_s=20)
        now = 15.0
        for _ in range(400):
            await store.put("now and then", b"x")
        kept = [name for name in ("longer", "shorter", "for ever", "v1", "v2") if (await store.get(name)).version]
        assert kept == ["longer", "for ever", "v1"]
        now = 40.0
        await store.put("now and then", b"x")
        await store.delete("now and then")
        await store.delete("for ever")
        assert store.used_bytes == empty

    asyncio.run(main())


def test_a_log_that_rests_is_kept_for_an_hour() -> None:
    """What it holds is still there when its session wakes; after an hour asleep it is gone, and its bytes with it."""

    async def main() -> None:
        now = 0.0
        store = MemoryStore(now=lambda: now)
        empty = store.used_bytes
        claim = await store.claim("k")
        store.append_now(claim, [], [_run(1, 5)])
        awake = store.used_bytes
        store.rest(claim)
        assert empty < store.used_bytes < awake
        now = 3_599.0
        again = await store.claim("k")
        assert (again.epoch, again.generation, again.heads) == (claim.epoch, 2, {1: (5, 130)})
        now = 99_999.0
        await store.claim("other")
        assert len(await store.read("k", 1, 1)) == 5, "it is in use"
        store.rest(again)
        now += 3_600.0
        other = await store.claim("other")
        assert (await store.keys(""), await store.read("k", 1, 1)) == (["other"], [])
        store.rest(other)
        now += 3_600.0
        await store.claim("k")
        assert await store.keys("") == ["k"]

    asyncio.run(main())


def test_a_log_after_a_forgotten_one_is_another() -> None:
    """Its epoch is its own, so that nobody resumes there, and no generation is given twice; the old claim is fenced."""

    async def main() -> None:
        now = 0.0
        store = MemoryStore(now=lambda: now)
        epochs: list[str] = []
        generations: list[int] = []
        for _ in range(3):
            claim = await store.claim("k")
            await store.append(claim, [Entry(1, 1, 1, b"x")])
            store.rest(claim)
            now += 3_601.0
            await store.claim("other")
            epochs.append(claim.epoch)
            generations.append(claim.generation)
        assert len(set(epochs)) == 3
        assert generations == [1, 2, 3]
        newest = await store.claim("k")
        with pytest.raises(Fenced):
            await store.append(claim, [Entry(1, 2, 2, b"y")])
        store.rest(claim)
        await store.append(newest, [Entry(1, 1, 1, b"z")])

    asyncio.run(main())


def test_logs_that_rest_make_room() -> None:
    """They hold a quarter of the memory at most, and nothing is refused for their sake; the oldest go first."""

    async def main() -> None:
        store = MemoryStore(40_000)
        for name in "abcdef":
            claim = await store.claim(name)
            await store.append(claim, [Entry(1, 1, 1, bytes(2_000))])
            store.rest(claim)
        assert await store.keys("") == ["d", "e", "f"]
        claim = await store.claim("busy")
        await store.append(claim, [Entry(1, 1, 1, bytes(34_000))])
        assert await store.keys("") == ["busy", "f"]
        with pytest.raises(StoreError, match="full"):
            await store.append(claim, [Entry(1, 2, 2, bytes(34_000))])
        assert await store.keys("") == ["busy"]

    asyncio.run(main())
