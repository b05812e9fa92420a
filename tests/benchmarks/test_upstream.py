"""The model server of unread answers."""

from __future__ import annotations

from benchmarks.upstream import PIECE_CHARS, told


def test_an_answer_is_as_long_as_its_pieces_say() -> None:
    """One space between two, none at the end, and no piece twice."""
    text = told(50)
    assert len(text) == 50 * PIECE_CHARS - 1
    assert len(set(text.split(" "))) == 50
