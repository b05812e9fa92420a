"""Measurements that actors take on the way of every event, bound once.

Law of this file: nothing is looked up per event: a measurement is one call of a bound function with
seconds, and without a probe it is a call of one that does nothing. Names are the port's (with dots);
what they are called outside is the engine's table of metrics.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from laneway.actors.ports import Observe, Probe
from laneway.routing.lanes import LANE_NAMES

__all__ = ["MUTE", "SessionMeters", "by_lane"]


class _Mute:
    """A probe that records nothing."""

    __slots__ = ()

    def count(self, name: str, value: int = 1, **labels: str) -> None:
        """No effect."""

    def observe(self, name: str, value: float, **labels: str) -> None:
        """No effect."""

    def histogram(self, name: str, **labels: str) -> Observe:
        """Return a function without effect."""
        return _nothing


def _dropped(probe: Probe, kind: str) -> None:
    probe.count("overload.dropped", kind=kind)


def _nothing(value: float, times: int = 1, /) -> None:
    """Stands for a measurement that nobody wants."""


MUTE: Final[Probe] = _Mute()
"""For whoever is given no probe; it has no state."""


def by_lane(probe: Probe | None, name: str) -> tuple[Observe, ...]:
    """Return one bound histogram per lane, to be indexed with an envelope's lane."""
    bound = probe or MUTE
    return tuple(bound.histogram(name, lane=lane) for lane in LANE_NAMES)


class SessionMeters:
    """What the homes of one process measure; made once and shared by all of them.

    Attributes:
        count: the probe's. dropped: counts an outbound event that was left out, by its kind.
        commit: one append to the store, from its start to its answer.
        first_text: a run's acceptance to its first text in the log.
        response: a run's acceptance to its end.
    """

    __slots__ = ("commit", "count", "dropped", "first_text", "response")

    def __init__(self, probe: Probe | None = None) -> None:
        bound = probe or MUTE
        self.count = bound.count
        self.dropped = partial(_dropped, bound)
        self.commit = bound.histogram("store.commit")
        self.first_text = bound.histogram("run.first_text")
        self.response = bound.histogram("run.response")
