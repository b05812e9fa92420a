"""The picture of W4: drawn from a run's .jsonl and from nothing else, always the same bytes."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import plot
from benchmarks.overload import LOADS
from laneway.routing.lanes import LANE_NAMES

ROWS = ("asyncio.Queue", "asyncio.PriorityQueue", "laneway engine", "laneway over gRPC")


def _run(path: Path, *, empty_lane: str = "") -> Path:
    about = {"date": "2026-01-02T03:04:05+00:00", "commit": "abc123def456", "dirty": False, "processor": "P",
             "cores": 2, "machine": "M", "python": "3.11", "load_1min": 0.5}  # fmt: skip
    records: list[dict[str, Any]] = [{"about": about}]
    for row in ROWS:
        for load in LOADS:
            extra: dict[str, Any] = {"load": load, "slots": "8", "lost": 0}
            for number, lane in enumerate(LANE_NAMES, 1):
                nothing = lane == empty_lane
                extra |= {f"{lane}_p50_ms": None if nothing else 5.0 * number, f"{lane}_done": 0 if nothing else 30}
                extra |= {f"{lane}_p99_ms": None if nothing else 50.0 * number, f"{lane}_refused": 10 * (number > 1)}
            records.append({"workload": "W4", "row": f"{row} @{load}", "extra": extra})
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The picture of a run."""
    directory = tmp_path_factory.mktemp("drawn")
    plot.draw(_run(directory / "run.jsonl"), directory / "p.svg")
    return (directory / "p.svg").read_bytes()


def test_the_same_run_gives_the_same_bytes(drawn: bytes, tmp_path: Path) -> None:
    """No times, ids or orders of their own in the file."""
    plot.draw(_run(tmp_path / "run.jsonl"), tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_bytes() == drawn


def test_the_picture_says_what_it_shows_and_where_it_is_from(drawn: bytes) -> None:
    """Lanes, loads, rows, refusals, machine, commit, date and the file are in it as text."""
    text = drawn.decode()
    for said in (*LANE_NAMES, "1x", "4x", "10x", "asyncio.PriorityQueue", "laneway, over gRPC", "p50", "p99", "25 %",
                 "2026-01-02", "abc123def456", "2 cores", "run.jsonl"):  # fmt: skip
        assert said in text, said


def test_a_lane_with_nothing_done_leaves_its_place_empty(drawn: bytes, tmp_path: Path) -> None:
    """All refused: there is no latency to draw, and the picture is still made."""
    plot.draw(_run(tmp_path / "run.jsonl", empty_lane="low"), tmp_path / "p.svg")
    assert (tmp_path / "p.svg").stat().st_size < len(drawn)


def test_a_run_without_w4_cannot_be_drawn(tmp_path: Path) -> None:
    """The message says what to do."""
    path = tmp_path / "run.jsonl"
    path.write_text('{"about": {}}\n{"workload": "W1", "row": "x"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="make bench"):
        plot.read(path)


def test_the_committed_picture_is_drawn_from_the_committed_run(tmp_path: Path) -> None:
    """Redrawn from the .jsonl that it names, the picture is the one in the tree: same words, same marks."""
    assert f"<dc:source>{plot.BASELINE.name}</dc:source>" in plot.PICTURE.read_text(encoding="utf-8")
    plot.draw(plot.BASELINE, tmp_path / plot.PICTURE.name)
    assert _content(tmp_path / plot.PICTURE.name) == _content(plot.PICTURE)


def _content(path: Path) -> tuple[list[str], list[tuple[str, int, int]]]:
    """All words, and each mark with its place in whole points: what another version of the library may not change."""
    text = path.read_text(encoding="utf-8")
    marks = re.findall(r'<use xlink:href="#\w+" x="([\d.]+)" y="([\d.]+)" style="([^"]*)"', text)
    places = [(style, math.floor(float(x)), math.floor(float(y))) for x, y, style in marks]
    return re.findall(r"<text[^>]*>([^<]+)</text>", text), places
