"""What goes together to a server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import pytest

from laneway.engine.stores.redis_convoy import Convoy, Job
from laneway.routing.errors import Fenced, StoreError
from tests.simulation.loop import run

Carry = Callable[[Sequence[Job]], Awaitable[None]]


class Server:
    """Carries convoys when it is let."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.convoys: list[list[Any]] = []
        self.error: Exception | None = None

    async def carry(self, jobs: Sequence[Job]) -> None:
        self.convoys.append([job.load for job in jobs])
        await self.open.wait()
        if self.error is not None:
            raise self.error
        for job in jobs:
            job.settle(job.load if isinstance(job.load, Exception) else f"done {job.load}")


def check(body: Callable[[Server, Convoy], Coroutine[Any, Any, None]], max_pending_bytes: int = 5_000_000) -> None:
    async def main() -> None:
        server = Server()
        convoy = Convoy("redis://host", server.carry, max_pending_bytes=max_pending_bytes, answer_s=9.0, most=4)
        try:
            await body(server, convoy)
        finally:
            server.open.set()
            await convoy.close(1.0)

    run(main())


def test_what_gathers_while_one_is_under_way_goes_together() -> None:
    """The first alone and at once, then as many as may, in order."""

    async def body(server: Server, convoy: Convoy) -> None:
        futures = [convoy.submit(0, 10)]
        await asyncio.sleep(0)
        futures += [convoy.submit(number, 10) for number in range(1, 7)]
        server.open.set()
        assert await asyncio.gather(*futures) == [f"done {number}" for number in range(7)]
        assert server.convoys == [[0], [1, 2, 3, 4], [5, 6]]
        assert convoy.pending_bytes == 0

    check(body)


def test_a_convoy_is_bounded_in_bytes() -> None:
    """About a mebibyte, or one job that is larger."""

    async def body(server: Server, convoy: Convoy) -> None:
        server.open.set()
        await asyncio.gather(*(convoy.submit(size, size) for size in (600_000, 600_000, 10, 2_000_000, 10)))
        assert server.convoys == [[600_000], [600_000, 10], [2_000_000], [10]]

    check(body)


def test_too_much_is_refused_and_nothing_of_it_kept() -> None:
    """What waits and what is under way count; once it is done there is room again."""

    async def body(server: Server, convoy: Convoy) -> None:
        first = convoy.submit(1, 60)
        await asyncio.sleep(0)
        with pytest.raises(StoreError, match="pending_bytes"):
            convoy.submit(2, 50)
        second = convoy.submit(3, 40)
        server.open.set()
        await asyncio.gather(first, second)
        assert await convoy.submit(4, 100) == "done 4"

    check(body, max_pending_bytes=100)


def test_a_failed_convoy_fails_what_waits_behind_it() -> None:
    """Each hears it for itself, and the next one goes again."""

    async def body(server: Server, convoy: Convoy) -> None:
        server.error = StoreError("the server is away")
        futures = [convoy.submit(0, 10)]
        await asyncio.sleep(0)
        futures += [convoy.submit(number, 10) for number in range(1, 9)]
        server.open.set()
        errors = await asyncio.gather(*futures, return_exceptions=True)
        assert [str(error) for error in errors] == ["STORE_FAILED: the server is away"] * 9
        assert len({id(error) for error in errors}) == 9
        server.error = None
        assert await convoy.submit("x", 10) == "done x"
        assert convoy.pending_bytes == 0

    check(body)


def test_a_mistake_in_carrying_is_told_to_who_waits() -> None:
    """Nobody hangs, and the task goes on."""

    async def body(server: Server, convoy: Convoy) -> None:
        server.error = KeyError("x")
        server.open.set()
        with pytest.raises(StoreError, match=r"KeyError.*bug"):
            await convoy.submit(0, 10)
        server.error = None
        assert await convoy.submit(1, 10) == "done 1"

    check(body)


def test_a_refusal_is_its_own() -> None:
    """Neighbours are not touched by it."""

    async def body(server: Server, convoy: Convoy) -> None:
        server.open.set()
        refused, done = convoy.submit(Fenced("over"), 10), convoy.submit(1, 10)
        with pytest.raises(Fenced):
            await refused
        assert await done == "done 1"

    check(body)


def test_who_waits_too_long_hears_so_and_what_was_not_sent_never_is() -> None:
    """After the deadline, in virtual time; the outcome of what is under way is unknown."""

    async def body(server: Server, convoy: Convoy) -> None:
        under_way = convoy.submit(0, 10)
        await asyncio.sleep(0)
        waiting = convoy.submit(1, 10)
        for future in (under_way, waiting):
            with pytest.raises(StoreError, match="unknown"):
                await future
        server.open.set()
        assert await convoy.submit(2, 10) == "done 2"
        assert server.convoys == [[0], [2]]
        assert convoy.pending_bytes == 0

    check(body)


def test_closing_carries_what_waits_and_gives_up_at_its_deadline() -> None:
    """Then nobody is left waiting, and nothing more is taken."""

    async def body(server: Server, convoy: Convoy) -> None:
        futures = [convoy.submit(number, 10) for number in range(6)]
        assert not await convoy.close(1.0)
        for future in futures:
            with pytest.raises(StoreError, match="closed"):
                await future
        with pytest.raises(StoreError, match="closed"):
            convoy.submit(9, 10)
        assert await convoy.close(1.0)

    check(body)

    async def orderly(server: Server, convoy: Convoy) -> None:
        server.open.set()
        futures = [convoy.submit(number, 10) for number in range(6)]
        assert await convoy.close(1.0)
        assert len(await asyncio.gather(*futures)) == 6

    check(orderly)
