"""The limiter: AIMD on waits behind it, and fair turns in front of it."""

from __future__ import annotations

import asyncio

import pytest

from laneway.actors.tools.limiter import Limiter, LimiterPolicy
from laneway.routing.aimd import AimdPolicy
from laneway.routing.errors import Overloaded


def _policy(initial: int, queue: int = 4096) -> LimiterPolicy:
    return LimiterPolicy(AimdPolicy(initial=initial, floor=2), queue)


class Clock:
    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return self.at


def test_turns_are_first_come_first_served_within_the_limit() -> None:
    """At most `limit` at once, in order of arrival, and every turn is given back."""

    async def main() -> None:
        limiter = Limiter(Clock(), _policy(2))
        order: list[int] = []
        most = 0

        async def one(number: int) -> None:
            nonlocal most
            await limiter.take()
            order.append(number)
            most = max(most, limiter.in_flight)
            await asyncio.sleep(0)
            limiter.give()

        async with asyncio.TaskGroup() as group:
            for number in range(10):
                group.create_task(one(number))
        assert order == list(range(10))
        assert most == 2
        assert (limiter.in_flight, limiter.waiting) == (0, 0)

    asyncio.run(main())


def test_a_cancelled_waiter_loses_no_turn() -> None:
    """Cancelled in line or in the instant its turn came: the next one gets it."""

    async def main() -> None:
        limiter = Limiter(Clock(), _policy(2))
        release = asyncio.Event()

        async def hold() -> None:
            await limiter.take()
            try:
                await release.wait()
            finally:
                limiter.give()

        holders = [asyncio.create_task(hold()) for _ in range(2)]
        waiters = [asyncio.create_task(hold()) for _ in range(3)]
        await asyncio.sleep(0)
        assert limiter.waiting == 3
        waiters[0].cancel()
        await asyncio.sleep(0)
        assert limiter.waiting == 2
        holders[0].cancel()
        await asyncio.sleep(0)
        waiters[1].cancel()  # its turn may just have come
        release.set()
        await asyncio.gather(*holders, *waiters, return_exceptions=True)
        assert (limiter.in_flight, limiter.waiting) == (0, 0)

    asyncio.run(main())


def test_a_full_line_refuses_with_a_time() -> None:
    """Beyond the queue a caller gets Overloaded with retry_after_ms, at once."""

    async def main() -> None:
        limiter = Limiter(Clock(), _policy(2, queue=0))
        await limiter.take()
        await limiter.take()
        with pytest.raises(Overloaded) as caught:
            await limiter.take()
        assert caught.value.retry_after_ms
        limiter.give()
        await limiter.take()

    asyncio.run(main())


def test_refusals_and_timeouts_of_what_a_tool_asks_cut_its_limit() -> None:
    """A tick in which most calls were refused or too late cuts; one in which few were does not."""
    clock = Clock()
    limiter = Limiter(clock, _policy(100))
    for late in (False, True, True):
        limiter.overloaded() if late else limiter.observe(0.0)
    clock.at = 0.1
    limiter.overloaded()
    assert limiter.limit == 90
    for _ in range(3):
        limiter.observe(0.0)
    clock.at = 0.25
    limiter.overloaded()
    assert limiter.limit == 90


def test_the_lag_of_the_loop_cuts_the_limit_of_a_tool_that_runs_on_it() -> None:
    """Calls of a tool on the event loop wait for the loop: one in eight measures it, and nothing hides it."""

    async def main() -> None:
        clock = Clock()
        limiter = Limiter(clock, _policy(100))

        def busy() -> None:
            clock.at += 0.05

        for _ in range(32):
            asyncio.get_running_loop().call_soon(busy)  # another handler that keeps the loop
            await limiter.take()
        await asyncio.sleep(0)
        assert limiter.limit < 100

    asyncio.run(main())
