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
from benchmarks.soak_served import held

FLAT = [(at / 4, 90_000.0 + at % 3) for at in range(240)]
GROWING = [(at / 4, 90_000.0 + at) for at in range(240)]
COUNTS = {"sessions": 100, "events": 3_000}
RESTED = {"blocks": 230_000, "malloc_kib": 11_000}


def found(memory: list[tuple[float, float]], left: dict[str, float] | None = None, **more: int) -> Soaked:
    """What a soak found that held so much more at rest."""
    then = {name: count + more.get(name, 0) for name, count in RESTED.items()}
    return Soaked(60.0, memory, COUNTS, left or {}, RESTED, then)


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


def test_threads_of_grpcs_own_pool_are_its_own_business() -> None:
    """One more or less of them is not ours; more than it ever keeps is, and so is any other thread."""
    ours, pool = ["python", "laneway store", ""], ["event_engine"]
    assert soak.threads_of([*ours, *pool * 4]) == soak.threads_of([*ours, *pool * 5]) == 3
    assert soak.threads_of([*ours, "grpc_other", *pool * 16]) == 4
    assert soak.threads_of([*ours, *pool * 20]) == 7


def test_memory_that_grows_is_not_settled() -> None:
    """4 KiB a second are not, noise and a single step are, and so is what falls."""
    assert found(FLAT).passed
    assert not found(GROWING).passed
    assert found([(at, 90_000.0 + 40 * (at > 25)) for at, _ in FLAT]).passed
    assert found([(at, 90_002.0 + 4 * (at // 15)) for at, _ in FLAT]).passed  # a page now and then
    assert not found([(at, 90_000.0 + 64 * (at // 20)) for at, _ in FLAT]).passed
    assert found([(at, 180_000.0 - size) for at, size in GROWING]).passed
    assert not found(FLAT, {"links": 1.0}).passed


def test_what_is_held_at_rest_is_looked_at_too() -> None:
    """A thing a visit, or half a megabyte, that resident memory had room for."""
    assert found(FLAT, blocks=900, malloc_kib=100).passed
    assert not found(FLAT, blocks=7_000).passed
    assert not found(FLAT, malloc_kib=600).passed
    assert found(FLAT, blocks=-20_000, malloc_kib=-900).passed


def test_the_report_says_what_was_found(tmp_path: Path) -> None:
    """As a row, as a table, as a picture; whoever reads only one of them sees what is left."""
    row = soak.row(found(GROWING, {"links": 2.0}, blocks=12))
    assert (row.figure("left"), row.figure("settled"), row.extra["left_over"]) == (1.0, 0.0, {"links": 2.0})
    assert row.median == pytest.approx(4 * 3_600, rel=0.1)
    json.dumps(row.record(), allow_nan=False)
    text = StringIO()
    Console(file=text, width=120).print(soak.table([row]))
    assert "links 2" in text.getvalue()
    assert "230,000, then 230,012" in text.getvalue()
    soak_plot.draw(row.extra, environment(), tmp_path / "memory.svg")
    assert "Left over afterwards: links 2." in (tmp_path / "memory.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(("memory", "left", "status"), [(FLAT, {}, 0), (FLAT, {"links": 1.0}, 1), (FLAT[:40], {}, 0)])
def test_the_exit_status_is_the_verdict(
    monkeypatch: pytest.MonkeyPatch, memory: list[tuple[float, float]], left: dict[str, float], status: int
) -> None:
    """0 only if all is well."""

    async def soaked(seconds: float, tell: object) -> Soaked:
        return Soaked(seconds, memory, COUNTS, left, RESTED, RESTED)

    monkeypatch.setattr(soak, "soak", soaked)
    monkeypatch.setattr(sys, "argv", ["soak", "--seconds", "10"])
    with pytest.raises(SystemExit) as ended:
        soak.main()
    assert ended.value.code == status


@pytest.mark.slow
def test_nothing_is_left_after_a_soak(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few seconds of every kind of visitor over real gRPC: all served, and every gauge returns."""
    monkeypatch.setattr(soak, "_RAMP_S", 0.5)
    soaked = asyncio.run(soak.soak(2.0))
    assert soaked.left == {}
    assert soaked.held["blocks"] > 0
    done = soaked.counts
    for what in ("sessions", "tokens", "events", "tool calls", "cancels", "refusals", "failures told", "slow reads"):
        assert done[what] > 0, what
    assert done["cuts"] > 0
    assert len(soaked.memory) > 4


def test_what_is_held_falls_again() -> None:
    """Blocks of what is alive: garbage is collected first, and what is let go is not counted any more."""
    before = held()["blocks"]
    kept: list[object] = [[number] for number in range(20_000)]
    kept.append(kept)
    assert held()["blocks"] > before + 20_000
    del kept
    assert held()["blocks"] < before + 1_000
