"""Server-sent events decoding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.engine.models.sse import SseDecoder
from laneway.routing.errors import ModelFailed

STREAM = "\ufeff: hello\n\ndata: one\n\nevent: x\ndata: zwei é\ndata:drei\nid: 4\n\ndata\n\ndata: 5\n\n"
EVENTS = ["one", "zwei é\ndrei", "", "5"]


@given(st.lists(st.integers(1, 60), max_size=12), st.sampled_from(["\n", "\r\n", "\r"]))
def test_events_do_not_depend_on_chunks_or_line_ends(cuts: list[int], newline: str) -> None:
    """However the bytes are cut, and whatever ends a line, the same events come out."""
    data = STREAM.replace("\n", newline).encode()
    decoder, events = SseDecoder(), []
    for cut in cuts:
        events += decoder.feed(data[:cut])
        data = data[cut:]
    assert events + decoder.feed(data) == EVENTS


def test_an_event_without_its_blank_line_is_not_given() -> None:
    """A stream cut inside an event does not invent one."""
    assert SseDecoder().feed(b"data: half") == []
    assert SseDecoder().feed(b"data: half\n") == []


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 200, b"data: 0123456789\n" * 20], ids=["line", "lines"])
def test_an_endless_event_is_refused(piece: bytes) -> None:
    """Memory is bounded whether the event is one line or many."""
    with pytest.raises(ModelFailed) as caught:
        SseDecoder(max_event_bytes=100).feed(piece)
    assert caught.value.reason == "TOO_LARGE"


def test_bytes_that_are_no_utf8_are_refused() -> None:
    """Text is UTF-8 or an error, never replacement characters."""
    with pytest.raises(ModelFailed) as caught:
        SseDecoder().feed(b"data: \xff\n\n")
    assert caught.value.reason == "BAD_UTF8"
