"""The bounds of documents."""

from __future__ import annotations

from laneway.actors.sync.bounds import DocumentsStatistics, SyncPolicy
from laneway.engine.limits import DEFAULT_LIMITS


def test_a_whole_document_fits_a_frame() -> None:
    """Who asks from nothing is told all of it in one message."""
    assert SyncPolicy().document_bytes * 2 <= DEFAULT_LIMITS.frame_bytes


def test_what_is_told_of_documents_are_gauges_and_one_counter() -> None:
    """Each by its name."""
    assert DocumentsStatistics.__slots__ == (
        "rooms", "resident", "resident_bytes", "views", "pending", "telling", "compactions",
    )  # fmt: skip
