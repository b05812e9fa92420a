"""The page about overload: made from a run's .jsonl and from nothing else. No times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import goodput, neighbours, overload, overload_page, soak
from benchmarks.plot import BASELINE

ABOUT = {"date": "2026-01-02T03:04:05+00:00", "commit": "abc123def456", "dirty": False, "processor": "P",
         "cores": 2, "machine": "M", "python": "3.11", "load_1min": 0.5}  # fmt: skip


def _records() -> list[dict[str, Any]]:
    found = [
        _record("W4", f"{subject.row} @{load}", 5.0 * number, {"critical_p99_ms": 5.0 * number, "lost": 0})
        for subject in overload.SUBJECTS
        for number, load in enumerate(overload.LOADS, 1)
    ]
    for case in neighbours.CASES:
        for load, p99_ms in zip(neighbours.LOADS, (6.0, 9.0), strict=True):
            extra = {"light_p99_ms": p99_ms, "light_refused": 0, "noisy_p99_ms": 300.0, "noisy_refused": 12}
            found.append(_record("neighbours", f"{case.row} @{load}", p99_ms, extra))
    for case in goodput.CASES:
        for load, useful in zip(goodput.LOADS, (1_900.0, 2_000.0, 1_800.0, 1_000.0), strict=True):
            found.append(_record("goodput", f"{case.row} @{load}", useful, {"low_per_s": 150.0, "low_pause_ms": 40.0}))
    flat = soak.row(
        soak.Soaked(60.0, [(at / 4, 90_000.0) for at in range(240)], {"sessions": 3_000}, {"links": 1.0}, {}, {})
    )
    return [*found, flat.record()]


def _record(workload: str, row: str, median: float, extra: dict[str, Any]) -> dict[str, Any]:
    return {"workload": workload, "row": row, "median": median, "extra": extra}


def _run(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in ({"about": ABOUT}, *records)), encoding="utf-8")
    return path


def test_the_page_says_what_the_run_found(tmp_path: Path) -> None:
    """Each table has its figures and ratios; machine, commit and date are there, and what was left over."""
    overload_page.write(_run(tmp_path / "run.jsonl", _records()), tmp_path / "docs" / "overload.md")
    text = (tmp_path / "docs" / "overload.md").read_text(encoding="utf-8")
    for said in (
        "2026-01-02, commit abc123def456",
        "| laneway engine | 5.0 | 15.0 (3.0) | 20.0 (4.0) | 25.0 (5.0) | 30.0 (6.0) | 0 |",
        "| laneway over gRPC, tenants | 6.0 | 9.0 | 1.50 | 0 | 300 | 12 |",
        "| laneway engine, retry | 1,900 (95 %) | 2,000 (100 %) | 1,800 (90 %) | 1,000 (50 %) |",
        "| laneway over gRPC, once, within a second | 150 / 40 |",
        "3,000 visits",
        "+0.0 to +0.0 MiB an hour",
        "Left over of sessions, links, events, tasks, descriptors and threads: links 1.",
    ):
        assert said in text, said
    pictures = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "docs" / "images").iterdir()}
    assert set(pictures) == {"overload.svg", "soak-memory.svg"}
    assert all("abc123def456" in picture for picture in pictures.values())


def test_parts_that_were_renewed_alone_take_the_place_of_their_rows(tmp_path: Path) -> None:
    """The newer figures, and a word that these are of another run."""
    lacking = [each for each in _records() if each["workload"] != "goodput"]
    run = _run(tmp_path / "run.jsonl", lacking)
    _run(tmp_path / "run-goodput.jsonl", [each for each in _records() if each["workload"] == "goodput"])
    text = overload_page.page(overload_page.read(run))
    assert "| laneway engine, retry | 1,900 (95 %) | 2,000 (100 %) | 1,800 (90 %) | 1,000 (50 %) |" in text
    assert "Renewed since, goodput: 2026-01-02, commit abc123def456" in text


def test_a_part_that_is_older_than_the_run_is_left_out(tmp_path: Path) -> None:
    """A whole run has all of it anew."""
    run = _run(tmp_path / "run.jsonl", _records())
    part = _run(tmp_path / "run-goodput.jsonl", [])
    part.write_text(json.dumps({"about": {**ABOUT, "date": "2025-12-31T00:00:00+00:00"}}) + "\n", encoding="utf-8")
    assert overload_page.read(run).renewed == []


def test_the_same_run_gives_the_same_pictures(tmp_path: Path) -> None:
    """No times, ids or orders of their own in the files."""
    run = _run(tmp_path / "run.jsonl", _records())
    for name in ("a", "b"):
        overload_page.write(run, tmp_path / name / "overload.md")
    for picture in ("overload.svg", "soak-memory.svg"):
        first, second = ((tmp_path / name / "images" / picture).read_bytes() for name in ("a", "b"))
        assert first == second


@pytest.mark.parametrize("workload", ["W4", "neighbours", "goodput", "soak"])
def test_what_a_run_lacks_is_a_dash(workload: str) -> None:
    """Never a guess, and the rest is there."""
    records = [each for each in _records() if each["workload"] != workload]
    text = overload_page.page(overload_page.Found(ABOUT, records))
    assert "| - |" in text or "Not in this run." in text
    assert text.count("\n## ") == 5


def test_the_committed_page_is_made_from_the_committed_run() -> None:
    """Written again from the .jsonl that it names, it is the one in the tree."""
    assert overload_page.PAGE.read_text(encoding="utf-8") == overload_page.page(overload_page.read(BASELINE))
