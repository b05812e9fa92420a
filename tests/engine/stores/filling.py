"""A store that is open for the time of a test, and entries to put into it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from laneway.actors.ports import Entry, Store

__all__ = ["entries", "using"]

_Store = TypeVar("_Store", bound=Store)


def entries(first: int, last: int, size_bytes: int = 10) -> list[Entry]:
    """Entries of stream 1, each 10 bytes further than the one before."""
    return [Entry(1, seq, seq * 10, b"x" * size_bytes) for seq in range(first, last + 1)]


def using(store: _Store, body: Callable[[_Store], Coroutine[Any, Any, None]]) -> None:
    """Open the store, run the test, and close it however the test ends."""

    async def main() -> None:
        await store.open()
        try:
            await body(store)
        finally:
            await store.close()

    asyncio.run(main())
