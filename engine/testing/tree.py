"""Spans as a tree a person can read, and the check that a trace is whole.

Law of this file: what is shown is in one order whatever order the spans came in: by start, then by
name; the check names every fault, not only the first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from laneway.engine.testing.otlp import SpanRecord, Value

__all__ = ["RULES", "Row", "Rule", "faults", "render", "rows", "told"]

_TOLERANCE_MS: Final = 5.0
"""Clocks of processes on one machine, and one process's monotonic and wall clock, differ by less."""
_SHOWN: Final = (
    *("laneway.kind", "laneway.transport", "laneway.grade", "laneway.direction", "laneway.cell"),
    *("laneway.events", "laneway.bytes", "laneway.parts", "laneway.after", "laneway.demoted"),
    *("laneway.longest_wait_s", "laneway.paused_s", "laneway.first_event_s"),
    *("gen_ai.usage.", "gen_ai.response.time_to_first_chunk"),
    *("messaging.batch.message_count", "error.type"),
)


@dataclass(frozen=True, slots=True)
class Rule:
    """What a span of one base name must be.

    Attributes:
        kind: its span kind. parents: base names that may be above it; empty = any.
        attributes: names it must have.
    """

    kind: str
    attributes: Collection[str] = ()
    parents: Collection[str] = ()


RULES: Final[Mapping[str, Rule]] = {
    "send": Rule("producer", ("messaging.system", "laneway.kind")),
    "receive": Rule("server", ("messaging.system", "laneway.kind", "laneway.session"), ("send",)),
    "commit": Rule("internal", ("laneway.events", "laneway.bytes")),
    "shape": Rule("internal"),
    "queue": Rule("internal", ("laneway.lane",)),
    "route": Rule("internal", ("laneway.pool",)),
    "handle": Rule("consumer", ("laneway.pool", "laneway.cell")),
    "model": Rule("client", ("gen_ai.operation.name", "gen_ai.provider.name"), ("handle",)),
    "tool": Rule("internal", ("gen_ai.operation.name", "gen_ai.tool.name"), ("handle",)),
    "worker": Rule("internal", ("process.pid",), ("tool",)),
    "deliver": Rule("producer", ("laneway.events", "laneway.bytes")),
}
"""The spans of this engine, by the first word of their names."""


@dataclass(frozen=True, slots=True)
class Row:
    """A span in its place.

    Attributes:
        depth: 0 for a root. offset_ms: start after the first span of its trace.
        process: `service [n]`, processes numbered in the order they appear.
        orphan: its parent is not among the spans.
    """

    depth: int
    span: SpanRecord
    offset_ms: float
    process: str
    orphan: bool = False


def rows(spans: Iterable[SpanRecord]) -> list[Row]:
    """Return the spans as a tree, depth first. O(n log n)."""
    ordered = sorted(spans, key=lambda span: (span.start_ns, span.name, span.span))
    known = {(span.trace, span.span) for span in ordered}
    children: dict[tuple[str, str], list[SpanRecord]] = {}
    tops: dict[str, list[SpanRecord]] = {}
    for span in ordered:
        above = (span.trace, span.parent)
        (children.setdefault(above, []) if above in known else tops.setdefault(span.trace, [])).append(span)
    found: list[Row] = []
    processes: dict[tuple[str, object], str] = {}
    for trace, roots in tops.items():
        begun_ns = min(span.start_ns for span in ordered if span.trace == trace)
        for span, depth in _walk(roots, children):
            process = processes.setdefault(span.process, f"{span.process[0]} [{len(processes) + 1}]")
            orphan = bool(span.parent) and depth == 0
            found.append(Row(depth, span, (span.start_ns - begun_ns) / 1e6, process, orphan))
    return found


def _walk(
    roots: Sequence[SpanRecord], children: Mapping[tuple[str, str], Sequence[SpanRecord]]
) -> Iterator[tuple[SpanRecord, int]]:
    waiting = [(span, 0) for span in reversed(roots)]
    while waiting:
        span, depth = waiting.pop()
        yield span, depth
        waiting += [(child, depth + 1) for child in reversed(children.get((span.trace, span.span), ()))]


def render(spans: Iterable[SpanRecord]) -> str:
    """Return the tree as text: name, kind, start, duration, process, attributes; one line a span."""
    table = [
        (
            "  " * row.depth + row.span.name + (" (orphan)" if row.orphan else ""),
            row.span.kind,
            f"+{row.offset_ms:.1f} ms",
            f"{row.span.duration_ms:.1f} ms",
            row.process,
            " ".join(told(row.span)),
        )
        for row in rows(spans)
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)] if table else []
    return "\n".join(_line(cells, widths) for cells in table)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    name, kind, start, took, process, attributes = cells
    return "  ".join(
        (
            name.ljust(widths[0]),
            kind.ljust(widths[1]),
            start.rjust(widths[2]),
            took.rjust(widths[3]),
            process.ljust(widths[4]),
            attributes,
        )
    ).rstrip()


def told(span: SpanRecord) -> list[str]:
    """Return what is worth a person's eye: what is not in its name already, the error, how many links."""
    shown = [f"{name}={_short(value)}" for name, value in sorted(span.attributes.items()) if name.startswith(_SHOWN)]
    if span.status == "error":
        shown.append(f"error={span.message or '?'}")
    return [*shown, *([f"links={len(span.links)}"] if span.links else [])]


def _short(value: Value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def faults(spans: Sequence[SpanRecord], rules: Mapping[str, Rule] = RULES) -> list[str]:
    """Return what is wrong with one trace, one sentence each; empty if it is whole. O(n).

    Checked: one trace id; every parent is there, and only one span has none; ids are used once; no span
    ends before it begins, or begins more than 5 ms before its parent; each span's name,
    kind, parent and attributes fit `rules`.
    """
    known = {span.span: span for span in spans}
    found = (
        [f"{len(traces)} trace ids: {', '.join(traces)}"] if len(traces := sorted({s.trace for s in spans})) > 1 else []
    )
    roots = [span.name for span in spans if not span.parent]
    if len(roots) != 1:
        found.append(f"{len(roots)} spans have no parent: {', '.join(sorted(roots)) or 'not even one'}")
    if len(known) != len(spans):
        found.append(f"{len(spans) - len(known)} span ids are used twice")
    for span in spans:
        parent = known.get(span.parent)
        found += [f"{span.name} ({span.span}): {fault}" for fault in _faults(span, parent, rules)]
    return found


def _faults(span: SpanRecord, parent: SpanRecord | None, rules: Mapping[str, Rule]) -> Iterator[str]:
    if span.parent and parent is None:
        yield f"an orphan, its parent {span.parent} was not exported"
    if span.end_ns < span.start_ns:
        yield f"ends {-span.duration_ms:.3f} ms before it begins"
    if parent is not None and (parent.start_ns - span.start_ns) / 1e6 > _TOLERANCE_MS:
        yield f"begins {(parent.start_ns - span.start_ns) / 1e6:.3f} ms before its parent {parent.name}"
    rule = rules.get(span.base)
    if rule is None:
        yield f"a name that is not in the rules; known: {', '.join(sorted(rules))}"
        return
    if span.kind != rule.kind:
        yield f"is of kind {span.kind}, not {rule.kind}"
    missing = sorted(set(rule.attributes) - set(span.attributes))
    if missing:
        yield f"lacks {', '.join(missing)}"
    if parent is not None and rule.parents and parent.base not in rule.parents:
        yield f"is below {parent.name}, not below {' or '.join(sorted(rule.parents))}"
