"""Cost of tracing: what the receiver got must be what was sampled, or there is no figure. No times."""

from __future__ import annotations

import pytest

from benchmarks import tracing
from benchmarks.measure import Options
from benchmarks.span_sink import Received

GOOD = Received({"a": 3, "b": 3}, {"receive": 2, "queue": 2, "handle": 2})


def test_each_path_at_each_ratio_with_a_real_receiver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Off leaves no span, 100 % a whole trace for every event, in process and behind gRPC."""
    monkeypatch.setattr(tracing, "_EXPORTED_S", 0.0)  # one round: what it leaves fits, and is sent at the close
    rows = tracing.run(Options(events=200, overload_repeats=1), lambda text: None)
    assert [row.row for row in rows] == [f"{path}, {name}" for path in tracing.PATHS for name in tracing.RATIOS]
    for row in rows:
        if row.row.endswith("off"):
            assert (row.extra["sampled"], row.extra["spans"]) == (0, 0)
        if row.row.endswith("100 %"):
            assert row.extra["sampled"] == 200 + tracing.WARM_EVENTS
            assert row.extra["spans_per_trace"] >= 5
    assert tracing.table(rows).row_count == len(rows)


@pytest.mark.parametrize(
    ("events", "traces", "received", "said"),
    [
        (1, ["a", "b"], GOOD, "1 of 2 events came back"),
        (2, ["a"], GOOD, "1 of 2 events were sampled"),
        (2, ["a", "c"], GOOD, "1 of them the same"),
        (2, ["a", "b"], Received({"a": 3}, GOOD.names), "spans of 1 traces"),
        (2, ["a", "b"], Received(GOOD.traces, {**GOOD.names, "handle": 1}), "1 spans 'handle' of 2"),
    ],
)
def test_spans_and_sampling_that_disagree_are_no_figure(
    events: int, traces: list[str], received: Received, said: str
) -> None:
    """A lost event, trace or span is told by name."""
    with pytest.raises(RuntimeError, match=said):
        tracing.check("x", 1.0, 2, events, traces, received)


def test_spans_and_sampling_that_agree_pass() -> None:
    """Every event sampled, every trace received from door to handler."""
    tracing.check("x", 1.0, 2, 2, ["a", "b"], GOOD)
