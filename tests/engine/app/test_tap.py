"""The ring behind `laneway tail`."""

from __future__ import annotations

from laneway.engine.app.tap import Tap
from laneway.routing.envelope import envelope


def test_rows_are_numbered_filtered_and_without_bodies() -> None:
    """A reader asks for what came after what it has seen."""
    tap = Tap(lambda: 7.0)
    for number in range(4):
        kind, session = ("A", "s1") if number % 2 else ("B", "s2")
        tap("in", envelope(kind, producer="p", counter=number, tenant="t", session=session, lane=1, body=b"xyz"))
    last, rows = tap.since(0)
    assert last == 4
    assert [row["n"] for row in rows] == [1, 2, 3, 4]
    assert rows[0]["bytes"] == 3
    assert rows[0]["lane"] == "high"
    assert b"xyz" not in rows[0].values()
    assert [row["n"] for row in tap.since(1, kind="A")[1]] == [2, 4]
    assert [row["n"] for row in tap.since(0, session="s2", limit=1)[1]] == [3]
    assert tap.since(4) == (4, [])


def test_only_the_last_are_kept() -> None:
    """2,000 of them."""
    tap = Tap(lambda: 0.0)
    env = envelope("A", producer="p", counter=1, tenant="t", session="s", lane=1)
    for _ in range(2_500):
        tap("out", env)
    last, rows = tap.since(0, limit=10_000)
    assert (last, len(rows), rows[0]["n"]) == (2_500, 2_000, 501)
