"""Versioned values in SQLite, as they are read and written inside one transaction.

Law of this file: versions grow over the whole file and are never reused, so a deleted and rewritten value
does not pass for the old one. What has ended is no value; a few of those are swept with each write.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from laneway.actors.ports import Record

__all__ = ["Put", "Versions"]

_SWEPT: Final = 16
_KEYS: Final = 64
"""Keys that one statement asks for."""


class Put(NamedTuple):
    """One value to be written.

    Attributes:
        version: that it is to replace (0: none), or None: whatever there is.
        expires: UNIX seconds of its end, or None. unix_s: UNIX seconds when it was asked for.
    """

    key: str
    value: bytes
    version: int | None
    expires: float | None
    unix_s: float


class Versions:
    """The values of one file.

    Args:
        db: the connection; somebody else's transaction is open on it.
    """

    __slots__ = ("_db",)

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def get(self, key: str, unix_s: float) -> Record:
        """Read a value; version 0 if there is none at `unix_s`."""
        row = self._db.execute("SELECT version, value, expires FROM vals WHERE key = ?", (key,)).fetchone()
        if row is None or (row[2] is not None and row[2] <= unix_s):
            return Record(0, b"")
        return Record(row[0], row[1])

    def put_all(self, puts: Sequence[Put]) -> list[int]:
        """Write in order; return each one's new version, or 0 where `version` was not current any more.

        Four statements and one row each, however many they are.
        """
        unix_s = max(put.unix_s for put in puts)
        held = self._current({put.key for put in puts if put.version is not None}, unix_s)
        last = self._db.execute("SELECT max(seq) FROM sqlite_sequence WHERE name = 'vals'").fetchone()[0] or 0
        told, rows = [], []
        for key, value, version, expires, _ in puts:
            if version is not None and version != held.get(key, 0):
                told.append(0)
                continue
            last += 1
            held[key] = last
            told.append(last)
            rows.append((last, key, value, expires))
        if rows:
            self._sweep(unix_s, _SWEPT + len(rows))
            self._db.executemany("INSERT OR REPLACE INTO vals (version, key, value, expires) VALUES (?, ?, ?, ?)", rows)
        return told

    def delete(self, key: str) -> None:
        """Forget a value."""
        self._db.execute("DELETE FROM vals WHERE key = ?", (key,))

    def _sweep(self, unix_s: float, most: int) -> None:
        self._db.execute(
            "DELETE FROM vals WHERE version IN (SELECT version FROM vals WHERE expires <= ? LIMIT ?)", (unix_s, most)
        )

    def _current(self, keys: Collection[str], unix_s: float) -> dict[str, int]:
        """Return the versions of those keys that have a value."""
        found: dict[str, int] = {}
        left = list(keys)
        while left:
            some, left = left[:_KEYS], left[_KEYS:]
            places = 1 << (len(some) - 1).bit_length()  # few different statements, so that they stay prepared
            found.update(
                self._db.execute(
                    f"SELECT key, version FROM vals WHERE key IN ({','.join('?' * places)})"
                    " AND (expires IS NULL OR expires > ?)",
                    (*some, *[None] * (places - len(some)), unix_s),
                )
            )
        return found
