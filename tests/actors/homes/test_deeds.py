"""The record of a home in the shared store."""

from __future__ import annotations

import asyncio

import pytest

from laneway.actors.homes.deeds import Deed, Deeds, Life
from laneway.engine.stores.memory import MemoryStore
from laneway.routing.errors import StoreError

A = Deed(Life("a", "1"), 3, 7)
B = Deed(Life("b", "1"), 4, 7)


def test_a_record_is_read_as_it_was_written() -> None:
    """Life, generation and view; an absent one is version 0 and nothing."""

    async def main() -> None:
        deeds = Deeds(MemoryStore())
        assert await deeds.read("t/session/s") == (0, None)
        version = await deeds.write("t/session/s", A, 0)
        assert await deeds.read("t/session/s") == (version, A)
        assert (await deeds.read("t/session/other"))[1] is None

    asyncio.run(main())


def test_only_the_version_that_was_read_is_replaced() -> None:
    """Whoever wrote in between keeps the record, and an older owner cannot erase it."""

    async def main() -> None:
        deeds = Deeds(MemoryStore())
        first = await deeds.write("k", A, 0)
        assert await deeds.write("k", B, 0) == 0
        second = await deeds.write("k", B, first)
        await deeds.erase("k", first)
        assert await deeds.read("k") == (second, B)
        await deeds.erase("k", second)
        version, deed = await deeds.read("k")
        assert deed is None
        assert await deeds.write("k", A, version)

    asyncio.run(main())


def test_an_erased_record_leaves_the_store() -> None:
    """Its place is not kept for ever."""

    async def main() -> None:
        now = 0.0
        store = MemoryStore(now=lambda: now)
        deeds = Deeds(store)
        await deeds.erase("k", await deeds.write("k", A, 0))
        now = 2.0
        assert await deeds.read("k") == (0, None)
        assert store.used_bytes == 0

    asyncio.run(main())


def test_a_damaged_record_is_an_error_of_the_store() -> None:
    """It names the key; nobody guesses an owner from it."""

    async def main() -> None:
        store = MemoryStore()
        await store.put("home/k", b"\xc1")
        with pytest.raises(StoreError, match="home/k"):
            await Deeds(store).read("k")

    asyncio.run(main())
