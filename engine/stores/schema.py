"""The tables of the SQLite store, and how a connection to them is opened.

Law of this file: events are appended to one rowid table and nothing else is written per event.
With a key of (log, seq) the same inserts run at 45,000 instead of 501,000 a second at batches of
100 (measured, WAL FULL: research into persistence, 300-byte records), because every session then
dirties its own page. Where a seq lies is kept in memory and written as one row per stream and
8,192 events (`runs`), so that a restart scans only the rows after the last such mark.

::

    logs    one row per log: its generation and epoch
    events  append-only; `at` only grows
    runs    where the seqs first..first+n-1 of a stream lie: n row numbers, 8 bytes each
    trims   first readable seq of a trimmed stream, and its head when it was trimmed
    vals    versioned values; a version is never reused
    dead    dead letters
    meta    indexed = last row covered by `runs`; boot, sync = see `renew_epochs`
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from laneway.routing.errors import StoreError

__all__ = ["boot_id", "connect", "renew_epochs"]

_APPLICATION: Final = 0x4C4E5759  # "LNWY"
_VERSION: Final = 1
_CACHE_KIB: Final = 512
"""Pages kept. An append of an entry takes as long as with SQLite's own 2 MiB (10 us; with 128 KiB 13), which filled
for many minutes and looked like a leak."""
_WAL_BYTES: Final = 67_108_864

_TABLES: Final = (
    "CREATE TABLE logs (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, generation INTEGER NOT NULL,"
    " epoch TEXT NOT NULL)",
    "CREATE TABLE events (at INTEGER PRIMARY KEY, log INTEGER NOT NULL, stream INTEGER NOT NULL,"
    " seq INTEGER NOT NULL, position INTEGER NOT NULL, blob BLOB NOT NULL)",
    "CREATE TABLE runs (log INTEGER NOT NULL, stream INTEGER NOT NULL, first INTEGER NOT NULL, rows BLOB NOT NULL,"
    " PRIMARY KEY (log, stream, first)) WITHOUT ROWID",
    "CREATE TABLE trims (log INTEGER NOT NULL, stream INTEGER NOT NULL, floor INTEGER NOT NULL, seq INTEGER NOT NULL,"
    " position INTEGER NOT NULL, PRIMARY KEY (log, stream)) WITHOUT ROWID",
    "CREATE TABLE vals (version INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, value BLOB NOT NULL,"
    " expires REAL)",
    "CREATE INDEX vals_expires ON vals (expires) WHERE expires IS NOT NULL",
    "CREATE TABLE dead (id INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL, session TEXT NOT NULL,"
    " code TEXT NOT NULL, message TEXT NOT NULL, attempts INTEGER NOT NULL, packed BLOB NOT NULL, at REAL NOT NULL)",
    "CREATE INDEX dead_tenant ON dead (tenant, id)",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID",
    "INSERT INTO meta VALUES ('indexed', 0), ('boot', ''), ('sync', 'full')",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_VERSION}",
)


def connect(path: Path, *, sync: str, busy_s: float, factory: type[sqlite3.Connection]) -> sqlite3.Connection:
    """Open (creating it if need be) and check the file; WAL, manual transactions.

    Raises sqlite3.Error, OSError, or StoreError if the file belongs to something else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, timeout=busy_s, isolation_level=None, factory=factory)
    try:
        db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {'FULL' if sync == 'full' else 'NORMAL'}")
        db.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
        db.execute("BEGIN IMMEDIATE")
        _prepare(db, path)
        db.execute("COMMIT")
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    """Create the tables in an empty file, or check that they are ours."""
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if (application, version) == (_APPLICATION, _VERSION):
        return
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application or version or tables:
        raise StoreError(f"{path} is not a laneway store of version {_VERSION}; name another file in store.url")
    for statement in _TABLES:
        db.execute(statement)


def boot_id() -> str:
    """Return a name of this uninterrupted run of the machine, or empty where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def renew_epochs(db: sqlite3.Connection, *, sync: str, boot: str) -> bool:
    """Start new epochs if commits may have been lost since the file was last open.

    Under `normal` a commit survives the death of the process but not of the machine: after a
    reboot nobody can prove that the logs' ends are still there, so clients must not resume as if
    they were. Under `full` epochs stay. Call within a transaction; returns whether they changed.
    """
    was = dict(db.execute("SELECT name, value FROM meta WHERE name IN ('boot', 'sync')"))
    rebooted = not boot or was["boot"] != boot
    renewed = was["sync"] == "normal" and rebooted
    if renewed:
        db.execute("UPDATE logs SET epoch = lower(hex(randomblob(8)))")
    if sync == "normal" or rebooted:
        db.execute("UPDATE meta SET value = ? WHERE name = 'sync'", (sync,))
    db.execute("UPDATE meta SET value = ? WHERE name = 'boot'", (boot,))
    return renewed
