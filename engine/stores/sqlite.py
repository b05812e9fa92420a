"""A durable Store in one SQLite file: WAL, group commit, fencing across processes.

Law of this file: `append` and `put` return only after the commit that holds them. Under
`sync="full"` (the default) what they returned for survives power loss, under "normal" the death of
the process. The epoch stays across restarts, because the log is provably complete.

Limits: one host (WAL needs shared memory, so no network file system); the writer's thread does the
reads too, so that a read sees every write before it.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from laneway.actors.ports import Claim, DeadLetter, Entry, Record
from laneway.engine.stores.database import Bounds, Database
from laneway.engine.stores.puts import Puts
from laneway.engine.stores.versions import Put
from laneway.engine.stores.writer import Writer
from laneway.routing.errors import ConfigError, StoreError

__all__ = ["SqliteStore"]

_CLOSE_S: Final = 30.0
_ENTRY_OVERHEAD_BYTES: Final = 64

_T = TypeVar("_T")


class SqliteStore:
    """Logs, values and dead letters in one file, shared by any number of processes of one host.

    Args:
        path: the file; its directory is created, `-wal` and `-shm` lie beside it.
        sync: "full" or "normal".
        busy_s: seconds to wait for another process's transaction before StoreError.
        answer_s: seconds after which a call gives up with StoreError; its outcome is unknown then.
        max_pending_bytes: bound of what waits to be written.
        max_dead: dead letters kept; max_dead_bytes: their packed events, in bytes.
        unix: wall clock in UNIX seconds, for ttl (which must hold across restarts).
        factory: class of the connection; tests put a faulty disk here.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        sync: str = "full",
        busy_s: float = 2.0,
        answer_s: float = 30.0,
        max_pending_bytes: int = 67_108_864,
        max_dead: int = 10_000,
        max_dead_bytes: int = 67_108_864,
        unix: Callable[[], float] = time.time,
        factory: type[sqlite3.Connection] = sqlite3.Connection,
    ) -> None:
        if sync not in ("full", "normal"):
            raise ConfigError(f"store.sync is {sync!r}; choose full (survives power loss) or normal (survives kill -9)")
        self._path = Path(path)
        self._answer_s = answer_s
        self._max_pending_bytes = max_pending_bytes
        self._unix = unix
        bounds = Bounds(max_dead, max_dead_bytes)
        self._opening = partial(Database, self._path, sync=sync, busy_s=busy_s, bounds=bounds, factory=factory)
        self._writer: Writer | None = None
        self._puts = Puts(self._submit, self._in_time, max_pending_bytes)

    @property
    def durable(self) -> bool:
        """True: what was acknowledged survives kill -9."""
        return True

    @property
    def shared(self) -> bool:
        """False: processes of one host share the file, hosts do not."""
        return False

    async def open(self) -> None:
        """Open the file; a second call does nothing. Raises StoreError if it cannot be used."""
        if self._writer is not None:
            return
        self._writer = Writer(str(self._path), self._opening, self._max_pending_bytes)
        try:
            await self._do(lambda database: None)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Write what waits and release the file; idempotent. Raises StoreError if the disk hangs."""
        self._puts.hand_over()
        writer, self._writer = self._writer, None
        if writer is None:
            return
        writer.stop()
        if not await asyncio.to_thread(writer.join, _CLOSE_S):
            raise StoreError(f"the store {self._path} did not close within {_CLOSE_S:.0f} s: the disk hangs")

    async def claim(self, key: str) -> Claim:
        """Take the log over, creating it if need be."""
        return await self._do(lambda database: database.claim(key))

    async def append(self, claim: Claim, entries: Sequence[Entry]) -> None:
        """Append all or nothing. Raises Fenced, LocalProtocolError (hole), StoreError."""
        size_bytes = sum(len(entry.blob) + _ENTRY_OVERHEAD_BYTES for entry in entries)
        await self._do(lambda database: database.append(claim, entries), size_bytes)

    async def read(self, key: str, stream: int, first: int, max_bytes: int = 262_144) -> list[Entry]:
        """Entries from `first` on, in order."""
        return await self._do(lambda database: database.read(key, stream, first, max_bytes))

    async def trim(self, claim: Claim, stream: int, below: int) -> None:
        """Forget entries with seq < below."""
        await self._do(lambda database: database.trim(claim, stream, below))

    async def keys(self, prefix: str) -> list[str]:
        """Sorted keys of the logs that begin with `prefix`."""
        return await self._do(lambda database: database.keys(prefix))

    async def get(self, key: str) -> Record:
        """Read a value; Record(0, b"") if there is none or its ttl is over."""
        return await self._do(lambda database: database.get(key, self._unix()))

    async def put(self, key: str, value: bytes, *, version: int | None = None, ttl_s: float | None = None) -> int:
        """Write and return the new version, or 0 if `version` is no longer current.

        Versions grow over the whole store and are never reused.
        """
        unix_s = self._unix()
        return await self._puts.add(Put(key, value, version, None if ttl_s is None else unix_s + ttl_s, unix_s))

    async def delete(self, key: str) -> None:
        """Forget a value; nothing happens if there is none."""
        await self._do(lambda database: database.delete(key))

    async def bury(self, letter: DeadLetter) -> int:
        """Keep a dead letter and return its id; the oldest leave beyond the bounds."""
        return await self._do(lambda database: database.bury(letter), len(letter.packed))

    async def dead(self, tenant: str | None = None, limit: int = 100) -> list[DeadLetter]:
        """Newest first, at most `limit`."""
        return await self._do(lambda database: database.dead(tenant, limit))

    async def exhume(self, ids: Sequence[int]) -> list[DeadLetter]:
        """Remove and return dead letters; unknown ids are skipped."""
        return await self._do(lambda database: database.exhume(ids))

    async def _do(self, call: Callable[[Database], _T], size_bytes: int = 0) -> _T:
        self._puts.hand_over()
        future: asyncio.Future[_T] = self._submit(call, size_bytes)
        answered = self._in_time(future)
        try:
            return await future
        finally:
            answered()

    def _submit(self, call: Callable[[Database], _T], size_bytes: int) -> asyncio.Future[_T]:
        if self._writer is None:
            raise StoreError(f"the store {self._path} is not open; await store.open() first")
        return self._writer.submit(call, size_bytes)

    def _in_time(self, future: asyncio.Future[Any]) -> Callable[[], None]:
        """See that a future ends within `answer_s`; returns what calls that off."""
        return future.get_loop().call_later(self._answer_s, self._give_up, future).cancel

    def _give_up(self, future: asyncio.Future[Any]) -> None:
        """Tell who waits that nothing came; a timer of our own costs a third of `asyncio.timeout`."""
        if not future.done():
            future.set_exception(
                StoreError(
                    f"the store {self._path} gave no answer in {self._answer_s:.0f} s: the disk hangs; "
                    "whether it was written is unknown"
                )
            )
