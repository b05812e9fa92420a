"""Versioned values in one transaction."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from laneway.actors.ports import Record
from laneway.engine.stores.schema import connect
from laneway.engine.stores.versions import Put, Versions


@pytest.fixture
def values(tmp_path: Path) -> Versions:
    return Versions(connect(tmp_path / "s.db", sync="normal", busy_s=1, factory=sqlite3.Connection))


def test_each_is_judged_by_what_came_before(values: Versions) -> None:
    """Also by its neighbours in the same list; a refused one uses no version."""
    puts = [
        Put("a", b"1", 0, None, 0),
        Put("a", b"2", 0, None, 0),
        Put("a", b"3", 1, None, 0),
        Put("b", b"4", None, None, 0),
    ]
    assert values.put_all(puts) == [1, 0, 2, 3]
    assert (values.get("a", 0), values.get("b", 0)) == (Record(2, b"3"), Record(3, b"4"))
    values.delete("b")
    assert values.put_all([Put("b", b"5", 3, None, 0), Put("b", b"6", 0, None, 0)]) == [0, 4], "no version comes twice"


def test_what_has_ended_is_no_value_and_goes(values: Versions) -> None:
    """It may be put anew, and those that nobody asks for are swept by others' writes."""
    values.put_all([Put(f"k{n}", b"v", 0, 10.0, 0) for n in range(200)])
    assert values.get("k1", 10.0) == Record(0, b"")
    assert values.put_all([Put("k1", b"w", 0, 30.0, 11.0)]) == [201]
    for _ in range(20):
        values.put_all([Put("x", b"", None, None, 11.0)])
    (left,) = values._db.execute("SELECT count(*) FROM vals").fetchone()
    assert left == 2
