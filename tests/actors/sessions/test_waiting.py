"""Who waits for room, and who goes first."""

from __future__ import annotations

import asyncio

from laneway.actors.sessions.waiting import WaitingLine
from tests.simulation.loop import run


def test_the_most_urgent_lane_goes_first_and_in_it_who_came_first() -> None:
    """One for each call."""

    async def main() -> None:
        line, went = WaitingLine(), list[str]()

        async def one(name: str, lane: int) -> None:
            await line.stand(lane)
            went.append(name)

        tasks = [asyncio.create_task(one(f"{lane}{n}", lane)) for n, lane in enumerate([3, 1, 2, 1])]
        await asyncio.sleep(0)
        assert len(line.places) == 4
        for _ in tasks:
            assert line.call_next()
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        assert went == ["11", "13", "22", "30"]

    run(main())


def test_who_leaves_leaves_no_place() -> None:
    """A cancelled wait is not called any more, and calling nobody says so."""

    async def main() -> None:
        line = WaitingLine()
        first, second = (asyncio.create_task(line.stand(2)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        assert len(line.places) == 1
        assert line.call_next()
        await second
        assert not line.call_next()

    run(main())


def test_all_are_dismissed_together() -> None:
    """Whatever their lanes."""

    async def main() -> None:
        line = WaitingLine()
        tasks = [asyncio.create_task(line.stand(lane)) for lane in (1, 3)]
        await asyncio.sleep(0)
        line.dismiss()
        await asyncio.gather(*tasks)
        assert line.places == []

    run(main())
