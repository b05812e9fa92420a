"""What an engine does by itself beside events: takes up what a former process left, and sweeps.

Law of this file: recovery runs beside the first events and is awaited by whoever needs it; no failed
sweep is the last one. Both tasks end with the engine.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from laneway.actors.directory.directory import SessionDirectory
from laneway.actors.ports import Probe
from laneway.routing.errors import LanewayError, LocalProtocolError

__all__ = ["Upkeep"]

_log: Final = logging.getLogger(__name__)
_SWEEP_S: Final = 5.0


class Upkeep:
    """The tasks of one engine that nobody asks for.

    Args:
        durable: the store may hold what a former process left.
        sweep: also called every 5 s, after sessions were swept.
        probe: counter `engine.sweep_failed`.
    """

    def __init__(self, directory: SessionDirectory, *, durable: bool, sweep: Callable[[], None], probe: Probe) -> None:
        self._directory = directory
        self._durable = durable
        self._sweep = sweep
        self._probe = probe
        self._recovery: asyncio.Task[int] | None = None
        self._sweeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin both; on the engine's own loop."""
        loop = asyncio.get_running_loop()
        self._recovery = loop.create_task(self._recover(), name="laneway recovery")
        self._sweeper = loop.create_task(self._keep_sweeping(), name="laneway sweeper")

    @property
    def done(self) -> bool:
        """True once everything that was left is taken up, or could not be read."""
        return self._recovery is not None and self._recovery.done()

    async def recovered(self) -> int:
        """Wait for it; see `Engine.recovered`."""
        if self._recovery is None:
            raise LocalProtocolError("the engine is not running; enter it with `async with` first")
        return await asyncio.shield(self._recovery)

    async def close(self) -> None:
        """End both. Idempotent."""
        own = [task for task in (self._recovery, self._sweeper) if task is not None]
        self._recovery = self._sweeper = None
        for task in own:
            task.cancel()
        await asyncio.gather(*own, return_exceptions=True)

    async def _recover(self) -> int:
        try:
            busy = await self._directory.recover() if self._durable else 0
        except LanewayError as error:
            _log.error("what a former process left could not be taken up: %s", error)
            raise
        for (tenant, session), why in self._directory.unreadable.items():
            _log.error("session %s of tenant %s is left as it is, its log cannot be read: %s", session, tenant, why)
        return busy

    async def _keep_sweeping(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            try:
                await self._directory.sweep()
            except Exception as error:  # whatever it is, the next sweep must come
                _log.warning("sweeping sessions failed: %s", error, exc_info=not isinstance(error, LanewayError))
                self._probe.count("engine.sweep_failed", code=getattr(error, "code", type(error).__name__))
            self._sweep()
