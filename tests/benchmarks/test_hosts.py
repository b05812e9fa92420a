"""Messages between hosts: every row gets all of them back, over both kinds of stream. No times."""

from __future__ import annotations

from benchmarks import hosts
from benchmarks.measure import Options


def test_every_row_gets_its_messages_back() -> None:
    """Rows that echo, that count, and that are urgent; round trips are noted where there is one at a time."""
    rows = hosts.run(Options(events=1_024, repeats=1), lambda text: None)
    assert [row.row for row in rows] == [name for name, _, _ in hosts.ROWS]
    for row in rows:
        single = "1 in flight" in row.row or "urgent" in row.row
        assert ("p99_ms" in row.extra) == single
        assert row.extra["count"] >= 512
