"""The default Probe: plain counters and own histograms in this process, cheap enough to leave on.

Law of this file: recording is a dict update and a bisect (0.12 us measured, against 5.9 us for an
OpenTelemetry histogram); whoever exports reads a snapshot.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final

__all__ = ["BUCKETS_S", "Counters"]

BUCKETS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Upper bounds in seconds; the last bucket is open."""

_Key = tuple[str, tuple[tuple[str, str], ...]]


class Counters:
    """Counters and histograms by name and labels; one event loop or a reader that tolerates races."""

    def __init__(self) -> None:
        self._counts: dict[_Key, int] = defaultdict(int)
        self._histograms: dict[_Key, list[int]] = {}
        self._sums: dict[_Key, float] = defaultdict(float)

    def count(self, name: str, value: int = 1, **labels: str) -> None:
        """Add to a counter. O(labels)."""
        self._counts[name, tuple(sorted(labels.items()))] += value

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Record one measurement in seconds. O(labels + log buckets)."""
        self.histogram(name, **labels)(value)

    def histogram(self, name: str, **labels: str) -> Callable[[float], None]:
        """Return `observe` bound to one name and its labels. O(labels); the bound call O(log buckets)."""
        key = (name, tuple(sorted(labels.items())))
        buckets = self._histograms.setdefault(key, [0] * (len(BUCKETS_S) + 1))
        sums = self._sums

        def observe(value: float) -> None:
            buckets[bisect_left(BUCKETS_S, value)] += 1
            sums[key] += value

        return observe

    def snapshot(self) -> dict[str, Any]:
        """Return everything recorded: ``name{label=value}`` -> count, or {count, sum, buckets}."""
        rows: dict[str, Any] = {_name(key): value for key, value in self._counts.items()}
        for key, buckets in self._histograms.items():
            rows[_name(key)] = {"count": sum(buckets), "sum": self._sums[key], "buckets": list(buckets)}
        return rows


def _name(key: _Key) -> str:
    name, labels = key
    return name if not labels else f"{name}{{{','.join(f'{k}={v}' for k, v in labels)}}}"
