"""A tracer that keeps its spans, for tests of actors; follows every trace it is given, begins none.

Law of this file: it is the port and nothing else, so what passes here needs no SDK.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from laneway.actors.ports import Clock
from laneway.actors.spans import Span, SpanValue
from laneway.routing.traceparent import child, parse, sampled

__all__ = ["TRACE", "KeptSpan", "KeptTracer"]

TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


class KeptSpan:
    """One span and what was told of it."""

    def __init__(self, tracer: KeptTracer, name: str, parent: str, kind: str, start: float) -> None:
        self.name = name
        self.parent = parent
        self.kind = kind
        self.start = start
        self.traceparent = child(parent, f"{len(tracer.spans) + 1:016x}")
        self.attributes: dict[str, SpanValue] = {}
        self.links: list[str] = []
        self.events: list[str] = []
        self.end_at: float | None = None
        self.code = ""
        self._tracer = tracer

    def note(self, **attributes: SpanValue) -> None:
        assert self.end_at is None, f"{self.name} is over"
        self.attributes |= {name.replace("__", "."): value for name, value in attributes.items()}

    def event(self, name: str, **attributes: SpanValue) -> None:
        self.events.append(name)

    def end(self, code: str = "", message: str = "", at: float | None = None) -> None:
        if self.end_at is None:
            self.end_at, self.code = self._tracer.clock.now() if at is None else at, code


class KeptTracer:
    """Spans in the order of their beginning."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.spans: list[KeptSpan] = []

    def receive(self, trace: str, start: float, **attributes: SpanValue) -> Span | None:
        return self.begin("receive", trace, kind="server", start=start) if sampled(trace) else None

    def begin(
        self,
        name: str,
        parent: str,
        *,
        kind: str = "internal",
        start: float | None = None,
        links: Sequence[str] = (),
        attributes: Mapping[str, SpanValue] = {},
    ) -> KeptSpan:
        assert parse(parent) is not None, f"{name} was begun under {parent!r}"
        span = KeptSpan(self, name, parent, kind, self.clock.now() if start is None else start)
        span.note(**attributes)
        span.links += links
        self.spans.append(span)
        return span

    def record(
        self,
        name: str,
        parent: str,
        start: float,
        end: float,
        *,
        kind: str = "internal",
        links: Sequence[str] = (),
        attributes: Mapping[str, SpanValue] = {},
    ) -> None:
        self.begin(name, parent, kind=kind, start=start, links=links, attributes=attributes).end(at=end)

    def named(self, name: str) -> list[KeptSpan]:
        """The spans whose name begins so."""
        return [span for span in self.spans if span.name.startswith(name)]

    @property
    def told(self) -> list[tuple[str, str]]:
        """(name, error code) of every span, in order; raises if one is open."""
        assert all(span.end_at is not None for span in self.spans), "a span was left open"
        return [(span.name, span.code) for span in self.spans]
