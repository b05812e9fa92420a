"""Group commit: one thread, one transaction for everything that waits.

Law of this file: the first waiter is never delayed; whoever comes while a commit runs joins the
next one, which starts as soon as the former ends and takes at most 5 ms of work. A result is
told only after the commit that holds it. If the medium fails, everybody in that transaction hears
StoreError, and the connection is opened anew before the next, so that what is believed then
comes from the file and not from memory.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from laneway.engine.stores.database import Database
from laneway.routing.errors import LanewayError, StoreError

__all__ = ["Writer"]

_TRANSACTION_S: Final = 0.005
_TRANSACTION_JOBS: Final = 4_096


@dataclass(slots=True)
class _Job:
    call: Callable[[Database], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    size_bytes: int
    result: Any = None
    error: Exception | None = None


class _Poison(Exception):
    """One job failed by itself (a value SQLite cannot hold); its neighbours go again without it."""

    def __init__(self, job: _Job) -> None:
        super().__init__(str(job.error))
        self.job = job


class Writer:
    """The thread that owns the connection.

    Args:
        path: named in messages.
        opening: opens the connection; called in the thread, again after each failure.
        max_pending_bytes: bound of what waits; beyond it `submit` raises StoreError.
    """

    def __init__(self, path: str, opening: Callable[[], Database], max_pending_bytes: int) -> None:
        self._path = path
        self._opening = opening
        self._max_pending_bytes = max_pending_bytes
        self._jobs: deque[_Job] = deque()
        self._pending_bytes = 0
        self._wake = threading.Condition()
        self._stopping = False
        self._database: Database | None = None
        self._suspect = False
        self._thread = threading.Thread(target=self._run, name=f"laneway store {path}", daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[Database], Any], size_bytes: int = 0) -> asyncio.Future[Any]:
        """Queue an operation and return the future of its committed result."""
        loop = asyncio.get_running_loop()
        job = _Job(call, loop.create_future(), loop, size_bytes)
        with self._wake:
            if self._stopping:
                raise StoreError(f"the store {self._path} is closed; open it again or use another one")
            if self._pending_bytes + size_bytes > self._max_pending_bytes and self._jobs:
                raise StoreError(
                    f"{self._pending_bytes} bytes wait for {self._path}: the disk is too slow; retry later"
                )
            self._pending_bytes += size_bytes
            self._jobs.append(job)
            self._wake.notify()
        return job.future

    def stop(self) -> None:
        """Write what waits, then end the thread; `join` waits for that."""
        with self._wake:
            self._stopping = True
            self._wake.notify()

    def join(self, timeout_s: float) -> bool:
        """Return whether the thread has ended within `timeout_s` seconds."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # -- in the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        while self._wait():
            self._transact()
        self._discard()

    def _wait(self) -> bool:
        """Return True once there is work, False when stopping and all is done."""
        with self._wake:
            while not self._jobs:
                if self._stopping:
                    return False
                self._wake.wait()
        return True

    def _take(self) -> _Job | None:
        with self._wake:
            if not self._jobs:
                return None
            job = self._jobs.popleft()
            self._pending_bytes -= job.size_bytes
        return job

    def _transact(self) -> None:
        """Run what waits in one transaction and tell the results."""
        again: deque[_Job] = deque()
        while True:
            done: list[_Job] = []
            try:
                self._attempt(again, done)
            except _Poison as poison:
                self._answer([poison.job])
                again.extendleft(job for job in reversed(done) if job is not poison.job)
                continue
            except (sqlite3.Error, OSError, StoreError) as error:
                done.extend(again)
                self._fail(done, error)
            self._answer(done)
            return

    def _attempt(self, again: deque[_Job], done: list[_Job]) -> None:
        """Move jobs to `done` while they run: those of `again` first, then what waits."""
        try:
            database = self._connected()
            database.begin()
        except (sqlite3.Error, OSError, StoreError):
            while (job := self._take()) is not None:  # each would wait for the same lock in turn
                again.append(job)
            raise
        until = time.monotonic() + _TRANSACTION_S
        while len(done) < _TRANSACTION_JOBS:
            job = again.popleft() if again else self._take()
            if job is None:
                break
            done.append(job)
            self._perform(database, job)
            if not again and time.monotonic() > until:
                break
        database.commit()

    def _perform(self, database: Database, job: _Job) -> None:
        """Run one job; a refusal (checked before any write) is its own, a failed medium everybody's."""
        job.error = None
        try:
            job.result = job.call(database)
        except LanewayError as error:
            job.error = error
        except (sqlite3.OperationalError, sqlite3.InternalError, OSError):
            raise
        except Exception as error:
            if type(error) is sqlite3.DatabaseError:
                raise
            job.error = StoreError(f"{self._path} cannot hold this: {error}; keys and texts are UTF-8, numbers 64-bit")
            database.rollback()
            raise _Poison(job) from error

    def _connected(self) -> Database:
        if self._database is None:
            self._database = self._opening()
            if self._suspect:
                self._database.checkpoint()
                self._suspect = False
        return self._database

    def _fail(self, jobs: list[_Job], cause: Exception) -> None:
        error = cause if isinstance(cause, StoreError) else StoreError(_explain(self._path, cause))
        for job in jobs:
            job.error = error
        self._suspect = self._suspect or self._database is not None
        if self._database is not None:
            self._discard()

    def _discard(self) -> None:
        """Close the connection; a second failure while closing says nothing new."""
        database, self._database = self._database, None
        if database is not None:
            try:
                database.close()
            except sqlite3.Error:
                self._suspect = True

    def _answer(self, jobs: list[_Job]) -> None:
        """Tell the results, one wake-up per event loop."""
        by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
        for job in jobs:
            by_loop.setdefault(job.loop, []).append(job)
        for loop, its in by_loop.items():
            try:
                loop.call_soon_threadsafe(_settle, its)
            except RuntimeError:
                continue  # the loop was closed: nobody waits there any more


def _settle(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)


def _explain(path: str, cause: Exception) -> str:
    """Return what happened to the file and what to do, for a person."""
    text = str(cause)
    advice = "see the disk and the system log"
    if "full" in text or getattr(cause, "errno", None) == 28:
        advice = "free space on that disk"
    elif "locked" in text or "busy" in text:
        advice = "another process holds the file: stop it, or give this one its own store.url"
    elif "not a database" in text or "malformed" in text:
        advice = "the file is damaged: restore it from a copy, or name another one in store.url"
    elif "unable to open" in text or "readonly" in text or isinstance(cause, PermissionError):
        advice = "check that the directory exists and may be written"
    return f"the store {path} failed: {text}; {advice}"
