"""Goodput: what counts as useful, who tries again, and in virtual time how flat it is. No real times."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from benchmarks import goodput
from benchmarks.goodput import CASES, Case, Clients
from benchmarks.measure import Options, Stopwatch
from benchmarks.sweep import CROWD, Due, Offer, Subject, Tally
from laneway.routing.lanes import Lane

Virtually = Callable[[Coroutine[Any, Any, Any]], Any]


def _subject(answer: Callable[[Due, Tally], None]) -> Subject:
    @asynccontextmanager
    async def open_(tally: Tally, watch: Stopwatch) -> AsyncIterator[Offer]:
        async def offer(events: Sequence[Due]) -> None:
            for due in events:
                answer(due, tally)

        yield offer

    return Subject("row", open_)


def _refuse(due: Due, tally: Tally) -> None:
    """Refuse all but what is critical, for 400 ms."""
    if due.lane == Lane.CRITICAL:
        tally.finish(due)
    else:
        tally.refuse(due, 400)


def test_a_client_that_retries_comes_again_as_often_as_it_may_and_in_time(virtually: Virtually) -> None:
    """400 ms each: at most twice more within the second; who takes a refusal for an answer tries once."""
    once = virtually(goodput.run_once(Case(_subject(_refuse), 1), "1x", 0.5))
    assert once["tries_per_s"] == 2_000
    retrying = virtually(goodput.run_once(Case(_subject(_refuse), 5, blindly=True), "1x", 0.5))
    assert retrying["tries_per_s"] == 2_000 + 2 * 0.99 * 2_000
    assert once["refused_share"] == retrying["refused_share"] == 0.99


def test_a_client_as_ours_keeps_most_back_while_everything_is_refused(virtually: Virtually) -> None:
    """What is kept back is refused: once it is known, a tenth of the load goes out and a tenth comes again."""
    kept = virtually(goodput.run_once(Case(_subject(_refuse), 5), "1x", 3.0))
    assert kept["tries_per_s"] < 0.5 * 2_000
    assert kept["refused_share"] == 0.99


def test_a_result_that_is_late_is_of_no_use(virtually: Virtually) -> None:
    """It is counted as handled, and as late; critical ones come at once here."""

    def late(due: Due, tally: Tally) -> None:
        wait_s = 0.0 if due.lane == Lane.CRITICAL else 1.2
        asyncio.get_running_loop().call_later(wait_s, tally.finish, due)

    figures = virtually(goodput.run_once(Case(_subject(late), 1), "1x", 4.0))
    assert figures["handled_per_s"] == pytest.approx(2_000, rel=0.01)
    assert figures["useful_per_s"] == pytest.approx(20, abs=1)
    assert figures["late_share"] == 0.99


def test_who_waits_in_silence_gives_up(virtually: Virtually) -> None:
    """A row that need not tell: what is not answered within the second is given up, also if it comes later."""

    def silent(due: Due, tally: Tally) -> None:
        wait_s = 0.0 if due.number % 2 == 0 else 3.0
        asyncio.get_running_loop().call_later(wait_s, tally.finish, due)

    figures = virtually(goodput.run_once(Case(_subject(silent), 1, tells=False), "1x", 2.5))
    assert figures["given_up_share"] == 0.5
    assert figures["late_share"] == 0


def test_an_event_that_laneway_does_not_tell_of_leaves_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is lost."""
    monkeypatch.setattr("benchmarks.sweep._SETTLE_S", 0.02)
    case = Case(_subject(lambda due, tally: None if due.number == 3 else tally.finish(due)), 1)
    with pytest.raises(RuntimeError, match="1 events lost"):
        asyncio.run(goodput.run_once(case, "1x", 0.02))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.row)
def test_each_row_accounts_for_every_event(case: Case) -> None:
    """Useful, late, refused or given up: the shares are of all events."""
    figures = asyncio.run(goodput.run_once(case, "4x", 0.1))
    done = sum(figures[f"{lane}_done"] for lane in ("critical", "high", "normal", "low"))
    assert done / figures["offered"] + figures["refused_share"] + figures["given_up_share"] == pytest.approx(1.0)
    assert figures["tries_per_s"] >= 8_000


def test_goodput_is_flat(virtually: Virtually) -> None:
    """In process, without and with retries: at 4x at least nine tenths of what it is at 1x."""
    for case in CASES:
        if case.subject.row == "laneway engine":
            peak = virtually(goodput.run_once(case, "1x", 0.5))["useful_per_s"]
            figures = virtually(goodput.run_once(case, "4x", 2.0))
            assert figures["useful_per_s"] >= 0.9 * peak, case.row


def test_the_table_tells_each_share_of_the_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best load of a row is its peak."""
    monkeypatch.setattr(goodput, "CASES", (Case(_subject(lambda due, tally: tally.finish(due)), 1),))
    rows = goodput.run(Options(seconds=0.02, overload_repeats=2), lambda text: None)
    assert [row.extra["load"] for row in rows] == list(goodput.LOADS)
    rows = [replace(row, median=value) for row, value in zip(rows, (80.0, 100.0, 90.0, 20.0), strict=True)]
    assert goodput.peaks(rows) == {"row, once": 100.0}
    assert goodput.flatness(rows, "row, once", "4x") == 0.9
    assert goodput.flatness(rows, "row, once", "5x") is None
    assert goodput.table(rows).row_count == 4


def test_clients_remember_only_what_they_may_give_up() -> None:
    """Rows that tell are not second-guessed."""
    clients = Clients(CROWD, 1, tells=True)
    clients.sent([Due(0, Lane.LOW, 0.0, 0, until=0.0)])
    assert (clients.tries, clients.settled) == (1, 0)
