"""What a cell knows of one of its workers."""

from __future__ import annotations

import asyncio

from laneway.actors.pools.batch import BatchTurn
from laneway.actors.pools.worker import Worker, settled


def test_a_resting_worker_is_woken_once() -> None:
    """Rousing one that does not rest, or twice, does nothing."""

    async def scene() -> None:
        worker = Worker(critical=False)
        worker.rouse()
        worker.wake = asyncio.get_running_loop().create_future()
        worker.rouse()
        worker.rouse()
        await worker.wake

    asyncio.run(scene())


def test_a_cancel_from_outside_is_told_from_the_handlers_own() -> None:
    """A worker was asked to end if it is retired, or if its own task is being cancelled."""

    async def scene() -> None:
        worker = Worker(critical=True)
        assert not worker.asked_to_end()
        worker.task = asyncio.create_task(asyncio.sleep(60))
        assert not worker.asked_to_end()
        worker.task.cancel()
        assert worker.asked_to_end()
        await asyncio.gather(worker.task, return_exceptions=True)
        other = Worker(critical=False)
        other.retired = True
        assert other.asked_to_end()

    asyncio.run(scene())


def test_who_finds_its_caller_in_a_handler_knows_that_handlers_wait() -> None:
    """A summoned worker runs only when its caller does not: a turn that is not over then waits. Asked once."""
    caller, called = Worker(critical=False), Worker(critical=False)
    assert not called.finds_waiting()
    called.caller = caller
    assert not called.finds_waiting()
    caller.turn = BatchTurn((), lambda envs, context: None, lambda env, trace: None, lambda env, outcome: None, None)
    called.caller = caller
    assert called.finds_waiting()
    assert not called.finds_waiting()


def test_settling_waits_for_what_runs_and_no_longer_than_it_may() -> None:
    """Workers without a task are over."""

    async def scene() -> None:
        quick, stuck, none = (Worker(critical=False) for _ in range(3))
        quick.task = asyncio.create_task(asyncio.sleep(0))
        await settled([quick, none], 60.0)
        assert quick.task.done()
        stuck.task = asyncio.create_task(asyncio.sleep(60))
        await settled([quick, stuck], -1.0)
        assert not stuck.task.done()
        stuck.task.cancel()
        await settled([], 60.0)

    asyncio.run(scene())
