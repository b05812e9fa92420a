"""W4: every event of every row is accounted for at every load; a lost one stops the run. No times."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from benchmarks import overload, sweep
from benchmarks.measure import Options, Row, Stopwatch
from benchmarks.sweep import Due, Offer, Subject, Tally
from laneway.routing.lanes import LANE_NAMES

SMALL = Options(seconds=0.1, overload_repeats=2)


@pytest.mark.parametrize("subject", overload.SUBJECTS, ids=lambda subject: subject.row)
def test_every_event_is_done_or_refused_at_every_load(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone and from 1x to 10x; critical ones are done, the queues refuse nothing, nothing is lost.

    Where each run has a server of its own and a window to fill, the least and the greatest will do.
    """
    if "window" in subject.row:
        monkeypatch.setattr(overload, "LOADS", {load: overload.LOADS[load] for load in ("alone", "10x")})
    repeats = 2 if subject.row == "asyncio.Queue" else 1
    rows = overload.measure([subject], replace(SMALL, overload_repeats=repeats), lambda text: None)
    assert [row.row for row in rows] == [f"{subject.row} @{load}" for load in overload.LOADS]
    for row in rows:
        extra = row.extra
        settled = sum(extra[f"{lane}_done"] + extra[f"{lane}_refused"] for lane in LANE_NAMES)
        assert settled == extra["offered"]
        assert (extra["critical_refused"], extra["lost"], len(row.values)) == (0, 0, repeats)
        if subject.row.startswith("asyncio"):
            assert sum(extra[f"{lane}_refused"] for lane in LANE_NAMES) == 0
    assert rows[0].extra["offered"] == rows[0].extra["critical_done"] == 6
    assert rows[-1].extra["offered"] == 800
    assert rows[-1].extra["critical_done"] == 8


def _instant(losing: int = -1, refusing: int = -1, twice: int = -1) -> Subject:
    """Answers at once, but loses, refuses or repeats one event of its choice."""

    @asynccontextmanager
    async def open_(tally: Tally, watch: Stopwatch) -> AsyncIterator[Offer]:
        async def offer(events: Sequence[Due]) -> None:
            for due in events:
                if due.number == refusing:
                    tally.refuse(due)
                elif due.number != losing:
                    tally.finish(due)
                if due.number == twice:
                    tally.finish(due)

        yield offer

    return Subject("instant", open_)


def test_a_lost_event_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """One critical event that is never answered: no figure, and the message says which lane."""
    monkeypatch.setattr(sweep, "_SETTLE_S", 0.05)
    with pytest.raises(RuntimeError, match=r"1 events lost.*critical: of 2 events 1 were done, 0 refused"):
        asyncio.run(overload.run_once(_instant(losing=100), "1x", 0.1))


def test_a_refused_critical_event_stops_the_run() -> None:
    """Critical events may not be turned away, whatever the load."""
    with pytest.raises(RuntimeError, match="critical: of 2 events 1 were done, 1 refused"):
        asyncio.run(overload.run_once(_instant(refusing=0), "1x", 0.1))


def test_an_event_that_is_answered_twice_stops_the_run() -> None:
    """One result too many is as bad as one too few, even beside a lost one."""
    with pytest.raises(RuntimeError, match="1 events lost, 1 answered twice"):
        asyncio.run(overload.run_once(_instant(losing=5, twice=7), "1x", 0.1))


def test_low_is_told_to_starve() -> None:
    """How many results a second low has in the second half of the load, and the longest time without one."""
    figures = asyncio.run(overload.run_once(_instant(), "1x", 0.1))
    assert figures["low_per_s"] > 0
    assert 0 < figures["low_pause_ms"] <= 50
    assert figures["low_longest_ms"] >= figures["low_p99_ms"]


def test_refused_events_of_other_lanes_are_counted() -> None:
    """A refusal is an answer."""
    figures = asyncio.run(overload.run_once(_instant(refusing=1), "1x", 0.1))
    assert (figures["high_refused"], figures["high_done"]) == (1, 57)


def test_the_mix_is_the_described_one() -> None:
    """1 % critical, 29 % high, 50 % normal, 20 % low; alone there are critical events only."""
    figures = asyncio.run(overload.run_once(_instant(), "1x", 0.1))
    assert [figures[f"{lane}_done"] for lane in LANE_NAMES] == [2, 58, 100, 40]
    alone = asyncio.run(overload.run_once(_instant(), "alone", 0.1))
    assert [alone[f"{lane}_done"] for lane in LANE_NAMES] == [6, 0, 0, 0]


def test_the_table_names_every_row_and_the_ratios_their_bases() -> None:
    """Critical p99 over the PriorityQueue's at the same load, and over the row's own unloaded one."""
    base = overload.measure([_instant()], replace(SMALL, overload_repeats=1), lambda text: None)
    rows = [_as(row, name, factor) for name, factor in (("asyncio.PriorityQueue", 2.0), ("x", 3.0)) for row in base]
    assert overload.ratios(rows)["x"][0] == 1.5
    assert overload.ratios(rows)["asyncio.PriorityQueue"][0] == 1.0
    table = overload.table(rows)
    assert table.row_count == len(rows)
    assert "x 1.5 /" in str(table.caption)


def _as(row: Row, name: str, p99_ms: float) -> Row:
    return replace(row, row=f"{name} @{row.extra['load']}", median=p99_ms)
