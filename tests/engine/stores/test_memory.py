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
