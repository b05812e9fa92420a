"""Handing events over; what it does between whole fronts is in test_fronts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from laneway.actors.fronts.couriers import Couriers
from laneway.actors.fronts.flow import Flow
from laneway.actors.fronts.parcels import Parcels
from laneway.actors.hosts.switchboard import Switchboard
from laneway.engine.app.packing import LogPacking
from laneway.routing.errors import DeadlineExceeded, HostLost, RuntimeUnavailable, SlowConsumer, UnknownSession
from tests.actors.pairs import End, connect
from tests.actors.sessions.stage import Disk, a_directory, kind_table, text
from tests.simulation.loop import VirtualClock, run


@asynccontextmanager
async def _two(**policy: Any) -> AsyncIterator[tuple[Couriers, Any, End, Couriers]]:
    async with a_directory(Disk(), **policy) as (directory, _):
        sides = []
        for _ in range(2):
            board, flow = Switchboard(), Flow()
            parcels = Parcels(LogPacking(kind_table()), VirtualClock(asyncio.get_running_loop()))
            couriers = Couriers(directory, flow, parcels)
            for part in (flow, couriers):
                board.add(part)
            sides.append((board, couriers))
        (left, mine), (right, theirs) = sides
        peer, _ = connect(left, right)
        try:
            yield mine, directory, peer, theirs
        finally:
            await theirs.close()
            await mine.close()


def test_what_is_handed_over_is_answered_when_it_is_taken() -> None:
    """In order; a session that sleeps is told as such, and not woken."""

    async def main() -> None:
        async with _two() as (couriers, directory, peer, _):
            with pytest.raises(UnknownSession) as caught:
                await couriers.hand(peer, [text(1, "nobody")])
            assert caught.value.reason == "ASLEEP"
            assert directory.find("t", "s") is None
            home = await directory.open("t", "s")
            await couriers.hand(peer, [text(1, "one "), text(2, "two")])
            await directory.flush()
            assert home.outbound.issued[1] == 2

    run(main())


def test_it_waits_for_the_session_s_credit() -> None:
    """A session that nobody reads gives its own error; an answer that never comes ends after 180 s."""

    async def main() -> None:
        async with _two(budget_bytes=1, stall_s=5.0) as (couriers, directory, peer, _):
            await directory.open("t", "s")
            await couriers.hand(peer, [text(1, "x" * 500)])
            with pytest.raises(SlowConsumer):
                await couriers.hand(peer, [text(2, "y")])
            peer.hold()
            began = asyncio.get_running_loop().time()
            with pytest.raises(DeadlineExceeded):
                await couriers.hand(peer, [text(3, "z")])
            assert asyncio.get_running_loop().time() - began == pytest.approx(180, abs=0.1)

    run(main())


def test_a_lost_front_leaves_no_waiting() -> None:
    """Whether it was taken is not known; a front that is not connected is asked nothing."""

    async def main() -> None:
        async with _two(budget_bytes=1) as (couriers, directory, peer, theirs):
            await directory.open("t", "s")
            await couriers.hand(peer, [text(1, "x" * 500)])
            waiting = asyncio.create_task(couriers.hand(peer, [text(2, "y")]))
            await asyncio.sleep(0.1)
            peer.cut()
            with pytest.raises(HostLost):
                await waiting
            with pytest.raises(RuntimeUnavailable):
                await couriers.hand(peer, [text(3, "z")])
            await theirs.close()

    run(main())
