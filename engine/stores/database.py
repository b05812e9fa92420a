"""The SQLite store's operations, synchronous, as they run inside one transaction.

Law of this file: an operation checks everything (claim, continuity, version) before its first
write, so a refused one leaves no trace in a transaction that it shares with its neighbours. What
is known in memory (generations, heads, where seqs lie) is true only while no other connection
has committed: `begin` asks SQLite (`data_version`) inside the write lock, and forgets it all if one
has. So the generation check and the append are one atomic step for every process on the file.

Used by one thread. Any sqlite3.Error leaves the object unusable: close it and open another.
"""

from __future__ import annotations

import secrets
import sqlite3
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from laneway.actors.ports import Claim, DeadLetter, Entry, Record
from laneway.engine.stores.continuity import advanced, fenced
from laneway.engine.stores.schema import boot_id, connect, renew_epochs
from laneway.engine.stores.versions import Put, Versions

__all__ = ["Bounds", "Database"]

_MARK_ROWS: Final = 8_192
"""Events between two marks: bounds the scan at a restart (about 10 ms) and the memory of the tail."""
_KNOWN_LOGS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of the dead letters: how many, and their packed events in bytes."""

    max_dead: int = 10_000
    max_dead_bytes: int = 67_108_864


@dataclass(slots=True)
class _Log:
    """A log as known in memory."""

    number: int
    generation: int
    epoch: str
    heads: dict[int, tuple[int, int]]
    floors: dict[int, int]


@dataclass(slots=True)
class _Run:
    """Where the seqs `first`, `first + 1`, ... of one stream lie."""

    first: int
    rows: array[int]


class Database:
    """One connection.

    Args:
        path: the file; its directory is created.
        sync: "full" (survives power loss) or "normal" (survives kill -9).
        busy_s: seconds to wait for another process's lock.
        bounds: of the dead letters.
        factory: class of the connection (a test's faulty disk).

    Raises sqlite3.Error, OSError, StoreError (the file is something else's).
    """

    def __init__(
        self, path: Path, *, sync: str, busy_s: float, bounds: Bounds, factory: type[sqlite3.Connection]
    ) -> None:
        self._db = connect(path, sync=sync, busy_s=busy_s, factory=factory)
        self._values = Versions(self._db)
        self._bounds = bounds
        self._data_version = -1
        self._logs: dict[str, _Log] = {}
        self._tail: dict[int, dict[int, _Run]] = {}
        self._tail_rows = 0
        self._next_row = 1
        self._rows: list[tuple[int, int, int, int, int, bytes]] = []
        self._dead_count = 0
        self._dead_bytes = 0
        try:
            self._db.execute("BEGIN IMMEDIATE")
            renew_epochs(self._db, sync=sync, boot=boot_id())
            self._db.execute("COMMIT")
        except BaseException:
            self._db.close()
            raise

    # -- transactions -------------------------------------------------------------------------

    def begin(self) -> None:
        """Take the write lock; what others changed meanwhile is noticed here."""
        self._db.execute("BEGIN IMMEDIATE")
        version = self._db.execute("PRAGMA data_version").fetchone()[0]
        if version != self._data_version:
            self._reload()
            self._data_version = version

    def commit(self) -> None:
        """Make everything since `begin` as durable as the sync mode says."""
        self._write_rows()
        if self._tail_rows >= _MARK_ROWS:
            self._mark()
        self._db.execute("COMMIT")

    def rollback(self) -> None:
        """Undo everything since `begin`, and forget what was known."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self._rows.clear()
        self._data_version = -1

    def checkpoint(self) -> None:
        """Copy the whole write-ahead log into the file and sync it, outside a transaction.

        After a failed fsync the kernel may count pages as clean that never reached the disk;
        writing them again is the only way to know.
        """
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Release the file; an open transaction is rolled back."""
        self._db.close()

    # -- logs ---------------------------------------------------------------------------------

    def claim(self, key: str) -> Claim:
        """Take a log over, creating it if need be."""
        log = self._log(key)
        if log is None:
            epoch = secrets.token_hex(8)
            cursor = self._db.execute("INSERT INTO logs (key, generation, epoch) VALUES (?, 0, ?)", (key, epoch))
            log = self._remember(key, _Log(int(cursor.lastrowid or 0), 0, epoch, {}, {}))
        log.generation += 1
        self._db.execute("UPDATE logs SET generation = ? WHERE id = ?", (log.generation, log.number))
        return Claim(key, log.generation, log.epoch, dict(log.heads), dict(log.floors))

    def append(self, claim: Claim, entries: Sequence[Entry]) -> None:
        """Append all or nothing; the rows are written together with the transaction's others."""
        log = self._held(claim)
        heads = advanced(claim.key, log.heads, entries)
        runs = self._tail.setdefault(log.number, {})
        row = self._next_row
        for stream, seq, position, blob in entries:
            self._rows.append((row, log.number, stream, seq, position, blob))
            run = runs.get(stream)
            if run is None:
                run = runs[stream] = _Run(seq, array("q"))
            run.rows.append(row)
            log.floors.setdefault(stream, 1)
            row += 1
        self._next_row = row
        self._tail_rows += len(entries)
        log.heads |= heads

    def read(self, key: str, stream: int, first: int, max_bytes: int) -> list[Entry]:
        """Entries from `first` on, about `max_bytes`; O(entries returned + runs)."""
        log = self._log(key)
        if log is None or stream not in log.heads:
            return []
        self._write_rows()
        found: list[Entry] = []
        total = 0
        for row in self._places(log, stream, max(first, log.floors.get(stream, 1))):
            seq, position, blob = self._db.execute(
                "SELECT seq, position, blob FROM events WHERE at = ?", (row,)
            ).fetchone()
            total += len(blob)
            if found and total > max_bytes:
                break
            found.append(Entry(stream, seq, position, blob))
        return found

    def trim(self, claim: Claim, stream: int, below: int) -> None:
        """Forget entries with seq < below; the head stays."""
        log = self._held(claim)
        floor = log.floors.get(stream, 1)
        seq, position = log.heads.get(stream, (0, 0))
        below = min(below, seq + 1)
        if below <= floor:
            return
        self._write_rows()
        gone = [(row,) for row, _ in zip(self._places(log, stream, floor), range(below - floor), strict=False)]
        self._db.executemany("DELETE FROM events WHERE at = ?", gone)
        self._db.execute(
            "DELETE FROM runs WHERE log = ?1 AND stream = ?2 AND first + length(rows) / 8 <= ?3",
            (log.number, stream, below),
        )
        self._db.execute(
            "INSERT OR REPLACE INTO trims VALUES (?, ?, ?, ?, ?)", (log.number, stream, below, seq, position)
        )
        self._cut_tail(log.number, stream, below)
        log.floors[stream] = below

    def keys(self, prefix: str) -> list[str]:
        """Sorted keys of logs that begin with `prefix`."""
        rows = self._db.execute(
            "SELECT key FROM logs WHERE key >= ?1 AND substr(key, 1, length(?1)) = ?1 ORDER BY key", (prefix,)
        )
        return [key for (key,) in rows]

    # -- values -------------------------------------------------------------------------------

    def get(self, key: str, unix_s: float) -> Record:
        """Read a value; version 0 if there is none at `unix_s`."""
        return self._values.get(key, unix_s)

    def put_all(self, puts: Sequence[Put]) -> list[int]:
        """Write in order; return each one's new version, or 0 where `version` was not current any more."""
        return self._values.put_all(puts)

    def delete(self, key: str) -> None:
        """Forget a value."""
        self._values.delete(key)

    # -- dead letters -------------------------------------------------------------------------

    def bury(self, letter: DeadLetter) -> int:
        """Keep a dead letter; the oldest leave beyond the bounds."""
        cursor = self._db.execute(
            "INSERT INTO dead (tenant, session, code, message, attempts, packed, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
            letter[1:],
        )
        self._dead_count += 1
        self._dead_bytes += len(letter.packed)
        bounds = self._bounds
        while self._dead_count > bounds.max_dead or (self._dead_bytes > bounds.max_dead_bytes and self._dead_count > 1):
            oldest = self._db.execute("SELECT id, length(packed) FROM dead ORDER BY id LIMIT 1").fetchone()
            self._unbury(*oldest)
        return int(cursor.lastrowid or 0)

    def dead(self, tenant: str | None, limit: int) -> list[DeadLetter]:
        """Newest first."""
        where, values = ("WHERE tenant = ?", (tenant, limit)) if tenant is not None else ("", (limit,))
        return [
            DeadLetter(*row) for row in self._db.execute(f"SELECT * FROM dead {where} ORDER BY id DESC LIMIT ?", values)
        ]

    def exhume(self, ids: Sequence[int]) -> list[DeadLetter]:
        """Remove and return dead letters."""
        found = []
        for number in ids:
            row = self._db.execute("SELECT * FROM dead WHERE id = ?", (number,)).fetchone()
            if row is not None:
                letter = DeadLetter(*row)
                self._unbury(letter.id, len(letter.packed))
                found.append(letter)
        return found

    def _unbury(self, number: int, size_bytes: int) -> None:
        self._db.execute("DELETE FROM dead WHERE id = ?", (number,))
        self._dead_count -= 1
        self._dead_bytes -= size_bytes

    # -- what is known in memory --------------------------------------------------------------

    def _reload(self) -> None:
        """Forget everything known and read the tail again; O(rows since the last mark)."""
        self._logs.clear()
        self._tail.clear()
        self._tail_rows = 0
        indexed = self._meta("indexed")
        self._next_row = indexed + 1
        rows = self._db.execute("SELECT at, log, stream, seq FROM events WHERE at > ? ORDER BY at", (indexed,))
        for row, log, stream, seq in rows:
            runs = self._tail.setdefault(log, {})
            runs.setdefault(stream, _Run(seq, array("q"))).rows.append(row)
            self._tail_rows += 1
            self._next_row = row + 1
        self._dead_count, self._dead_bytes = self._db.execute(
            "SELECT count(*), coalesce(sum(length(packed)), 0) FROM dead"
        ).fetchone()

    def _meta(self, name: str) -> int:
        value: int = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()[0]
        return value

    def _held(self, claim: Claim) -> _Log:
        """Return the claimed log. Raises Fenced if the claim is not the newest."""
        log = self._log(claim.key)
        if log is None or log.generation != claim.generation or log.epoch != claim.epoch:
            raise fenced(claim.key, claim.generation, log.generation if log else 0)
        return log

    def _log(self, key: str) -> _Log | None:
        """Return a log, read from the tables if it is not known; None if it does not exist."""
        log = self._logs.get(key)
        if log is not None:
            return log
        row = self._db.execute("SELECT id, generation, epoch FROM logs WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        log = _Log(row[0], row[1], row[2], {}, {})
        for stream, floor, seq, position in self._db.execute(
            "SELECT stream, floor, seq, position FROM trims WHERE log = ?", (log.number,)
        ):
            log.floors[stream] = floor
            log.heads[stream] = (seq, position)
        self._write_rows()
        for stream, run in self._last_runs(log.number):
            seq = run.first + len(run.rows) - 1
            if seq > log.heads.get(stream, (0, 0))[0]:
                position = self._db.execute("SELECT position FROM events WHERE at = ?", (run.rows[-1],)).fetchone()[0]
                log.heads[stream] = (seq, position)
            log.floors.setdefault(stream, 1)
        return self._remember(key, log)

    def _remember(self, key: str, log: _Log) -> _Log:
        if len(self._logs) >= _KNOWN_LOGS:
            del self._logs[next(iter(self._logs))]
        self._logs[key] = log
        return log

    def _last_runs(self, number: int) -> Iterator[tuple[int, _Run]]:
        """The last run of each stream: marked ones first, so that the tail's come after."""
        stream: Any = -1
        while True:
            row = self._db.execute(
                "SELECT stream, first, rows FROM runs WHERE log = ?1 AND stream ="
                " (SELECT min(stream) FROM runs WHERE log = ?1 AND stream > ?2) ORDER BY first DESC LIMIT 1",
                (number, stream),
            ).fetchone()
            if row is None:
                break
            stream = row[0]
            yield stream, _Run(row[1], array("q", row[2]))
        yield from list(self._tail.get(number, {}).items())

    # -- where events lie ---------------------------------------------------------------------

    def _places(self, log: _Log, stream: int, first: int) -> Iterator[int]:
        """Row numbers of the seqs from `first` on."""
        start = self._db.execute(
            "SELECT max(first) FROM runs WHERE log = ? AND stream = ? AND first <= ?", (log.number, stream, first)
        ).fetchone()[0]
        marked = self._db.execute(
            "SELECT first, rows FROM runs WHERE log = ? AND stream = ? AND first >= ? ORDER BY first",
            (log.number, stream, first if start is None else start),
        )
        for begin, rows in marked:
            yield from array("q", rows)[max(0, first - begin) :]
        run = self._tail.get(log.number, {}).get(stream)
        if run is not None:
            yield from run.rows[max(0, first - run.first) :]

    def _cut_tail(self, number: int, stream: int, below: int) -> None:
        """Forget the places of trimmed events that are not marked yet."""
        run = self._tail.get(number, {}).get(stream)
        if run is None or below <= run.first:
            return
        count = min(below - run.first, len(run.rows))
        self._tail_rows -= count
        if count == len(run.rows):
            del self._tail[number][stream]
            if not self._tail[number]:
                del self._tail[number]
        else:
            del run.rows[:count]
            run.first += count

    def _write_rows(self) -> None:
        if self._rows:
            self._db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", self._rows)
            self._rows.clear()

    def _mark(self) -> None:
        """Write where the tail's events lie: one row per stream."""
        self._db.executemany(
            "INSERT INTO runs VALUES (?, ?, ?, ?)",
            [
                (number, stream, run.first, run.rows.tobytes())
                for number, runs in sorted(self._tail.items())
                for stream, run in sorted(runs.items())
            ],
        )
        self._db.execute("UPDATE meta SET value = ? WHERE name = 'indexed'", (self._next_row - 1,))
        self._tail.clear()
        self._tail_rows = 0
