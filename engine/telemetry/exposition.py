"""Metrics as text, for Prometheus to scrape.

Law of this file: text format 0.0.4 to the letter
(https://prometheus.io/docs/instrumenting/exposition_formats/): one HELP and one TYPE per metric,
escaped, before all its series; buckets are cumulative and end with +Inf; the order never changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from laneway.engine.telemetry.counters import Distribution
from laneway.engine.telemetry.families import Family

__all__ = ["exposition"]


def exposition(families: Iterable[Family]) -> str:
    """Return the text. O(series)."""
    return "".join(line for family in families for line in _lines(family))


def _lines(family: Family) -> Iterator[str]:
    metric = family.metric
    yield f"# HELP {metric.name} {_help(metric.help)}\n"
    yield f"# TYPE {metric.name} {metric.type}\n"
    for values, value in family.series:
        labels = [f'{label}="{_escaped(text)}"' for label, text in zip(metric.labels, values, strict=True)]
        if isinstance(value, Distribution):
            yield from _histogram(metric.name, labels, value)
        else:
            yield f"{metric.name}{_braced(labels)} {_number(value)}\n"


def _histogram(name: str, labels: list[str], value: Distribution) -> Iterator[str]:
    count = 0
    for bound, inside in zip((*value.bounds, float("inf")), value.buckets, strict=True):
        count += inside
        below = f'le="{_number(bound)}"'
        yield f"{name}_bucket{_braced([*labels, below])} {count}\n"
    yield f"{name}_sum{_braced(labels)} {_number(value.total)}\n"
    yield f"{name}_count{_braced(labels)} {count}\n"


def _braced(labels: list[str]) -> str:
    return f"{{{','.join(labels)}}}" if labels else ""


def _number(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)


def _help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _escaped(text: str) -> str:
    return _help(text).replace('"', '\\"')
