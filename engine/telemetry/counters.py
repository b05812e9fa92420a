"""The default Probe: plain counters and own histograms in this process, cheap enough to leave on.

Law of this file: recording is a dict update or a bisect (0.13 us measured, 0.16 with the look-up of the
lane, against 5.9 us for an OpenTelemetry histogram); whoever exports reads what is recorded, and pays for it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from laneway.actors.ports import Observe
from laneway.engine.telemetry.catalogue import BUCKETS_S, BY_SOURCE

__all__ = ["Counters", "Distribution"]

_Key: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, slots=True)
class Distribution:
    """What a histogram has recorded.

    Attributes:
        bounds: upper bounds; a value belongs to the first bucket whose bound it does not exceed.
        buckets: values in each, one more than bounds: the last is open. total: their sum.
    """

    bounds: tuple[float, ...]
    buckets: tuple[int, ...]
    total: float

    @property
    def count(self) -> int:
        """How many values."""
        return sum(self.buckets)

    def __add__(self, other: Distribution) -> Distribution:
        """Both together; the bounds are the same."""
        buckets = tuple(a + b for a, b in zip(self.buckets, other.buckets, strict=True))
        return Distribution(self.bounds, buckets, self.total + other.total)


class _Recorder:
    """One histogram."""

    __slots__ = ("bounds", "buckets", "observe", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.total = [0.0]
        self.observe = self._bind()

    def read(self) -> Distribution:
        return Distribution(self.bounds, tuple(self.buckets), self.total[0])

    def _bind(self) -> Observe:
        bounds, buckets, total = self.bounds, self.buckets, self.total

        def observe(value: float, times: int = 1, /) -> None:
            buckets[bisect_left(bounds, value)] += times
            total[0] += value * times

        return observe


class Counters:
    """Counters and histograms by name and labels; one event loop or a reader that tolerates races.

    Bounds of a histogram are those of the catalogue's row, or `BUCKETS_S` for a name it has not.
    """

    def __init__(self) -> None:
        self._counts: dict[_Key, int] = defaultdict(int)
        self._histograms: dict[_Key, _Recorder] = {}

    def count(self, name: str, value: int = 1, **labels: str) -> None:
        """Add to a counter. O(labels)."""
        self._counts[name, _labels(labels)] += value

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Record one measurement in seconds. O(labels + log buckets)."""
        self._recorder(name, labels).observe(value)

    def histogram(self, name: str, **labels: str) -> Observe:
        """Return `observe` bound to one name and its labels. O(labels); the bound call O(log buckets)."""
        return self._recorder(name, labels).observe

    def _recorder(self, name: str, labels: Mapping[str, str]) -> _Recorder:
        key = (name, _labels(labels))
        recorder = self._histograms.get(key)
        if recorder is None:
            recorder = self._histograms[key] = _Recorder(_bounds(name))
        return recorder

    def recorded(self) -> Iterator[tuple[str, Mapping[str, str], int | Distribution]]:
        """Give everything recorded: name, labels, value."""
        for (name, labels), value in list(self._counts.items()):
            yield name, dict(labels), value
        for (name, labels), recorder in list(self._histograms.items()):
            yield name, dict(labels), recorder.read()

    def snapshot(self) -> dict[str, Any]:
        """Return everything recorded: ``name{label=value}`` -> count, or {count, sum, buckets}."""
        rows: dict[str, Any] = {}
        for name, labels, value in self.recorded():
            if isinstance(value, Distribution):
                told: Any = {"count": value.count, "sum": value.total, "buckets": list(value.buckets)}
            else:
                told = value
            rows[_name(name, labels)] = told
        return rows


def _labels(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(labels.items()) if len(labels) < 2 else tuple(sorted(labels.items()))


def _bounds(name: str) -> tuple[float, ...]:
    rows = BY_SOURCE.get(name, ())
    return rows[0].bounds if rows and rows[0].bounds else BUCKETS_S


def _name(name: str, labels: Mapping[str, str]) -> str:
    return name if not labels else f"{name}{{{','.join(f'{k}={v}' for k, v in labels.items())}}}"
