"""The harness of unread answers: each row's reader gets what its policy promises. No times."""

from __future__ import annotations

import pytest

from benchmarks import credit
from benchmarks.measure import Options


def test_each_policy_beside_a_queue_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue holds the answer; the engine holds its rings; every byte that was promised is read."""
    monkeypatch.setattr(credit, "_QUICK_BYTES", 800_000)
    monkeypatch.setattr(credit, "_STILL_S", 0.5)
    rows = credit.run(Options.quick(), lambda text: None)
    by_name = {row.row: row.extra for row in rows}
    assert list(by_name) == [credit.BASELINE, *credit.POLICIES]
    assert by_name[credit.BASELINE]["peak_kib"] > 700
    assert all(by_name[policy]["peak_kib"] < 700 for policy in credit.POLICIES)
    assert [by_name[policy]["end"] for policy in credit.POLICIES] == ["whole", "PAUSED", "whole"]
    assert credit.table(rows).row_count == len(rows)
