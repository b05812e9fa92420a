"""Bytes under way between two fronts."""

from __future__ import annotations

import asyncio

import pytest

from laneway.actors.fronts.flow import Flow
from laneway.actors.hosts.peers import TOOK
from laneway.actors.hosts.switchboard import Switchboard
from laneway.routing.errors import HostLost
from tests.actors.pairs import End, connect
from tests.simulation.loop import run


def _two(window_bytes: int = 1000) -> tuple[Flow, Flow, End, End]:
    left, right = Flow(window_bytes), Flow(window_bytes)
    boards = Switchboard(), Switchboard()
    for board, flow in zip(boards, (left, right), strict=True):
        board.add(flow)
    return left, right, *connect(*boards)


def test_no_more_than_the_window_is_under_way() -> None:
    """Whoever does not fit waits, in order, until the other side has taken some; both ways apart."""

    async def main() -> None:
        left, right, mine, theirs = _two()
        order: list[int] = []

        async def send(number: int, size: int) -> None:
            await left.room(mine, size)
            order.append(number)

        tasks = [asyncio.create_task(send(number, 400)) for number in range(5)]
        await asyncio.sleep(0.1)
        assert order == [0, 1]
        assert left.waiting() == 3
        await right.room(theirs, 1000)
        right.taken(theirs, 400)
        await asyncio.sleep(0.1)
        assert order == [0, 1, 2]
        for _ in range(4):
            right.taken(theirs, 400)
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2, 3, 4]
        assert left.waiting() == 0

    run(main())


def test_one_that_is_larger_than_the_window_goes_alone() -> None:
    """It waits until nothing is under way, and everything waits for it."""

    async def main() -> None:
        left, right, mine, theirs = _two()
        await left.room(mine, 10)
        large = asyncio.create_task(left.room(mine, 5000))
        small = asyncio.create_task(left.room(mine, 10))
        await asyncio.sleep(0.1)
        assert not large.done()
        right.taken(theirs, 125)  # the sender's count is what counts: here it is told at an eighth of the window
        await asyncio.sleep(0.1)
        assert not mine.alive  # 125 were never sent
        for waiting in (large, small):
            with pytest.raises(HostLost):
                await waiting

    run(main())


def test_it_is_told_now_and_then() -> None:
    """An eighth of the window at a time, not with every message."""

    async def main() -> None:
        left, right, mine, theirs = _two(8000)
        for _ in range(100):
            await left.room(mine, 50)
            right.taken(theirs, 50)
        await asyncio.sleep(0.1)
        assert [message for message in theirs.sent if message[0] == TOOK] == [(TOOK, 0, 1000 * n) for n in range(1, 6)]

    run(main())


def test_who_gives_up_waiting_takes_no_room() -> None:
    """Neither while it waits nor when its turn has just come; those behind it go on."""

    async def main() -> None:
        left, right, mine, theirs = _two()
        await left.room(mine, 1000)
        waiting = [asyncio.create_task(left.room(mine, 900)) for _ in range(3)]
        await asyncio.sleep(0.1)
        waiting[0].cancel()
        await asyncio.sleep(0.1)
        assert left.waiting() == 2
        right.taken(theirs, 1000)
        await asyncio.sleep(0)
        assert left.waiting() == 1
        waiting[1].cancel()  # its turn has come, and it has not run since
        await asyncio.sleep(0.1)
        assert waiting[2].done()
        assert not waiting[2].cancelled()
        assert left.waiting() == 0

    run(main())


def test_a_lost_host_takes_nothing() -> None:
    """Waiting ends with HOST_LOST, and so does asking afterwards; what arrives late is not counted."""

    async def main() -> None:
        left, right, mine, theirs = _two()
        await left.room(mine, 1000)
        waiting = asyncio.create_task(left.room(mine, 1))
        await asyncio.sleep(0.1)
        mine.cut()
        with pytest.raises(HostLost):
            await waiting
        with pytest.raises(HostLost):
            await left.room(mine, 1)
        right.taken(theirs, 1000)
        assert left.waiting() == 0

    run(main())


def test_a_host_that_is_lost_after_the_turn_came_takes_nothing_either() -> None:
    """Who asks it something waits for an answer that nobody would end any more."""

    async def main() -> None:
        left, right, mine, theirs = _two()
        await left.room(mine, 1000)
        waiting = asyncio.create_task(left.room(mine, 1))
        await asyncio.sleep(0.1)
        right.taken(theirs, 1000)
        await asyncio.sleep(0)
        assert (left.waiting(), waiting.done()) == (0, False)
        left.lost(mine, HostLost("gone"))
        with pytest.raises(HostLost):
            await waiting

    run(main())
