"""How figures come about: medians, ratios, processor time over processes. No times asserted."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys

import pytest

from benchmarks.measure import Row, Stopwatch, percentile, processor_s, ratio, repeated, repeated_here

SPIN = "input(); x = sum(range(3_000_000)); print('spun', flush=True); input()"


def test_a_ratio_is_of_two_rows_of_one_workload() -> None:
    """A missing row or figure gives no ratio rather than a wrong one."""
    rows = [
        Row("W1", "ours", "events/s", (5.0,), 5.0, 4.0, {"p99_ms": 3.0}),
        Row("W1", "bare", "events/s", (10.0,), 10.0, math.nan, {"p99_ms": 2.0}),
        Row("W2", "other", "calls/s", (1.0,), 1.0, 1.0),
    ]
    assert ratio(rows, "W1", "ours", "bare") == 0.5
    assert ratio(rows, "W1", "ours", "bare", "p99_ms") == 1.5
    assert ratio(rows, "W1", "ours", "bare", "cpu_us") is None
    assert ratio(rows, "W1", "ours", "other") is None
    assert ratio(rows, "W1", "ours", "bare", "p50_ms") is None


def test_a_row_without_a_figure_is_still_json() -> None:
    """NaN is written as null."""
    record = Row("W1", "bare", "events/s", (10.0,), 10.0, math.nan, {"p99_ms": math.nan, "note": "x"}).record()
    assert json.loads(json.dumps(record, allow_nan=False))["cpu_us"] is None
    assert record["extra"] == {"p99_ms": None, "note": "x"}


def test_percentiles_are_elements() -> None:
    """Element at floor(n x share) of the sorted samples."""
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([1.0], 0.99) == 1.0
    assert math.isnan(percentile([], 0.5))


@pytest.mark.skipif(sys.platform != "linux", reason="no clock of other processes")
def test_another_process_is_counted() -> None:
    """What a watched process spends inside the block is in the figure, and told on its own."""
    with subprocess.Popen([sys.executable, "-c", SPIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:

        async def stage(watch: Stopwatch) -> int:
            watch.watch("other", other.pid)
            with watch:
                assert other.stdin is not None
                assert other.stdout is not None
                other.stdin.write(b"spin\n")
                other.stdin.flush()
                await asyncio.to_thread(other.stdout.readline)
            watch.note(p99_ms=7.0, kind="x")
            return 10

        row = repeated("W1", "spinner", stage, 10, 1)
        assert processor_s(other.pid) > 0
        other.communicate(b"\n")
    assert row.cpu_us >= row.extra["other_cpu_us"] > 0
    assert (row.extra["p99_ms"], row.extra["kind"]) == (7.0, "x")


@pytest.mark.skipif(sys.platform != "linux", reason="no clock of other processes")
def test_a_process_that_has_ended_counts_nothing() -> None:
    """An idle worker may go while it is watched; the figures of the others stand."""
    with subprocess.Popen([sys.executable, "-c", "pass"]) as gone:
        gone.wait()

    async def stage(watch: Stopwatch) -> int:
        watch.watch("gone", gone.pid)
        with watch:
            await asyncio.sleep(0)
        return 1

    assert asyncio.run(repeated_here("W1", "row", stage, 1, 2)).figure("gone_cpu_us") == 0.0
