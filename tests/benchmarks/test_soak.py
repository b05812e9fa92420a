"""The soak: it passes only if memory settled and nothing is left, and says what is not so. No times."""

from __future__ import annotations

import asyncio
import json
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import soak, soak_plot
from benchmarks.environment import environment
from benchmarks.soak import Soaked

FLAT = [(at / 4, 90_000.0 + at % 3) for at in range(240)]
GROWING = [(at / 4, 90_000.0 + at) for at in range(240)]
COUNTS = {"sessions": 100, "events": 3_000}


def test_what_is_left_is_named() -> None:
    """Gauges count from zero; tasks, descriptors and threads from what there was before."""
    before = {"links": 3.0, "engine's tasks, Pump._run": 4.0, "engine's descriptors": 20.0, "visitors' threads": 9.0}
    assert soak.left_over(before, {**before, "links": 0.0}) == {}
    assert soak.left_over(before, {**before, "engine's descriptors": 22.0}) == {
        "links": 3.0,
        "engine's descriptors": 2.0,
    }
    assert soak.left_over(before, {"engine's tasks, Run.forgotten": 1.0}) == {"engine's tasks, Run.forgotten": 1.0}
    assert soak.left_over(before, {"visitors' threads": 8.0, "paused producers": 1.0}) == {"paused producers": 1.0}


def test_memory_that_grows_is_not_settled() -> None:
    """4 KiB a second are 14 MiB an hour and still below the limit; ten times that is not, and noise always is."""
    assert Soaked(60.0, FLAT, COUNTS, {}).passed
    assert Soaked(60.0, GROWING, COUNTS, {}).passed
    steep = [(at, 90_000.0 + 10 * (size - 90_000.0)) for at, size in GROWING]
    assert not Soaked(60.0, steep, COUNTS, {}).passed
    falling = [(at, 180_000.0 - size) for at, size in steep]
    assert Soaked(60.0, falling, COUNTS, {}).passed
    assert not Soaked(60.0, FLAT, COUNTS, {"links": 1.0}).passed


def test_the_report_says_what_was_found(tmp_path: Path) -> None:
    """As a row, as a table, as a picture; whoever reads only one of them sees what is left."""
    row = soak.row(Soaked(60.0, GROWING, COUNTS, {"links": 2.0}))
    assert (row.figure("left"), row.figure("settled"), row.extra["left_over"]) == (1.0, 1.0, {"links": 2.0})
    assert row.median == pytest.approx(4 * 3_600, rel=0.01)
    json.dumps(row.record(), allow_nan=False)
    text = StringIO()
    Console(file=text, width=120).print(soak.table([row]))
    assert "links 2" in text.getvalue()
    soak_plot.draw(row.extra, environment(), tmp_path / "memory.svg")
    assert "Left over afterwards: links 2." in (tmp_path / "memory.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(("memory", "left", "status"), [(FLAT, {}, 0), (FLAT, {"links": 1.0}, 1), (FLAT[:40], {}, 0)])
def test_the_exit_status_is_the_verdict(
    monkeypatch: pytest.MonkeyPatch, memory: list[tuple[float, float]], left: dict[str, float], status: int
) -> None:
    """0 only if all is well."""

    async def found(seconds: float, tell: object) -> Soaked:
        return Soaked(seconds, memory, COUNTS, left)

    monkeypatch.setattr(soak, "soak", found)
    monkeypatch.setattr(sys, "argv", ["soak", "--seconds", "10"])
    with pytest.raises(SystemExit) as ended:
        soak.main()
    assert ended.value.code == status


@pytest.mark.slow
def test_nothing_is_left_after_a_soak(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few seconds of every kind of visitor over real gRPC: all served, and every gauge returns."""
    monkeypatch.setattr(soak, "_PRELUDE_S", 1.0)
    found = asyncio.run(soak.soak(2.0))
    assert found.left == {}
    done = found.counts
    for what in ("sessions", "tokens", "events", "tool calls", "cancels", "refusals", "failures told", "slow reads"):
        assert done[what] > 0, what
    assert done["cuts"] > 0
    assert len(found.memory) > 4
