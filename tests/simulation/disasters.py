"""What befalls a world from outside, now and then: kills, takeovers, stops of a process, of time, of a disk.

Law of this file: each disaster ends by itself in bounded time and is counted when it strikes. A world
is at rest only when none is under way, so that what comes after it (a zombie that wakes) is seen too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from tests.simulation.disk import Archive, Marks
from tests.simulation.faults import Faults
from tests.simulation.loop import Lifetime, SimLoop

__all__ = ["DISASTERS", "Afflicted"]

_FROZEN_S: Final = 10.0
_PAUSED_S: Final = (0.5, 6.0)
_SUSPENDED_S: Final = (0.5, 8.0)
_FULL_S: Final = (0.2, 1.5)
_SLOW_S: Final = (1.0, 3.0)
_LYING_S: Final = (0.2, 1.5)
_OVERLOADED_S: Final = (0.2, 3.0)


class Afflicted(Protocol):
    """What disasters need of a world."""

    faults: Faults
    disk: Archive

    def processes(self) -> list[Any]:
        """Engine processes that serve now, in a fixed order."""
        ...

    def people(self) -> list[Any]:
        """All clients."""
        ...

    async def crash(self) -> None:
        """kill -9, and after a moment a new process."""
        ...

    async def take_over(self, *, frozen_s: float = 0.0) -> None:
        """A new process starts although the old one is there, which goes on for a while, or stood still first."""
        ...

    async def lose_power(self, marks: Marks, since_s: float) -> None:
        """All processes die and what the disk holds beyond `marks`, told since then, is lost; then a new process."""
        ...


async def _crash(world: Afflicted) -> None:
    await world.crash()


async def _take_over(world: Afflicted) -> None:
    await world.take_over()


async def _freeze(world: Afflicted) -> None:
    await world.take_over(frozen_s=_FROZEN_S)


async def _pause(world: Afflicted) -> None:
    """SIGSTOP and SIGCONT of one process, which nobody replaces."""
    running = [process.lifetime for process in world.processes()]
    if not running:
        return
    lifetime: Lifetime = world.faults.rng.choice(running)
    world.faults.fired["process stopped for a while"] += 1
    lifetime.freeze()
    try:
        await world.faults.pause(*_PAUSED_S)
    finally:
        lifetime.thaw()


async def _suspend(world: Afflicted) -> None:
    """The machine sleeps: monotonic time passes and nothing runs, clients included."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    world.faults.fired["machine suspended"] += 1
    loop.advance(world.faults.between(_SUSPENDED_S))


async def _rush(world: Afflicted) -> None:
    """Every connection breaks, and everybody comes back in the same moment."""
    world.faults.fired["all reconnected at once"] += 1
    for client in world.people():
        client.rushes = True
    for process in world.processes():
        process.hang_up()


async def _fill_disk(world: Afflicted) -> None:
    world.faults.disk_full = True
    try:
        await world.faults.pause(*_FULL_S)
    finally:
        world.faults.disk_full = False


async def _slow_disk(world: Afflicted) -> None:
    world.faults.fired["slow disk"] += 1
    world.faults.disk_slow = True
    try:
        await world.faults.pause(*_SLOW_S)
    finally:
        world.faults.disk_slow = False


async def _lose_power(world: Afflicted) -> None:
    """For a moment the disk says of what it only holds that it is written, then the power fails: that is gone."""
    marks, since_s = world.disk.marks(), asyncio.get_running_loop().time()
    await world.faults.pause(*_LYING_S)
    await world.lose_power(marks, since_s)


async def _overload(world: Afflicted) -> None:
    """The loop is said to be late: load is shed, detail left out, text gathered longer."""
    level = world.faults.rng.randint(1, 3)
    world.faults.fired[f"overload level {level}"] += 1
    strained = world.processes()
    for process in strained:
        process.shedding.set_level(level)
    try:
        await world.faults.pause(*_OVERLOADED_S)
    finally:
        for process in strained:
            process.shedding.set_level(0)


DISASTERS: Final[tuple[tuple[str, Callable[[Afflicted], Awaitable[None]]], ...]] = (
    ("crash_every_s", _crash),
    ("zombie_every_s", _take_over),
    ("freeze_every_s", _freeze),
    ("pause_every_s", _pause),
    ("suspend_every_s", _suspend),
    ("rush_every_s", _rush),
    ("full_every_s", _fill_disk),
    ("slow_every_s", _slow_disk),
    ("power_every_s", _lose_power),
    ("overload_every_s", _overload),
)
"""Field of the weather with the mean time between two, and what happens."""
