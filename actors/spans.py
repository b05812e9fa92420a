"""The tracing port: spans of sampled events, as Protocols owned here, and the span nobody records.

Law of this file: what is not sampled costs nothing but a truth test, and never reaches a tracer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Protocol, TypeAlias

from laneway.routing.errors import LanewayError

__all__ = ["SILENT", "Span", "SpanValue", "Tracer", "ended"]

SpanValue: TypeAlias = str | int | float | bool
"""What an attribute of a span may be."""


class Span(Protocol):
    """A span that is going on. Ending it is its maker's duty; what is not ended is never exported."""

    @property
    def traceparent(self) -> str:
        """What its children carry (W3C, 55 characters); empty for a span that is not recorded."""
        ...

    def note(self, **attributes: SpanValue) -> None:
        """Add attributes; a double underscore in a name stands for a dot (``gen_ai__request__model``)."""
        ...

    def event(self, name: str, **attributes: SpanValue) -> None:
        """Add a moment: a retry, the first token."""
        ...

    def end(self, code: str = "", message: str = "", at: float | None = None) -> None:
        """End it, now or `at` (clock seconds); with an error code it is marked as failed. Idempotent."""
        ...


class Tracer(Protocol):
    """Spans of sampled events. Times are seconds of the engine's Clock.

    Callers ask only for events whose `trace` is not empty; sampling is decided once, in `receive`.
    """

    def receive(self, trace: str, start: float, **attributes: SpanValue) -> Span | None:
        """Decide whether an event that came in is traced, and begin its first span here.

        Args:
            trace: the client's traceparent, or empty.

        Returns None if it is not sampled: the envelope then carries no trace. O(1), 0.2 us for None.
        """
        ...

    def begin(
        self,
        name: str,
        parent: str,
        *,
        kind: str = "internal",
        start: float | None = None,
        links: Sequence[str] = (),
        attributes: Mapping[str, SpanValue] = {},
    ) -> Span:
        """Begin a span under a traceparent. kind: internal, server, client, producer, consumer."""
        ...

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
        """Record a span that is over."""
        ...


class _Silent:
    """A span that is not recorded."""

    __slots__ = ()

    @property
    def traceparent(self) -> str:
        """Empty."""
        return ""

    def note(self, **attributes: SpanValue) -> None:
        """No effect."""

    def event(self, name: str, **attributes: SpanValue) -> None:
        """No effect."""

    def end(self, code: str = "", message: str = "", at: float | None = None) -> None:
        """No effect."""


SILENT: Final[Span] = _Silent()
"""Stands in for every span of an event that is not sampled; it has no state."""


@contextmanager
def ended(span: Span) -> Iterator[Span]:
    """End `span` with the block, marked by the error that leaves it; the error goes on."""
    try:
        yield span
    except LanewayError as error:
        span.end(error.code, error.message)
        raise
    except Exception as error:
        span.end(type(error).__name__, str(error))
        raise
    except BaseException as error:  # cancelled, or worse
        span.end("CANCELLED", type(error).__name__)
        raise
    span.end()
