"""A cursor as one word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.engine.edge.cursors import cursor_word, hello_cursor
from laneway.routing.errors import PeerProtocolError
from laneway.routing.replay import Cursor

counts = st.integers(0, 2**63 - 1)


@given(st.text("a.0:_-", min_size=1, max_size=64), counts, counts, counts)
def test_there_and_back(epoch: str, urgent: int, data: int, skip: int) -> None:
    """Also with dots and digits in the epoch."""
    word = cursor_word(Cursor(epoch, urgent, data, skip))
    assert hello_cursor(word) == {"cursor": [epoch, urgent, data], "skip": skip}


@pytest.mark.parametrize("word", ["", "e", "e.1", "e.1.x", "e.-1.2", "e.1.2+", "e e.1.2", "e.1.2\n", "e.1." + "9" * 20])
def test_what_is_no_cursor(word: str) -> None:
    """Refused, before it reaches a session."""
    with pytest.raises(PeerProtocolError):
        hello_cursor(word)
