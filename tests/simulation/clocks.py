"""A wall clock that jumps: what a machine shows whose time is set while it runs.

Law of this file: how far it is off is a function of the seed and of virtual time alone, so that the same
seed with and without jumps must give the same run: nothing but what is meant to go by the wall may notice.
"""

from __future__ import annotations

import asyncio
import random
from typing import Final

from tests.simulation.faults import Faults

__all__ = ["WallClock"]

_UNIX_S: Final = 1_800_000_000.0
_EACH_S: Final = 1.0
_JUMPS_S: Final = (0.0, 3600.0, -3600.0)


class WallClock:
    """UNIX seconds, an hour off now and then if the weather has it so; after the storm it goes right."""

    def __init__(self, loop: asyncio.AbstractEventLoop, faults: Faults) -> None:
        self._loop = loop
        self._faults = faults
        self._off_s = 0.0

    def now(self) -> float:
        """UNIX seconds; may be less than before."""
        at = self._loop.time()
        off_s = 0.0
        if self._faults.weather.wall_jumps:
            off_s = random.Random(f"wall:{self._faults.seed}:{at // _EACH_S}").choice(_JUMPS_S)
        if off_s != self._off_s:
            self._faults.fired["wall clock jumped"] += 1
            self._off_s = off_s
        return _UNIX_S + at + off_s
