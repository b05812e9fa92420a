"""One suite over every cell that a pool can have: here, or on another host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest

from laneway.actors.hosts.guests import Guests, HostOptions
from laneway.actors.hosts.remote_cells import RemoteCells
from laneway.actors.hosts.switchboard import Switchboard
from laneway.actors.pools.cell import Cell
from laneway.actors.pools.pool import CellPort, Pool, PoolSpec
from laneway.actors.ports import Principal
from laneway.engine.app.packing import HostPacking
from laneway.routing.errors import LocalProtocolError, ToolUnavailable
from laneway.routing.lanes import Lane
from tests.actors.conftest import Answers, RecordingContext, make_event
from tests.actors.hosts.stage import Taker, host_kinds
from tests.actors.pairs import connect
from tests.simulation.loop import VirtualClock, run

GRACE_S = 2.0
MARGIN_S = 1.5
"""For an answer's way; none is needed here, and every cell must have answered by then."""

Place: TypeAlias = Callable[..., Any]


@asynccontextmanager
async def local(handler: Any, answers: Answers, concurrency: int) -> AsyncIterator[CellPort]:
    """A cell of this process."""
    cell = Cell(
        "p/0",
        handler,
        concurrency=concurrency,
        clock=VirtualClock(asyncio.get_running_loop()),
        make_context=RecordingContext,
        on_done=answers,
        grace_s=GRACE_S,
    )
    yield cell
    await cell.close(0.0)


@asynccontextmanager
async def hosted(handler: Any, answers: Answers, concurrency: int) -> AsyncIterator[CellPort]:
    """A cell on a host that is joined in memory."""
    clock, kinds = VirtualClock(asyncio.get_running_loop()), host_kinds()
    spec = PoolSpec("p", ["WORK"], handler, remote=True, concurrency=concurrency, grace_s=GRACE_S)
    pool = Pool(spec, clock=clock, make_context=RecordingContext, on_done=answers)
    dispatcher: Any = SimpleNamespace(pool=lambda name: pool, ask=sleepy, number=lambda: 1)
    part = RemoteCells(
        dispatcher,
        outlet=Taker(),
        clock=clock,
        packer=HostPacking(kinds),
        principal=lambda env: Principal(""),
        history=lambda tenant, session: [],
    )
    guests = Guests(HostOptions(clock, kinds, HostPacking(kinds), ids=lambda: "id", number=lambda: 1))
    guests.add_pool(spec)
    front, host = Switchboard(), Switchboard()
    front.add(part)
    host.add(guests)
    connect(front, host)
    await asyncio.sleep(0.1)
    (cell,) = pool._cells.values()
    yield cell
    await cell.close(0.0)
    await guests.drain(0.0)
    await part.close()


PLACES = [local, hosted]


async def sleepy(env: Any, context: Any) -> bytes:
    await asyncio.sleep(1)
    return b"done %d" % env[1]


async def stubborn(env: Any, context: Any) -> None:
    for _ in range(10):
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            continue


def _case(place: Place, handler: Any, body: Any, concurrency: int = 1) -> None:
    async def main() -> None:
        answers = Answers()
        async with place(handler, answers, concurrency) as cell:
            await body(cell, answers)
        await asyncio.sleep(20)  # handlers that were given up end too

    run(main())


@pytest.mark.parametrize("place", PLACES)
def test_each_event_is_answered_once_with_what_its_handler_gave(place: Place) -> None:
    """A value, or an error with its code; load goes up and down with it."""

    async def handler(env: Any, context: Any) -> bytes:
        if env[1] == 2:
            raise ToolUnavailable("gone")
        if env[1] == 3:
            raise KeyError("bug")
        return await sleepy(env, context)

    async def body(cell: CellPort, answers: Answers) -> None:
        assert (cell.open, cell.load) == (True, 0)
        for counter in (1, 2):
            cell.deliver(make_event(counter))
        assert cell.load == 2
        await asyncio.sleep(5)
        cell.deliver(make_event(3))
        await asyncio.sleep(5)
        assert answers.status() == {1: "handled", 2: "failed", 3: "failed"}
        assert answers[1].value == b"done 1"
        assert (answers[2].code, answers[2].retryable) == ("TOOL_UNAVAILABLE", True)
        assert answers[3].code == "HANDLER_FAILED"
        assert cell.load == 0

    _case(place, handler, body)


@pytest.mark.parametrize("place", PLACES)
def test_no_more_is_taken_than_there_is_room(place: Place) -> None:
    """Ordinary events fill the ordinary room; critical ones have a reserve beside it; beyond it is a bug."""

    async def body(cell: CellPort, answers: Answers) -> None:
        counter = 0
        while cell.free() > 0:
            counter += 1
            cell.deliver(make_event(counter))
        assert counter >= 1
        reserve = cell.free(critical=True)
        assert reserve >= 1
        with pytest.raises(LocalProtocolError, match="free"):
            cell.deliver(make_event(99))
        for number in range(reserve):
            cell.deliver(make_event(100 + number, lane=Lane.CRITICAL))
        assert cell.free(critical=True) == 0
        with pytest.raises(LocalProtocolError, match="free"):
            cell.deliver(make_event(999, lane=Lane.CRITICAL))
        await asyncio.sleep(30)
        assert len(answers) == counter + reserve
        assert (cell.load, cell.free() > 0) == (0, True)

    _case(place, sleepy, body)


