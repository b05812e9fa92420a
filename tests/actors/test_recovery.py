"""Going through what was left in a store."""

from __future__ import annotations

import asyncio

import pytest

from laneway.actors.recovery import recover
from laneway.routing.errors import StoreError
from tests.simulation.loop import run


def test_each_is_taken_up_once_and_counted() -> None:
    """In order, some side by side; progress is told after each, and those with work are counted."""

    async def main() -> None:
        under_way = most = 0
        taken: list[str] = []
        told: list[tuple[int, int]] = []

        async def take_up(key: str) -> bool:
            nonlocal under_way, most
            taken.append(key)
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.1)
            under_way -= 1
            return int(key) % 2 == 0

        keys = [str(n) for n in range(20)]
        assert await recover(keys, take_up, 4, lambda done, total: told.append((done, total))) == 10
        assert taken == keys
        assert most == 4
        assert told == [(n, 20) for n in range(1, 21)]
        assert await recover([], take_up, 4) == 0

    run(main())


def test_what_fails_ends_it_with_nothing_left_running() -> None:
    """The error is passed on once the others under way were ended."""

    async def main() -> None:
        async def take_up(key: str) -> bool:
            await asyncio.sleep(0.1 if key == "2" else 5)
            raise StoreError("away")

        with pytest.raises(StoreError):
            await recover(["1", "2", "3"], take_up, 3)

    run(main())
