"""Stage costs: every stage counts its events, one that loses any has no figure, sums add up. No times."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks import stage_costs
from benchmarks.measure import Options, Row
from benchmarks.stages.harness import Batches, Stage, Work, batches, cost

SMALL = Options(events=128, repeats=1)


@pytest.mark.parametrize("stage", stage_costs.STAGES, ids=lambda stage: stage.name)
def test_a_stage_counts_every_event_at_each_batch_size(stage: Stage) -> None:
    """The class under measurement itself says that it did all of them, in time, memory and call passes."""
    for batch in stage.batches:
        row = cost(stage, batch, 128, 2)
        assert row.row == f"{stage.name} @{batch}"
        assert (row.extra["count"], len(row.values)) == (128, 2)
        assert row.extra["calls"] > 0


def test_a_stage_that_loses_an_event_has_no_figure() -> None:
    """A planted loss of one event in a batch stops the table."""
    good = stage_costs.STAGES[0]

    async def losing(events: Batches) -> Work:
        work = await good.make(events)
        return replace(work, counted=lambda: work.counted() - 1)

    with pytest.raises(RuntimeError, match="counted 127 of 128"):
        cost(replace(good, make=losing), 64, 128, 1)


def test_calls_are_the_same_in_every_run() -> None:
    """The figure that no noise touches: two runs of a stage make the same function calls."""
    stage = next(stage for stage in stage_costs.STAGES if stage.name.startswith("admit"))
    assert len({cost(stage, 64, 128, 1).extra["calls"] for _ in range(3)}) == 1


def test_batches_are_one_session_s_consecutive_events() -> None:
    """As in a frame: one producer, counters without a hole."""
    made = batches(100, 8)
    assert sum(map(len, made)) == 100
    for batch in made:
        assert len({env[4] for env in batch}) == 1
        assert [env[1] for env in batch] == list(range(batch[0][1], batch[0][1] + len(batch)))


def test_sums_add_up_the_stages_of_a_path_and_nothing_else() -> None:
    """Variants shown in brackets are in no sum."""
    rows = [
        Row("stages", f"s{number} @64", "us CPU/event", (us,), us, us, {"batch": 64, "paths": paths})
        for number, (us, paths) in enumerate([(1.0, ["served"]), (2.0, ["embedded", "served"]), (4.0, [])])
    ]
    assert stage_costs.total(rows, "served", 64) == 3.0
    assert stage_costs.total(rows, "embedded", 64) == 2.0
    assert stage_costs.total(rows, "served", 1) == 0.0


def test_the_table_has_a_line_for_every_stage_and_sum() -> None:
    """What `run` returns is what the table shows."""
    told: list[str] = []
    rows = stage_costs.run(SMALL, told.append)
    sizes = sum(len(stage.batches) for stage in stage_costs.STAGES)
    assert len(rows) == sizes + 8
    assert len(told) == sizes + 2
    assert stage_costs.table(rows).row_count == len(stage_costs.STAGES) + 8
    by_name = {row.row: row.cpu_us for row in rows}
    for path in ("embedded", "served"):
        parts = by_name[f"sum of stages, {path} @64"] + by_name[f"not in a stage, {path}"]
        assert parts == pytest.approx(by_name[f"W1 whole, {path}"])
