"""A block is timed and ended whatever leaves it; what is not sampled costs nothing."""

from __future__ import annotations

import asyncio

import pytest

from laneway.actors.spans import SILENT, SpanValue, ended
from laneway.routing.errors import RateLimited


class _Span:
    traceparent = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"

    def __init__(self) -> None:
        self.ends: list[tuple[str, str]] = []

    def note(self, **attributes: SpanValue) -> None: ...

    def event(self, name: str, **attributes: SpanValue) -> None: ...

    def end(self, code: str = "", message: str = "", at: float | None = None) -> None:
        self.ends.append((code, message))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RateLimited("slow down"), "RATE_LIMITED"),
        (ValueError("no"), "ValueError"),
        (asyncio.CancelledError(), "CANCELLED"),
    ],
)
def test_error_ends_the_span_with_its_code_and_goes_on(error: BaseException, code: str) -> None:
    """Whatever leaves the block marks the span once and is raised on."""
    span = _Span()
    with pytest.raises(type(error)), ended(span):
        raise error
    assert [end[0] for end in span.ends] == [code]


def test_block_that_ends_well_ends_its_span_without_a_code() -> None:
    """No error, no code."""
    span = _Span()
    with ended(span) as inside:
        assert inside is span
    assert span.ends == [("", "")]


def test_silent_span_carries_no_trace() -> None:
    """Children of an event that is not sampled are not sampled either."""
    SILENT.note(a=1)
    SILENT.event("first token")
    SILENT.end("CODE")
    assert SILENT.traceparent == ""
