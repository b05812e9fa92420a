"""A pool never queues: it knows its room and passes events on to the right cell."""

from __future__ import annotations

import asyncio

import pytest

from laneway.actors.pools.cell import Cell
from laneway.actors.pools.pool import Pool, PoolSpec
from laneway.routing.errors import ConfigError, LocalProtocolError
from laneway.routing.lanes import Lane


async def sleepy(env, ctx):
    await asyncio.sleep(10)


def _pool(rig, answers, handler=sleepy, on_change=None, **spec):
    spec.setdefault("concurrency", 1)
    return Pool(
        PoolSpec("p", ["WORK"], handler, **spec),
        clock=rig.VirtualClock(asyncio.get_running_loop()),
        make_context=rig.Context,
        on_done=answers,
        on_change=on_change,
    )


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"name": ""}, "name"),
        ({"kinds": []}, "no kind"),
        ({"cells": 0}, "cell"),
        ({"concurrency": 0}, "concurrency"),
        ({"keyed": "tenant"}, "'tenant'"),
    ],
)
def test_a_spec_that_cannot_work_is_refused(fields, names):
    """The message names what is wrong."""
    with pytest.raises(ConfigError, match=names):
        PoolSpec(**{"name": "p", "kinds": ["WORK"], "handler": sleepy, **fields})


def test_events_go_to_the_least_loaded_cell(rig):
    """An unkeyed pool spreads its events evenly."""

    async def main():
        answers = rig.Answers()
        pool = _pool(rig, answers, cells=3)
        for counter in range(6):
            pool.deliver(rig.event(counter))
        assert [sum(cell.waiting) for cell in pool.statistics().cells] == [2, 2, 2]
        assert pool.room() == 0
        await asyncio.sleep(0.1)  # one of each pair is running now
        assert pool.room() == 3
        await pool.drain(0.0)
        assert len(answers) == 6

    rig.run(main())


def test_a_named_cell_gets_its_events(rig):
    """A keyed pool is told which cell; the others keep their room."""

    async def main():
        pool = _pool(rig, rig.Answers(), cells=2, keyed="session")
        pool.deliver(rig.event(1), cell="p/1")
        assert (pool.room("p/0"), pool.room("p/1"), pool.room("p/1", critical=True)) == (2, 1, 2)
        assert pool.cells == ["p/0", "p/1"]
        await pool.drain(0.0)
        assert pool.cells == []

    rig.run(main())


def test_a_critical_event_finds_a_cell_when_all_are_full(rig):
    """Its reserve is not counted as ordinary room."""

    async def main():
        answers = rig.Answers()
        pool = _pool(rig, answers, cells=2)
        for counter in range(1, 5):
            pool.deliver(rig.event(counter))
        assert (pool.room(), pool.room(critical=True)) == (0, 4)
        pool.deliver(rig.event(9, lane=Lane.CRITICAL))
        await pool.drain(0.0)
        assert len(answers) == 5

    rig.run(main())


def test_cancel_reaches_every_cell(rig):
    """Queued and running events of all cells are counted."""

    async def main():
        answers = rig.Answers()
        pool = _pool(rig, answers, cells=2)
        for counter in range(1, 5):
            pool.deliver(rig.event(counter))
        await asyncio.sleep(0.1)
        assert pool.cancel(lambda env: env[1] != 2, "stop") == 3
        assert pool.load == 2  # one that winds down, one that runs
        await asyncio.sleep(20)
        assert answers.status() == {1: "cancelled", 2: "handled", 3: "cancelled", 4: "cancelled"}
        assert pool.load == 0
        await pool.drain(0.0)

    rig.run(main())


def _guest(rig, answers, name, concurrency=1):
    """A cell that comes by itself."""
    clock = rig.VirtualClock(asyncio.get_running_loop())
    return Cell(name, sleepy, concurrency=concurrency, clock=clock, make_context=rig.Context, on_done=answers)


def test_cells_of_other_hosts_come_and_go(rig):
    """Such a pool begins empty; each change is told, and who has left gets nothing and still ends what it has."""

    async def main():
        answers, told = rig.Answers(), []
        pool = _pool(rig, answers, remote=True, on_change=lambda: told.append(pool.cells))
        assert (pool.cells, pool.room(), pool.room("a"), pool.room(critical=True)) == ([], 0, 0, 0)
        with pytest.raises(LocalProtocolError, match="no cell"):
            pool.deliver(rig.event(1))
        pool.join(_guest(rig, answers, "a"))
        pool.deliver(rig.event(1))
        pool.join(_guest(rig, answers, "b"))
        pool.deliver(rig.event(2))
        pool.leave("a")
        pool.leave("a")
        pool.deliver(rig.event(3))
        assert told == [["a"], ["a", "b"], ["b"]]
        assert pool.load == 3
        await asyncio.sleep(0.1)
        assert pool.cancel(lambda env: env[1] == 1) == 1
        await asyncio.sleep(0.1)
        assert answers.status() == {1: "cancelled"}
        await pool.drain(0.0)
        assert answers.status() == {1: "cancelled", 2: "cancelled", 3: "cancelled"}

    rig.run(main())


def test_a_cell_takes_the_place_of_one_of_its_name(rig):
    """A host that comes again does not lose what its former life has left to end."""

    async def main():
        answers = rig.Answers()
        pool = _pool(rig, answers, remote=True)
        pool.join(_guest(rig, answers, "a"))
        pool.deliver(rig.event(1), cell="a")
        pool.join(_guest(rig, answers, "a"))
        assert (pool.cells, pool.room("a"), pool.load) == (["a"], 2, 1)
        await pool.drain(0.0)
        assert len(answers) == 1

    rig.run(main())
