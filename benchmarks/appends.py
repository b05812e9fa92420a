"""Bare sqlite: every event appended in one transaction with all that wait, then handled.

Law of this file: the same promises as laneway's store makes by default (WAL, synchronous = FULL) and
the same library, on a thread; one row per event, no duplicate check, no results kept.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from benchmarks.channels import Opened, Way
from benchmarks.measure import Stopwatch
from benchmarks.workload import Job

__all__ = ["APPENDS"]


class _Log:
    """One table of bodies."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("CREATE TABLE log (seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, body BLOB NOT NULL)")
        self._waiting: list[Job] = []
        self._news = asyncio.Event()

    async def send(self, batch: Sequence[Job]) -> None:
        self._waiting += batch
        self._news.set()

    async def receive(self) -> list[bytes]:
        await self._news.wait()
        self._news.clear()
        batch, self._waiting = self._waiting, []
        if batch:
            await asyncio.to_thread(self._append, batch)
        return [job.body for job in batch]

    def _append(self, batch: Sequence[Job]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("INSERT INTO log (kind, body) VALUES (?, ?)", [(job.kind, job.body) for job in batch])
        self._db.execute("COMMIT")

    def close(self) -> None:
        self._db.close()


@asynccontextmanager
async def _open(watch: Stopwatch) -> AsyncIterator[Opened]:
    with tempfile.TemporaryDirectory(prefix="laneway-bench-") as directory:
        log = _Log(Path(directory) / "log.db")
        try:
            yield Opened([log])
        finally:
            log.close()


APPENDS: Final = Way("bare sqlite appends", _open)
