"""The virtual-time loop itself."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.simulation.loop import Deadlock, run


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