@pytest.mark.parametrize("place", PLACES)
def test_a_critical_event_does_not_wait_for_slow_handlers(place: Place) -> None:
    """There is always a worker for it."""

    async def handler(env: Any, context: Any) -> None:
        await asyncio.sleep(0.1 if env[7] == Lane.CRITICAL else 100)

    async def body(cell: CellPort, answers: Answers) -> None:
        cell.deliver(make_event(1))
        await asyncio.sleep(1)
        cell.deliver(make_event(2, lane=Lane.CRITICAL))
        await asyncio.sleep(1)
        assert answers.status() == {2: "handled"}

    _case(place, handler, body)


@pytest.mark.parametrize("place", PLACES)
def test_a_cancel_ends_what_runs_and_what_waits(place: Place) -> None:
    """And nothing else; it says how many, and does not wait."""

    async def body(cell: CellPort, answers: Answers) -> None:
        for counter in (1, 2):
            cell.deliver(make_event(counter, run=f"r{counter}"))
        await asyncio.sleep(0.5)
        assert cell.cancel(lambda env: env[5] in ("r1", "r2"), "enough") == 2
        assert cell.cancel(lambda env: env[5] == "r3", "enough") == 0
        await asyncio.sleep(0.5)
        assert [(answers[n].status, answers[n].code, answers[n].message) for n in (1, 2)] == [
            ("cancelled", "CANCELLED", "enough")
        ] * 2
        cell.deliver(make_event(3))
        await asyncio.sleep(2)
        assert answers.status()[3] == "handled"

    _case(place, sleepy, body)


@pytest.mark.parametrize("place", PLACES)
def test_a_handler_that_ignores_its_cancel_is_answered_for_after_its_grace(place: Place) -> None:
    """Not before, and with the cancel's outcome; critical work goes on meanwhile."""

    async def body(cell: CellPort, answers: Answers) -> None:
        cell.deliver(make_event(1))
        await asyncio.sleep(0.5)
        cell.cancel(lambda env: env[1] == 1, "enough")
        await asyncio.sleep(GRACE_S - 0.2)
        assert len(answers) == 0
        await asyncio.sleep(MARGIN_S)
        assert answers[1].code == "CANCELLED"
        assert cell.statistics().abandoned <= 1

    _case(place, stubborn, body)


@pytest.mark.parametrize("place", PLACES)
def test_deadlines_end_what_waits_and_what_runs(place: Place) -> None:
    """Expired if it never began, cancelled if it did; both with the same code."""

    async def handler(env: Any, context: Any) -> None:
        await asyncio.sleep(3)

    async def body(cell: CellPort, answers: Answers) -> None:
        now = VirtualClock(asyncio.get_running_loop()).now()
        cell.deliver(make_event(1, deadline=now + 2.0))
        cell.deliver(make_event(2, deadline=now + 1.0))
        await asyncio.sleep(5)
        assert answers.status() == {1: "cancelled", 2: "expired"}
        assert {outcome.code for outcome in answers.by_counter.values()} == {"DEADLINE_EXCEEDED"}

    _case(place, handler, body)


@pytest.mark.parametrize("place", PLACES)
def test_closing_lets_handlers_end_until_the_deadline_and_answers_all(place: Place) -> None:
    """What ends in time is handled, the rest is drained, and what comes later is answered at once."""

    async def handler(env: Any, context: Any) -> None:
        await asyncio.sleep(1 if env[1] == 1 else 50)

    async def body(cell: CellPort, answers: Answers) -> None:
        clock = VirtualClock(asyncio.get_running_loop())
        for counter in (1, 2):
            cell.deliver(make_event(counter))
        await asyncio.sleep(0.1)
        began = clock.now()
        await cell.close(began + 5.0)
        assert clock.now() - began <= 5.0 + GRACE_S + MARGIN_S
        assert answers.status() == {1: "handled", 2: "cancelled"}
        assert (answers[2].code, answers[2].retryable) == ("DRAINED", True)
        assert (cell.open, cell.free(), cell.free(critical=True)) == (False, 0, 0)
        cell.deliver(make_event(3))
        assert answers[3].code == "DRAINED"
        await cell.close(0.0)

    _case(place, handler, body, concurrency=2)


@pytest.mark.parametrize("place", PLACES)
def test_closing_does_not_wait_for_nothing(place: Place) -> None:
    """An empty cell closes at once, whatever the deadline."""

    async def body(cell: CellPort, answers: Answers) -> None:
        clock = VirtualClock(asyncio.get_running_loop())
        cell.deliver(make_event(1))
        await asyncio.sleep(2)
        began = clock.now()
        await cell.close(began + 100.0)
        assert clock.now() - began < 1.0
        assert answers.status() == {1: "handled"}

    _case(place, sleepy, body)


@pytest.mark.parametrize("place", PLACES)
def test_the_gauges_tell_what_is_there(place: Place) -> None:
    """Name, and how many events it has."""

    async def body(cell: CellPort, answers: Answers) -> None:
        for counter in (1, 2):
            cell.deliver(make_event(counter))
        await asyncio.sleep(0.1)
        statistics = cell.statistics()
        assert statistics.name == cell.name
        assert statistics.running + sum(statistics.waiting) == 2
        await asyncio.sleep(5)
        statistics = cell.statistics()
        assert (statistics.running, sum(statistics.waiting), statistics.abandoned) == (0, 0, 0)

    _case(place, sleepy, body)
