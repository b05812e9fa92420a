"""The Redis store as a whole: what survives, what is noticed, and who may write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from laneway.actors.ports import Entry
from laneway.engine.stores.redis import RedisStore
from laneway.engine.stores.redis_standing import fresh_name
from laneway.routing.errors import ConfigError, Fenced
from tests.redis_server import RedisServer


def entries(first: int, last: int, size_bytes: int = 10) -> list[Entry]:
    return [Entry(1, seq, seq * 10, b"x" * size_bytes) for seq in range(first, last + 1)]


def using(store: RedisStore, body: Callable[[RedisStore], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        await store.open()
        try:
            await body(store)
        finally:
            await store.close()

    asyncio.run(main())


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
