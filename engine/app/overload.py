"""`engine.overload`: what the lag of the event loop means for this engine, at any moment.

Law of this file: one engine has one level, found from the one measurement of its loop's lag and put
into the one object that all look at who shed something; each change is counted and logged once.
"""

from __future__ import annotations

import logging
from typing import Final

from laneway.actors.ports import Probe
from laneway.engine.telemetry.lag import LagTicker
from laneway.routing.overload import OverloadDetector, OverloadPolicy
from laneway.routing.shedding import MAX_LEVEL, Shedding

__all__ = ["LEVELS", "Overload"]

_log: Final = logging.getLogger(__name__)
LEVELS: Final = tuple(map(str, range(MAX_LEVEL + 1)))
"""The levels as values of a label."""
_MEANS: Final = (
    "nothing is shed",
    "events of the low lane are shed, text gathers longer",
    "new sessions are refused too, step detail is left out, a cheaper model answers if there is one",
    "new runs are refused too",
)


class Overload:
    """The level of one engine.

    Args:
        lag: measures the loop; told to tell this object.
        shedding: where the level goes.
        policy: when a level begins and ends; None: whatever is measured, the level stays 0.
        probe: counter `overload.level`.
    """

    def __init__(self, lag: LagTicker, shedding: Shedding, policy: OverloadPolicy | None, probe: Probe) -> None:
        self._shedding = shedding
        self._probe = probe
        self._detector = OverloadDetector(policy)
        self._held: int | None = None
        self._acts = policy is not None
        lag.tell = self._sample

    @property
    def level(self) -> int:
        """0 (none) to 3."""
        return self._shedding.level

    def hold(self, level: int | None) -> None:
        """Stay at a level whatever is measured: for a drill, or a detector of your own; None = follow again.

        Raises LocalProtocolError for a level that is not 0 to 3.
        """
        self._go(self._detector.level if level is None else level, "as told")
        self._held = level

    def _sample(self, lag_s: float, now: float) -> None:
        level = self._detector.sample(lag_s, now) if self._acts else 0
        if self._held is None and level != self._shedding.level:
            self._go(level, f"the event loop is {self._detector.lag_s * 1000:.0f} ms late")

    def _go(self, level: int, why: str) -> None:
        before = self._shedding.level
        self._shedding.set_level(level)
        if level != before:
            self._probe.count("overload.level", level=LEVELS[level])
            severity = logging.WARNING if level > before else logging.INFO
            _log.log(severity, "overload level %d, was %d, %s: %s", level, before, why, _MEANS[level])
