"""A traceparent is taken apart strictly, and what is none counts as absent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.routing.traceparent import child, parse, sampled, trace_id, write

_GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_traces = st.integers(1, 2**128 - 1)
_spans = st.integers(1, 2**64 - 1)
_flags = st.integers(0, 255)


def test_example_of_the_specification_is_read() -> None:
    """The ids and the flag of the W3C example."""
    parts = parse(_GOOD)
    assert parts is not None
    assert parts == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", 1)
    assert parts.sampled
    assert trace_id(_GOOD) == parts.trace_id


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        _GOOD.upper(),
        _GOOD + "-01",
        _GOOD + "\n",
        " " + _GOOD,
        _GOOD.replace("00-", "01-", 1),
        _GOOD.replace("00-", "ff-", 1),
        _GOOD[:-1],
        _GOOD[:-2] + "0g",
        _GOOD.replace("-", "_"),
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        _GOOD.replace("a", "\N{ARABIC-INDIC DIGIT ONE}"),
    ],
)
def test_anything_else_is_none(text: str) -> None:
    """Another version, another case, an id of zeros, a character more or less: absent, without an error."""
    assert parse(text) is None
    assert not sampled(text)
    assert child(text, "1" * 16) == ""


@given(_traces, _spans, _flags)
def test_what_is_written_is_read(trace: int, span: int, flags: int) -> None:
    """Every pair of ids and every flag survives."""
    text = write(trace, span, flags)
    parts = parse(text)
    assert parts is not None
    assert len(text) == 55
    assert (int(parts.trace_id, 16), int(parts.span_id, 16), parts.flags) == (trace, span, flags)
    assert str(parts) == text
    assert sampled(text) == bool(flags & 1)


@given(_traces, _spans, _spans, _flags)
def test_child_stays_in_the_trace(trace: int, span: int, below: int, flags: int) -> None:
    """Same trace, same flags, its own id."""
    assert child(write(trace, span, flags), f"{below:016x}") == write(trace, below, flags)


@given(st.text(max_size=70))
def test_no_text_raises(text: str) -> None:
    """Whatever a client sends, it is read or it is absent."""
    parts = parse(text)
    assert parts is None or str(parts) == text
