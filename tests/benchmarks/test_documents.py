"""State: every replica ends with the author's text, and a lost edit leaves no figure. No times."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks import documents
from benchmarks.counts import Lost
from benchmarks.measure import Options, Stage, Stopwatch
from benchmarks.regions import REGIONS
from benchmarks.replica import Replica, edits


def test_each_row_accounts_for_every_edit() -> None:
    """Some more than a batch: bare, at the handler, through an engine to every subscriber, and to another region."""
    rows = documents.run(Options(edits=100, repeats=1, seconds=0.05), lambda _: None)
    assert [row.row for row in rows] == [documents.BARE, documents.CELL, documents.SPREAD, REGIONS]
    assert [row.extra["count"] for row in rows] == [100, 100, 200, 2]
    assert all(row.figure("p99_ms") is not None for row in rows[2:])


@pytest.mark.parametrize("stage", [documents.bare, documents.at_cell, lambda work: documents.spread(work, 0.5)])
def test_a_lost_edit_leaves_no_figure(stage) -> None:
    """What comes after it waits for it, so the text is another one, or never comes."""
    work = edits(100)
    del work[70]
    lossy: Stage = stage(work)
    with pytest.raises(Lost):
        asyncio.run(_once(lossy))


async def _once(stage: Stage) -> int:
    return await stage(Stopwatch())


def test_a_text_that_differs_is_seen() -> None:
    """Whatever its length."""
    replica = Replica()
    for update in edits(10):
        replica.apply(update)
    replica.check("all", 10)
    with pytest.raises(Lost, match="after 9 edits is another one, of 10 characters"):
        replica.check("fewer", 9)
