"""Keeps pools at the number of hosts they need: reads, asks `routing.scaling`, has it done, and says why.

Law of this file: one change at a time over all pools, so that a cluster never breathes in and out at
once; a change that fails or hangs is told and tried again only when the controller asks anew. Reading
costs nothing that grows with what waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final

from laneway.actors.dispatch.accounts import DispatcherStatistics
from laneway.actors.ports import Clock, Probe
from laneway.routing.errors import LanewayError
from laneway.routing.scaling import Decision, PoolLoad, Scaling, ScalingPolicy

__all__ = ["Scaler", "load_of", "merged"]

_log: Final = logging.getLogger(__name__)
_READ_S: Final = 5.0
"""Reading asks a few processes at most."""
_CHANGE_S: Final = 120.0
"""A host is ready after 20 s or fails, and drains for 30 s: what takes longer hangs."""


class Scaler:
    """Scales the pools of a cluster from one of its fronts.

    Args:
        bounds: pool -> fewest and most hosts; pools with equal ones are left alone.
        read: returns the loads of this moment, of all fronts together; see `load_of` and `merged`.
        scale: brings a pool to so many hosts; returns when that is done.
        policy: paces; its bounds are not used.
        tick_s: pause between two looks.
        probe: counters `pool.scaled`, `pool.scale_failed`.

    Attributes:
        loads: what was read last.
    """

    def __init__(
        self,
        bounds: Mapping[str, tuple[int, int]],
        *,
        read: Callable[[], Awaitable[Mapping[str, PoolLoad]]],
        scale: Callable[[str, int], Awaitable[object]],
        clock: Clock,
        probe: Probe,
        policy: ScalingPolicy | None = None,
        tick_s: float = 1.0,
    ) -> None:
        paces, now = policy or ScalingPolicy(), clock.now()
        self._scalings = {
            pool: Scaling(replace(paces, min_hosts=least, max_hosts=most), now)
            for pool, (least, most) in bounds.items()
            if least < most
        }
        self._read = read
        self._scale = scale
        self._clock = clock
        self._probe = probe
        self._tick_s = tick_s
        self.loads: Mapping[str, PoolLoad] = {}
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def start(self) -> None:
        """Begin to look; on the engine's own loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="laneway scaler")

    async def close(self) -> None:
        """Look no more. A change under way comes to its own end first: one that is broken off leaves a drained host."""
        self._closing.set()
        task, self._task = self._task, None
        if task is not None:
            await task

    async def _run(self) -> None:
        while not await self._told_to_close(self._tick_s):
            try:
                async with asyncio.timeout(_READ_S):
                    self.loads = await self._read()
            except Exception as error:  # whatever it is, the next look must come
                self._failed("the load of pools could not be read: %s", error)
                continue
            await self._look()

    async def _told_to_close(self, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                return await self._closing.wait()
        except TimeoutError:
            return False

    async def _look(self) -> None:
        for pool, scaling in self._scalings.items():
            load = self.loads.get(pool)
            if load is None:
                continue
            decision = scaling.decide(load, self._clock.now())
            if decision.reason:
                await self._change(pool, load, decision)
                return  # what was read before it is old

    async def _change(self, pool: str, load: PoolLoad, decision: Decision) -> None:
        _log.info("pool %s: %d -> %d hosts: %s", pool, load.wanted, decision.hosts, decision.reason)
        try:
            async with asyncio.timeout(_CHANGE_S):
                await self._scale(pool, decision.hosts)
        except Exception as error:  # as above
            self._failed(f"pool {pool} could not be brought to {decision.hosts} hosts: %s", error, pool)
        else:
            self._probe.count("pool.scaled", pool=pool)

    def _failed(self, text: str, error: Exception, pool: str = "") -> None:
        why = error if str(error) else type(error).__name__
        _log.warning(text, why, exc_info=not isinstance(error, LanewayError | TimeoutError))
        if pool:
            self._probe.count("pool.scale_failed", pool=pool)


def load_of(
    books: DispatcherStatistics, pool: str, now: float, *, wanted: int, ready: int, pending: int = 0
) -> PoolLoad:
    """Return the load of a pool as one front sees it. O(pools).

    Args:
        books: of that front. now: on its clock.
        wanted, ready, pending: hosts, see `PoolLoad`.
    """
    row = next(each for each in books.pools if each.name == pool)
    busy = min(row.running, row.slots)  # hosts do not tell what they run from what they have waiting
    waiting = books.core.pools.get(pool, 0) + row.waiting + row.running - busy
    oldest_s = max(0.0, now - books.core.oldest.get(pool, now))
    return PoolLoad(waiting, oldest_s, busy, row.slots, wanted, ready, pending)


def merged(loads: list[PoolLoad]) -> PoolLoad:
    """Return the load of a pool over all fronts: what each has waiting and running there, on the same hosts."""
    slots, running = max(load.slots for load in loads), sum(load.busy for load in loads)
    busy = min(running, slots)
    return loads[0]._replace(
        waiting=sum(load.waiting for load in loads) + running - busy,
        oldest_wait_s=max(load.oldest_wait_s for load in loads),
        busy=busy,
        slots=slots,
    )
