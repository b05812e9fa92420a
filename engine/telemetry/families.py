"""The catalogue filled in: every metric with all its series at one moment.

Law of this file: a series exists from the start, with 0, for each value its labels can have: a rate
over a series that appears with its first event misses that event. Recorded values whose labels are
not expected are kept too; nothing is counted twice.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from laneway.engine.telemetry.catalogue import BY_SOURCE, CATALOGUE, Metric
from laneway.engine.telemetry.counters import Distribution

__all__ = ["Family", "Readings", "Recorded", "Value", "families"]

Value: TypeAlias = float | Distribution
Recorded: TypeAlias = Iterable[tuple[str, Mapping[str, str], int | Distribution]]
Readings: TypeAlias = Mapping[str, Mapping[tuple[str, ...], float]]
"""Metric name -> label values in the order of the catalogue -> number; () for a metric without labels."""


class Family(NamedTuple):
    """One metric.

    Attributes:
        series: label values, in the order of `metric.labels` -> value; sorted.
    """

    metric: Metric
    series: tuple[tuple[tuple[str, ...], Value], ...]


def families(recorded: Recorded, readings: Readings, domains: Mapping[str, Sequence[str]]) -> list[Family]:
    """Return every metric that has a value, in the order of the catalogue.

    Args:
        recorded: what actors counted and measured; names the catalogue has not are left out.
        readings: what was read just now; a metric without a source that is not in it is left out
            (this machine cannot tell it).
        domains: label -> the values it can have.

    O(series).
    """
    counted = _projected(recorded)
    filled = []
    for metric in CATALOGUE:
        given = counted[metric.name] if metric.source else readings.get(metric.name)
        if given is None:
            continue
        series: dict[tuple[str, ...], Value] = dict.fromkeys(_expected(metric, domains), _nothing(metric))
        series.update(given)
        filled.append(Family(metric, tuple(sorted(series.items(), key=lambda item: item[0]))))
    return filled


def _projected(recorded: Recorded) -> dict[str, dict[tuple[str, ...], Value]]:
    """Sum up what was recorded over the labels that a metric does not have."""
    sums: dict[str, dict[tuple[str, ...], Value]] = defaultdict(dict)
    for source, labels, value in recorded:
        for metric in BY_SOURCE.get(source, ()):
            key = tuple(labels.get(label, "") for label in metric.labels)
            before = sums[metric.name].get(key)
            sums[metric.name][key] = value if before is None else before + value  # type: ignore[operator]
    return sums


def _expected(metric: Metric, domains: Mapping[str, Sequence[str]]) -> Iterable[tuple[str, ...]]:
    if not metric.source:
        return ()  # what is read is whole
    return itertools.product(*(domains.get(label, ()) for label in metric.labels))


def _nothing(metric: Metric) -> Value:
    if metric.type != "histogram":
        return 0
    return Distribution(metric.bounds, (0,) * (len(metric.bounds) + 1), 0.0)
