"""What only the memory store promises; the port's promises are in conformance."""

from __future__ import annotations

import asyncio

import pytest

from laneway.actors.ports import Entry
from laneway.engine.stores.memory import MemoryStore
from laneway.routing.errors import StoreError


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
