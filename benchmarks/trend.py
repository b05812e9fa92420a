"""Whether a series of measurements rises: its slope by Theil and Sen, with an interval of confidence.

The slope is the median of the slopes between all pairs (Theil 1950, Sen 1968): a few outliers do not
move it. The interval is Sen's: pairs' slopes by rank, as far from the middle as Kendall's S is likely
to be by chance. Neighbouring samples of a process's memory resemble each other, which Sen's interval
does not know; so samples are first gathered into blocks, each the least that was measured in it.

Law of this file: pure; no clock, no files.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["Trend", "blocks", "trend"]

_CONFIDENT: Final = statistics.NormalDist().inv_cdf(0.975)
"""95 %, both sides."""


@dataclass(frozen=True, slots=True)
class Trend:
    """A slope and the interval that holds it with 95 % confidence, in units of y per unit of x."""

    slope: float
    low: float
    high: float

    @property
    def settled(self) -> bool:
        """True if the interval includes zero: it may as well not rise (or fall) at all."""
        return self.low <= 0.0 <= self.high


def blocks(samples: Sequence[tuple[float, float]], count: int) -> list[tuple[float, float]]:
    """Return `count` points for a longer series: of each block its middle x and its least y. O(samples)."""
    size = max(1, len(samples) // count)
    parts = [samples[first : first + size] for first in range(0, len(samples) - size + 1, size)]
    return [(statistics.fmean(x for x, _ in part), min(y for _, y in part)) for part in parts]


def trend(points: Sequence[tuple[float, float]]) -> Trend:
    """Return the slope of y over x. Raises ValueError for fewer than four points. O(n^2 log n)."""
    if len(points) < 4:
        raise ValueError(f"{len(points)} points are too few for a slope; take at least 4")
    slopes = sorted(
        (y2 - y1) / (x2 - x1) for at, (x1, y1) in enumerate(points) for x2, y2 in points[at + 1 :] if x2 != x1
    )
    width = _CONFIDENT * math.sqrt(_variance([y for _, y in points]))
    first, last = (len(slopes) - width) / 2, (len(slopes) + width) / 2
    low = slopes[max(0, math.floor(first))]
    high = slopes[min(len(slopes) - 1, math.ceil(last))]
    return Trend(statistics.median(slopes), low, high)


def _variance(ys: Sequence[float]) -> float:
    """Variance of Kendall's S for these values, ties included (Kendall 1970)."""
    count = len(ys)
    ties = [ys.count(y) for y in set(ys)]
    tied = sum(each * (each - 1) * (2 * each + 5) for each in ties)
    return (count * (count - 1) * (2 * count + 5) - tied) / 18
