"""The limiter: AIMD on waits behind it, and fair turns in front of it."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.actors.tools.limiter import AimdLimit, Limiter, LimiterPolicy
from laneway.routing.errors import Overloaded


class Clock:
    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return self.at


def test_long_waits_cut_by_a_tenth_and_short_ones_add_one() -> None:
    """Once per tick: x0.9 above 20 ms, +1 when at least half is used, nothing when idle."""
    limit = AimdLimit(LimiterPolicy(initial=100), 0.0)
    limit.observe(0.05, 100, 0.1)
    assert limit.value == 90
    limit.observe(0.0, 45, 0.25)
    assert limit.value == 91
    limit.observe(0.0, 10, 0.4)
    assert limit.value == 91
    limit.observe(9.0, 91, 0.45)
    assert limit.value == 91  # the tick is not over


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 2000), st.floats(0, 1)), max_size=200))
def test_the_limit_stays_within_its_bounds(samples: list[tuple[float, int, float]]) -> None:
    """No sequence of waits takes it below the floor or above the ceiling."""
    limit, now = AimdLimit(LimiterPolicy(initial=8, floor=2, ceiling=16), 0.0), 0.0
    for wait, in_flight, step in samples:
        now += step
        limit.observe(wait, in_flight, now)
        assert 2 <= limit.value <= 16


def test_turns_are_first_come_first_served_within_the_limit() -> None:
    """At most `limit` at once, in order of arrival, and every turn is given back."""

    async def main() -> None:
        limiter = Limiter(Clock(), LimiterPolicy(initial=2))
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
        limiter = Limiter(Clock(), LimiterPolicy(initial=2, floor=2))
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
        limiter = Limiter(Clock(), LimiterPolicy(initial=2, floor=2, queue=0))
        await limiter.take()
        await limiter.take()
        with pytest.raises(Overloaded) as caught:
            await limiter.take()
        assert caught.value.retry_after_ms
        limiter.give()
        await limiter.take()

    asyncio.run(main())
