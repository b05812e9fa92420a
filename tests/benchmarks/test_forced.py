"""Fair queueing forced: nearly every event was chosen among others, or there is no figure. No times."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks import dispatch, forced, workload
from benchmarks.channels import Way
from benchmarks.counts import Lost
from benchmarks.measure import Stopwatch
from laneway.routing.envelope import envelope
from laneway.routing.lanes import Lane
from laneway.routing.scheduler import Scheduler


def _waiting(count: int) -> Scheduler:
    scheduler = Scheduler()
    for number in range(count):
        made = envelope(
            "K",
            producer="p",
            counter=number + 1,
            tenant="t",
            session=f"s{number * 3 // count}",
            lane=Lane.HIGH,
            body=b"x",
        )
        scheduler.push(made)
    return scheduler


def test_a_take_chooses_although_all_would_fit() -> None:
    """All but the last event is chosen, what comes out is complete, and afterwards takes are lazy again."""
    take = Scheduler.take
    with forced.choosing() as counts:
        out = _waiting(64).take(100, 0.0)
        assert {env[4] for env in out[:32]} == {"s0", "s1", "s2"}
        assert (len(out), counts.taken, counts.chosen) == (64, 64, 63)
        assert len(_waiting(64).take(10, 0.0)) == 10
        assert (counts.taken, counts.chosen) == (74, 73)
    assert Scheduler.take is take


@pytest.mark.parametrize("way", [forced.FORCED, forced.FORCED_LISTS], ids=lambda way: way.row)
def test_the_row_chose_nearly_all_of_its_events(way: Way) -> None:
    """The share is told with the row, and every event came back."""
    watch = Stopwatch()
    work = workload.jobs(workload.IN_FLIGHT + 300)
    assert asyncio.run(dispatch.through(way, work)(watch)) == len(work)
    assert watch.notes["chosen_share"] > 0.9


def test_a_run_that_did_not_choose_has_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product whose queues are never asked cannot pass for one that chose."""
    monkeypatch.setattr(forced, "_LEAST_CHOSEN", 1.01)
    with pytest.raises(Lost, match="were chosen"):
        asyncio.run(dispatch.through(forced.FORCED, workload.jobs(200))(Stopwatch()))
