"""Goals: reached, not reached, or said to be missing; and the tables around them."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

from rich.console import Console

from benchmarks import goals, report
from benchmarks.environment import environment
from benchmarks.measure import Row

ROWS = [
    Row("W1", "asyncio.Queue", "events/s", (90.0, 100.0, 110.0), 100.0, 1.0, {"count": 3, "half_p50_ms": 0.5}),
    Row("W1", "laneway engine, frames of 64", "events/s", (80.0,), 80.0, 5.0, {"engine_cpu_us": 3.0}),
    Row("start", "import laneway", "ms", (70.0,), 70.0, float("nan")),
]


def _shown(table: object) -> str:
    text = StringIO()
    Console(file=text, width=200).print(table)
    return text.getvalue()


def test_a_goal_is_held_against_the_rows_of_one_run() -> None:
    """0.8 of a queue reaches 0.75; 70 ms do not reach 60; what was not run is said to be missing."""
    found = {verdict.goal.what: verdict for verdict in goals.verdicts(ROWS)}
    queue = found["engine, frames of 64, handlers of single events, against a bare asyncio.Queue"]
    assert (queue.figure, queue.word) == (0.8, "reached")
    assert found["import laneway"].word == "NOT reached"
    assert found["engine, frames of 64, handlers of lists, against pykka"].word == "not in this run"
    assert "NOT reached" in _shown(report.goals_table(list(found.values())))


def test_every_goal_names_rows_that_there_are() -> None:
    """With a figure for every row of every workload, only goals whose rows are not built lack one."""
    from benchmarks import (
        catalogue,
        dispatch,
        documents,
        edge,
        goodput,
        neighbours,
        on_ray,
        overload,
        ray_actors,
        regions,
        soak,
        token_streams,
        tool_calls,
    )

    figures = dict.fromkeys(("engine_cpu_us", "first_p99_ms", "beyond_window_p99_ms", "p99_ms"), 1.0)
    figures |= dict.fromkeys(("mean_ms", "success", "each_kb", "light_p99_ms", "light_refused", "low_pause_ms"), 1.0)
    figures |= dict.fromkeys(("settled", "left"), 1.0)
    names = [("W1", way.row) for way in dispatch.WAYS] + [("W2", row) for row in tool_calls.ROWS]
    names += [(part, row) for part in (token_streams.BURST, token_streams.PACED) for row in token_streams.ROWS]
    names += [("W4", f"{subject.row} @{load}") for subject in overload.SUBJECTS for load in overload.LOADS]
    names += [("neighbours", f"{case.row} @{load}") for case in neighbours.CASES for load in neighbours.LOADS]
    names += [("goodput", f"{case.row} @{load}") for case in goodput.CASES for load in goodput.LOADS]
    names += [(soak.WORKLOAD, soak.ENGINE)]
    names += [("start", "import laneway"), ("start", "first event, embedded")]
    names += [("state", row) for row in (documents.BARE, documents.CELL, documents.SPREAD, regions.REGIONS)]
    names += [("edge", row) for row in (catalogue.LANEWAY, edge.USERS, edge.SESSIONS)]
    names += [(each, row) for each in (on_ray.W1, on_ray.W1_APART) for row in (on_ray.LANEWAY, ray_actors.NAME)]
    names += [
        (on_ray.W4, f"{row} @{load}") for row in (on_ray.TWO_FRONTS, "asyncio.PriorityQueue") for load in overload.LOADS
    ]
    rows = [Row(workload, row, "x", (1.0,), 1.0, 1.0, figures) for workload, row in names]
    missing = [verdict.goal.what for verdict in goals.verdicts(rows) if verdict.word == "not in this run"]
    assert missing == []


def test_a_run_is_written_for_people_and_for_programs(tmp_path: Path) -> None:
    """JSON lines with machine, commit, date and versions; the same tables as Markdown."""
    about = environment()
    assert {"machine", "commit", "date", "python", "cores", "versions"} <= set(about)
    path = report.write_records(tmp_path / f"{report.run_name(about)}.jsonl", about, ROWS)
    first, *records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert first["about"] == about
    assert [record["row"] for record in records] == [row.row for row in ROWS]
    assert records[0]["values"] == [90.0, 100.0, 110.0]
    assert records[2]["cpu_us"] is None
    table = report.rows_table("W1: a title", ROWS[:2])
    report.write_page(tmp_path / "latest.md", about, path.name, [table])
    page = (tmp_path / "latest.md").read_text(encoding="utf-8")
    assert "## W1: a title" in page
    assert "| asyncio.Queue" in page
    assert path.name in page
    assert "engine 3" in _shown(table)
