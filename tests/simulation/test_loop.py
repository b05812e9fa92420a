"""The virtual-time loop itself."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.simulation.loop import Deadlock, Lifetime, SimLoop, run


def test_an_hour_passes_at_once() -> None:
    """Sleeping an hour of virtual time takes no real time, and timers fire in order."""
    seen: list[float] = []

    async def main() -> float:
        start = asyncio.get_running_loop().time()

        async def nap(seconds: float) -> None:
            await asyncio.sleep(seconds)
            seen.append(seconds)

        async with asyncio.TaskGroup() as group:
            for seconds in (3600.0, 0.5, 60.0):
                group.create_task(nap(seconds))
        return asyncio.get_running_loop().time() - start

    before = time.monotonic()
    assert run(main()) == pytest.approx(3600.0)
    assert time.monotonic() - before < 60
    assert seen == [0.5, 60.0, 3600.0]


def test_a_deadlock_is_raised() -> None:
    """A wait that nothing can end is reported instead of hanging."""

    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        run(main())


def test_timeouts_are_virtual() -> None:
    """asyncio.timeout fires in virtual time."""

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1000):
                await asyncio.Event().wait()

    run(main())


def test_a_frozen_lifetime_stands_still_and_goes_on() -> None:
    """As after SIGSTOP and SIGCONT: nothing of it runs meanwhile, others do, and what became due then runs late."""
    seen: list[tuple[str, float]] = []

    async def tick(name: str) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(3):
            await asyncio.sleep(1.0)
            seen.append((name, round(loop.time() - 1000.0, 1)))

    async def main() -> None:
        frozen = Lifetime("frozen")
        tasks = [frozen.start(tick("frozen"), "frozen"), asyncio.create_task(tick("free"))]
        await asyncio.sleep(1.5)
        frozen.freeze()
        await asyncio.sleep(10.0)
        frozen.thaw()
        await asyncio.gather(*tasks)

    run(main())
    assert [at for name, at in seen if name == "free"] == [1.0, 2.0, 3.0]
    assert [at for name, at in seen if name == "frozen"] == [1.0, 11.5, 12.5]


def test_a_frozen_lifetime_can_be_killed() -> None:
    """SIGKILL ends what SIGSTOP stopped, without another step of it."""
    steps: list[int] = []

    async def count() -> None:
        while True:
            await asyncio.sleep(1.0)
            steps.append(1)

    async def main() -> None:
        lifetime = Lifetime("stopped")
        lifetime.start(count(), "count")
        await asyncio.sleep(2.5)
        lifetime.freeze()
        await asyncio.sleep(5.0)
        await lifetime.kill()
        assert not lifetime.tasks

    run(main())
    assert steps == [1, 1]


def test_time_that_jumps_makes_timers_late() -> None:
    """A suspended machine: its clock moved on, and all that was due in between is due now, in its order."""
    woke: list[int] = []

    async def nap(seconds: int) -> None:
        await asyncio.sleep(seconds)
        woke.append(seconds)

    async def main() -> float:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        async with asyncio.TaskGroup() as group:
            for seconds in (3, 1, 2):
                group.create_task(nap(seconds))
            await asyncio.sleep(0)
            loop.advance(60.0)
        return loop.time()

    assert run(main()) == pytest.approx(1060.0)
    assert woke == [1, 2, 3]
