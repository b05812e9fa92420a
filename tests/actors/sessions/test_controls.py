"""Interrupts and cancels at a session's door."""

from __future__ import annotations

import asyncio

import pytest

from laneway.actors.sessions.controls import Controls
from laneway.routing.errors import RateLimited
from tests.actors.sessions.stage import Desk, an_event, kind_table
from tests.simulation.loop import VirtualClock, run


def test_what_is_named_is_stopped() -> None:
    """An interrupt names a run, a cancel an event or a call."""

    async def main() -> None:
        desk = Desk(kind_table())
        controls = Controls(desk, "t", "s", VirtualClock(asyncio.get_running_loop()))
        controls.act(an_event(1, "INTERRUPT", run="r1"))
        controls.act(an_event(2, "CANCEL", entity="call-1"))
        assert desk.cancels == [("s", "r1", ""), ("s", "", "call-1")]

    run(main())


def test_asking_to_stop_is_policed() -> None:
    """50 at once and 20 a second; who asks too often is told when to ask again."""

    async def main() -> None:
        controls = Controls(Desk(kind_table()), "t", "s", VirtualClock(asyncio.get_running_loop()))
        for _ in range(50):
            controls.police()
        with pytest.raises(RateLimited) as refused:
            controls.police()
        assert refused.value.retry_after_ms == 50
        await asyncio.sleep(0.05)
        controls.police()

    run(main())
