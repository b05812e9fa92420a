"""Noisy neighbours: who is light, what is counted, and in virtual time what fairness is worth. No real times."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from benchmarks import neighbours
from benchmarks.measure import Options, Row, Stopwatch
from benchmarks.neighbours import CASES, Case
from benchmarks.sweep import Due, Offer, Subject, Tally
from laneway.routing.lanes import Lane

Virtually = Callable[[Coroutine[Any, Any, Any]], Any]
SESSIONS = next(case for case in CASES if case.row == "laneway engine, sessions")
TENANTS = next(case for case in CASES if case.row == "laneway engine, tenants")
QUEUE = next(case for case in CASES if case.row == "asyncio.PriorityQueue, sessions")


@pytest.mark.parametrize("case", [SESSIONS, TENANTS], ids=lambda case: case.row)
def test_light_parties_send_the_same_with_and_without_the_neighbour(case: Case) -> None:
    """The same events at the same times; the neighbour sends about ten times its share, a tenant with ten sessions."""
    without, noisy = (neighbours._load(case, load, 2.0).events() for load in neighbours.LOADS)
    assert [due for due in noisy if due.who < case.light] == without
    count = Counter(case.crowd[due.who] for due in noisy)
    assert all(200 < count[speaker] < 280 for speaker in case.crowd[: case.light])
    assert 3_800 < sum(count[speaker] for speaker in case.crowd[case.light :]) < 4_200
    assert {speaker.tenant for speaker in case.crowd[case.light :]} == {"noisy" if case is TENANTS else "t"}
    assert {due.lane for due in noisy} == {Lane.HIGH}


def test_a_light_party_hardly_notices_its_neighbour(virtually: Virtually) -> None:
    """By session and by tenant: it waits for what runs already, not for what its neighbour has queued; none is refused.

    A bare queue has it wait for everything.
    """
    for case in (SESSIONS, TENANTS):
        without, noisy = (virtually(neighbours.run_once(case, load, 1.0)) for load in neighbours.LOADS)
        assert noisy["light_p99_ms"] <= 2.0 * without["light_p99_ms"], case.row
        assert noisy["light_refused"] == 0
        assert noisy["noisy_p99_ms"] > 100
        assert noisy["noisy_per_s"] > 600
    without, noisy = (virtually(neighbours.run_once(QUEUE, load, 1.0)) for load in neighbours.LOADS)
    assert noisy["light_p99_ms"] > 100 * without["light_p99_ms"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.row)
def test_each_row_accounts_for_every_event(case: Case) -> None:
    """Both kinds of parties, whatever the row."""
    figures = asyncio.run(neighbours.run_once(case, "10x", 0.1))
    ended = sum(figures[f"{party}_{how}"] for party in ("light", "noisy") for how in ("done", "refused"))
    assert (ended, figures["lost"]) == (figures["offered"], 0)


def _instant(losing: int) -> Subject:
    @asynccontextmanager
    async def open_(tally: Tally, watch: Stopwatch) -> AsyncIterator[Offer]:
        async def offer(events: Sequence[Due]) -> None:
            for due in events:
                if due.number != losing:
                    tally.finish(due)

        yield offer

    return Subject("instant", open_)


def test_a_lost_event_leaves_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever's it is."""
    monkeypatch.setattr("benchmarks.sweep._SETTLE_S", 0.02)
    case = Case(_instant(losing=3), "sessions", SESSIONS.crowd, SESSIONS.lane)
    with pytest.raises(RuntimeError, match="1 events lost"):
        asyncio.run(neighbours.run_once(case, "10x", 0.02))


def test_the_table_tells_each_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    """Light p99 with the neighbour over the same without it."""
    case = Case(_instant(losing=-1), "sessions, all lanes", SESSIONS.crowd, SESSIONS.lane)
    monkeypatch.setattr(neighbours, "CASES", (case,))
    rows = neighbours.run(Options(seconds=0.02, overload_repeats=1), lambda text: None)
    assert [row.row for row in rows] == ["instant, sessions, all lanes @without", "instant, sessions, all lanes @10x"]
    rows = [_with(row, 2.0 * number) for number, row in enumerate(rows, 1)]
    assert neighbours.ratios(rows) == {"instant, sessions, all lanes": 2.0}
    table = neighbours.table(rows)
    assert table.row_count == 2
    assert "instant, sessions, all lanes" in str(table.caption)


def _with(row: Row, p99_ms: float) -> Row:
    return Row(row.workload, row.row, row.what, row.values, p99_ms, 1.0, {**row.extra, "light_p99_ms": p99_ms})
