"""Sessions that are being opened: once each, and every place is had by exactly one."""

from __future__ import annotations

import asyncio

import pytest

from laneway.actors.directory.openings import Openings
from laneway.routing.errors import Overloaded, StoreUnavailable
from tests.simulation.loop import run


class _Book:
    """Homes, which are names here; an opening waits for its turn, and then goes on for a while with its home there."""

    def __init__(self, most: int) -> None:
        self.awake: dict[tuple[str, str], str] = {}
        self.openings = Openings[str](most, self.awake)
        self.asked = 0
        self.go, self.end = asyncio.Event(), asyncio.Event()

    async def wait(self, name: str) -> str:
        return await self.openings.wait(("t", name), self._open)

    async def _open(self, tenant: str, name: str) -> str:
        self.asked += 1
        await self.go.wait()
        self.awake[tenant, name] = name
        self.openings.arrived((tenant, name))
        await self.end.wait()
        return name

    def leave(self, name: str) -> None:
        del self.awake["t", name]
        self.openings.left(("t", name))


def test_whoever_asks_waits_for_the_one_opening() -> None:
    """Ten ask, one opens; a caller that gives up ends nobody else's."""

    async def main() -> None:
        book = _Book(1)
        book.end.set()
        tasks = [asyncio.create_task(book.wait("a")) for _ in range(10)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        book.go.set()
        assert await asyncio.gather(*tasks[1:]) == ["a"] * 9
        assert book.asked == 1

    run(main())


def test_a_session_has_one_place_while_its_opening_ends() -> None:
    """Homes that are there already and whose tasks are not over count once: the last place is given, none beyond."""

    async def main() -> None:
        book = _Book(3)
        book.go.set()
        first = [asyncio.create_task(book.wait(name)) for name in ("a", "b")]
        await asyncio.sleep(1)
        assert len(book.awake) == 2
        third = asyncio.create_task(book.wait("c"))
        await asyncio.sleep(1)
        with pytest.raises(Overloaded, match="3 sessions are awake already"):
            await book.wait("d")
        book.end.set()
        assert await asyncio.gather(*first, third) == ["a", "b", "c"]
        with pytest.raises(Overloaded):
            await book.wait("d")

    run(main())


def test_a_home_that_leaves_before_its_opening_is_over_keeps_its_place_until_then() -> None:
    """Its task still has it: no more than so many are ever there, and afterwards the place is free again."""

    async def main() -> None:
        book = _Book(1)
        book.go.set()
        opening = asyncio.create_task(book.wait("a"))
        await asyncio.sleep(1)
        book.leave("a")
        with pytest.raises(Overloaded):
            await book.wait("b")
        book.end.set()
        await opening
        assert await book.wait("b") == "b"

    run(main())


def test_an_opening_that_fails_frees_its_place() -> None:
    """Everybody who waits hears why."""

    async def main() -> None:
        openings = Openings[str](1, ())

        async def failing(tenant: str, name: str) -> str:
            await asyncio.sleep(1)
            raise StoreUnavailable("away")

        for name in ("a", "b"):
            found = await asyncio.gather(
                *(openings.wait(("t", name), failing) for _ in range(2)), return_exceptions=True
            )
            assert [type(each) for each in found] == [StoreUnavailable] * 2
            await asyncio.sleep(0)

    run(main())


def test_an_opening_may_take_longer_than_anybody_waits() -> None:
    """After 10 s it is a store that is slow; who asks later finds the same opening. The end cancels what hangs."""

    async def main() -> None:
        book = _Book(2)
        book.end.set()
        with pytest.raises(StoreUnavailable, match="within 10 s"):
            await book.wait("a")
        asyncio.get_running_loop().call_later(5, book.go.set)
        assert (await book.wait("a"), book.asked) == ("a", 1)
        book.go.clear()
        hanging = asyncio.create_task(book.wait("b"))
        await asyncio.sleep(1)
        await book.openings.close()
        with pytest.raises((asyncio.CancelledError, StoreUnavailable)):
            await hanging

    run(main())
