"""Operations inside a transaction: what a rollback undoes, and that marks do not change what is read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from laneway.actors.ports import Entry
from laneway.engine.stores import database as module
from laneway.engine.stores.database import Bounds, Database
from laneway.routing.errors import Fenced


def entries(first: int, last: int, stream: int = 1) -> list[Entry]:
    return [Entry(stream, seq, seq * 10, b"%d" % seq) for seq in range(first, last + 1)]


def connected(path: Path) -> Database:
    return Database(path, sync="normal", busy_s=0.1, bounds=Bounds(), factory=sqlite3.Connection)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = connected(tmp_path / "s.db")
    yield made
    made.close()


def test_a_rollback_undoes_memory_too(database: Database) -> None:
    """After a rollback heads, generations and places are what the file says."""
    database.begin()
    claim = database.claim("k")
    database.append(claim, entries(1, 3))
    database.commit()
    database.begin()
    newer = database.claim("k")
    database.append(newer, entries(4, 9))
    database.rollback()
    database.begin()
    assert database.read("k", 1, 1, 1_000) == entries(1, 3)
    with pytest.raises(Fenced):
        database.append(newer, entries(4, 9))
    database.append(claim, entries(4, 5))
    assert database.read("k", 1, 3, 1_000) == entries(3, 5)
    database.commit()


@pytest.mark.parametrize("rows", [1, 2, 7, 1_000])
def test_marks_change_nothing_that_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """With a mark after every so many rows, two logs of two streams read the same, also when reopened."""
    monkeypatch.setattr(module, "_MARK_ROWS", rows)
    database = connected(tmp_path / "s.db")
    database.begin()
    claims = [database.claim(key) for key in "ab"]
    database.commit()
    for first in range(1, 30, 3):
        database.begin()
        for claim in claims:
            database.append(claim, entries(first, first + 2) + entries(first, first + 2, stream=0))
        database.commit()
    for _ in range(2):
        database.begin()
        for key in "ab":
            for stream in (0, 1):
                for first in (1, 2, 15, 30, 31):
                    assert database.read(key, stream, first, 10_000) == entries(first, 30, stream)
        database.commit()
        database.close()
        database = connected(tmp_path / "s.db")
    database.close()


def test_many_more_logs_than_are_known(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that memory forgot is read from the file again, and stays fenced."""
    monkeypatch.setattr(module, "_KNOWN_LOGS", 3)
    database.begin()
    claims = [database.claim(f"k{number}") for number in range(10)]
    for claim in claims:
        database.append(claim, entries(1, 2))
    for claim in claims:
        database.append(claim, entries(3, 3))
        database.trim(claim, 1, 2)
    database.commit()
    database.begin()
    again = [database.claim(f"k{number}") for number in range(10)]
    assert all(claim.heads == {1: (3, 30)} and claim.floors == {1: 2} for claim in again)
    with pytest.raises(Fenced):
        database.append(claims[0], entries(4, 4))
    database.commit()


def test_trimmed_events_leave_the_file(database: Database, tmp_path: Path) -> None:
    """Trimming deletes the rows and the marks that cover nothing any more."""
    database.begin()
    claim = database.claim("k")
    database.append(claim, entries(1, 100))
    database.trim(claim, 1, 101)
    database.commit()
    other = sqlite3.connect(tmp_path / "s.db")
    assert other.execute("SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM runs)").fetchone() == (0, 0)
    other.close()
