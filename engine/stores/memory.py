"""A Store in this process's memory: volatile, bounded in bytes, and honest about both.

Law of this file: each instance is a new epoch, because a log that dies with its process cannot
prove that it is complete to a client that saw more. When it is full it refuses (StoreError);
it never forgets what it acknowledged, except by `trim`, `delete`, a ttl, the dead letters' bound, or in
the log of a session that fell asleep: an hour later, or before if there is no room. A log that follows a
forgotten one has an epoch of its own.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from typing import Final, TypeAlias

from laneway.actors.ports import Claim, DeadLetter, Entry, Record
from laneway.actors.sessions.keeping import Run
from laneway.engine.stores.continuity import advanced, fenced, follows
from laneway.engine.stores.memory_log import ENTRY_OVERHEAD_BYTES, EVENT_OVERHEAD_BYTES, LOG_OVERHEAD_BYTES, MemoryLog
from laneway.routing.errors import StoreError

__all__ = ["MemoryStore"]

_REST_S: Final = 3_600.0
"""How long a log that nobody writes is kept: a session's window to resume is over when it falls asleep."""
_RESTING_SHARE: Final = 4
"""Of the memory so much, 1 : 4, is for logs that rest."""
_SWEPT_PER_PUT: Final = 16
_STALE_ENDS: Final = 1_024
"""Planned looks at values that are gone, beside one for each that is there, before they are cleared out."""


_Value: TypeAlias = tuple[int, bytes, float]
"""version, value, when it ends; a plain tuple, which the garbage collector leaves alone."""


class MemoryStore:
    """Logs, values and dead letters of one process.

    Args:
        max_bytes: bound of logs and values together; beyond it append, claim of a new log and
            put raise StoreError until something is trimmed.
        max_dead: dead letters kept; max_dead_bytes: their packed events, in bytes.
        epoch: name of this instance's numbering; a random one by default.
        now: monotonic seconds, for ttl.
    """

    def __init__(
        self,
        max_bytes: int = 268_435_456,
        *,
        max_dead: int = 10_000,
        max_dead_bytes: int = 67_108_864,
        epoch: str | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_bytes = max_bytes
        self._max_dead = max_dead
        self._max_dead_bytes = max_dead_bytes
        self._epoch = epoch or os.urandom(8).hex()
        self._now = now
        self._logs: dict[str, MemoryLog] = {}
        self._resting: OrderedDict[str, tuple[float, int]] = OrderedDict()
        """Key -> since when nobody writes that log, and its bytes; the longest resting first."""
        self._resting_bytes = 0
        self._forgotten = 0
        self._generation = 0
        """The highest of a log that was forgotten: none is given twice."""
        self._values: dict[str, _Value] = {}
        self._ends: list[tuple[float, str]] = []  # a heap of (when to look, key)
        self._looked_at: dict[str, float] = {}  # key -> its entry there that counts
        self._versions = 0
        self._dead: OrderedDict[int, DeadLetter] = OrderedDict()
        self._dead_bytes = 0
        self._dead_ids = 0
        self._bytes = 0
        self._closed = False

    @property
    def durable(self) -> bool:
        """False: it dies with the process."""
        return False

    @property
    def shared(self) -> bool:
        """False: nobody else reaches this process's memory."""
        return False

    @property
    def used_bytes(self) -> int:
        """Bytes held by logs and values, with their overhead."""
        return self._bytes

    async def open(self) -> None:
        """Accept calls (again); what was stored before a close is still there."""
        self._closed = False

    async def close(self) -> None:
        """Refuse further calls; idempotent."""
        self._closed = True

    # -- logs ---------------------------------------------------------------------------------

    async def claim(self, key: str) -> Claim:
        """Take the log over, creating it if need be."""
        self._check_open()
        self._wake(key)
        self._forget_rested()
        log = self._logs.get(key)
        if log is None:
            self._grow(LOG_OVERHEAD_BYTES + len(key))
            epoch = f"{self._epoch}{self._forgotten:x}" if self._forgotten else self._epoch
            log = self._logs[key] = MemoryLog(self._generation, epoch)
        log.generation += 1
        return Claim(key, log.generation, log.epoch, dict(log.heads), dict(log.floors))

    def rest(self, claim: Claim) -> None:
        """Nobody writes this log for now: it is packed, and may be forgotten later. O(its events)."""
        log = self._logs.get(claim.key)
        if self._closed or log is None or (log.generation, log.epoch) != (claim.generation, claim.epoch):
            return  # somebody else has it, and may be writing
        self._bytes -= log.rest()
        self._wake(claim.key)
        size = log.bytes + len(claim.key)
        self._resting[claim.key] = (self._now(), size)
        self._resting_bytes += size
        self._forget_rested()

    async def append(self, claim: Claim, entries: Sequence[Entry]) -> None:
        """Append all or nothing. Raises Fenced, LocalProtocolError (hole), StoreError (full)."""
        self.append_now(claim, entries)

    def append_now(self, claim: Claim, entries: Sequence[Entry], runs: Sequence[Run] = ()) -> None:
        """As `append` of both; events of `runs` are kept as they are, and packed when they are read. O(entries)."""
        log = self._held(claim)
        heads = advanced(claim.key, log.heads, entries) if entries else {}
        for run in runs:
            heads[run.stream] = follows(claim.key, run.stream, heads.get(run.stream) or log.heads.get(run.stream), run)
        size = sum(len(entry[3]) for entry in entries) + ENTRY_OVERHEAD_BYTES * len(entries)
        for run in runs:
            size += run.body_bytes + EVENT_OVERHEAD_BYTES * len(run.rows)
        self._grow(size)
        for stream, seq, position, blob in entries:
            log.rows(stream, seq).rows.append((seq, position, blob))
        for run in runs:
            held = log.rows(run.stream, run.rows[0][0])
            held.pack = run.pack
            held.rows += run.rows
            if self._bytes > self._max_bytes // 2:
                self._bytes -= held.shrink()
        log.heads |= heads

    async def read(self, key: str, stream: int, first: int, max_bytes: int = 262_144) -> list[Entry]:
        """Entries from `first` on; O(entries returned)."""
        self._check_open()
        log = self._logs.get(key)
        if log is None or stream not in log.streams:
            return []
        held, floor = log.streams[stream], log.floors[stream]
        return [Entry(stream, *row) for row in held.page(first - floor, max_bytes)]

    async def trim(self, claim: Claim, stream: int, below: int) -> None:
        """Forget entries with seq < below; the head stays."""
        log = self._held(claim)
        held = log.streams.get(stream)
        if held is None:
            return
        count = min(max(0, below - log.floors[stream]), len(held.rows))
        self._bytes -= held.cut(count)
        log.floors[stream] += count

    async def keys(self, prefix: str) -> list[str]:
        """Sorted keys of the logs that begin with `prefix`; O(logs)."""
        self._check_open()
        return sorted(key for key in self._logs if key.startswith(prefix))

    # -- values -------------------------------------------------------------------------------

    async def get(self, key: str) -> Record:
        """Read a value; Record(0, b"") if there is none or its ttl is over."""
        self._check_open()
        held = self._current(key, self._now())
        return Record(held[0], held[1]) if held else Record(0, b"")

    async def put(self, key: str, value: bytes, *, version: int | None = None, ttl_s: float | None = None) -> int:
        """Write and return the new version, or 0 if `version` is no longer current.

        Versions grow over the whole store and are never reused, so a deleted and rewritten value
        does not pass for the old one.
        """
        self._check_open()
        now = self._now()
        self._sweep(now)
        held = self._current(key, now)
        if version is not None and version != (held[0] if held else 0):
            return 0
        self._grow(len(value) - len(held[1]) if held else len(value) + len(key) + ENTRY_OVERHEAD_BYTES)
        self._versions += 1
        expires = float("inf") if ttl_s is None else now + ttl_s
        self._values[key] = (self._versions, value, expires)
        if ttl_s is not None:
            self._plan(key, expires)
        return self._versions

    async def delete(self, key: str) -> None:
        """Forget a value; nothing happens if there is none."""
        self._check_open()
        self._drop(key)

    # -- dead letters -------------------------------------------------------------------------

    async def bury(self, letter: DeadLetter) -> int:
        """Keep a dead letter and return its id; the oldest leave beyond the bounds."""
        self._check_open()
        self._dead_ids += 1
        self._dead[self._dead_ids] = letter._replace(id=self._dead_ids)
        self._dead_bytes += len(letter.packed)
        while len(self._dead) > self._max_dead or (self._dead_bytes > self._max_dead_bytes and len(self._dead) > 1):
            _, oldest = self._dead.popitem(last=False)
            self._dead_bytes -= len(oldest.packed)
        return self._dead_ids

    async def dead(self, tenant: str | None = None, limit: int = 100) -> list[DeadLetter]:
        """Newest first, at most `limit`."""
        self._check_open()
        found: list[DeadLetter] = []
        for letter in reversed(self._dead.values()):
            if len(found) >= limit:
                break
            if tenant is None or letter.tenant == tenant:
                found.append(letter)
        return found

    async def exhume(self, ids: Sequence[int]) -> list[DeadLetter]:
        """Remove and return dead letters; unknown ids are skipped."""
        self._check_open()
        found = [letter for number in ids if (letter := self._dead.pop(number, None)) is not None]
        self._dead_bytes -= sum(len(letter.packed) for letter in found)
        return found

    # -- inside -------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the memory store is closed; open it again or use another one")

    def _held(self, claim: Claim) -> MemoryLog:
        """Return the claimed log. Raises Fenced if the claim is not the newest."""
        self._check_open()
        log = self._logs.get(claim.key)
        if log is None or (claim.generation, claim.epoch) != (log.generation, log.epoch):
            raise fenced(claim.key, claim.generation, log.generation if log else 0)
        return log

    def _wake(self, key: str) -> None:
        """Its log is somebody's again."""
        _, size = self._resting.pop(key, (0.0, 0))
        self._resting_bytes -= size

    def _forget_rested(self) -> None:
        """Forget the logs that rest too long, or in too much room. O(1) amortised."""
        too_long = self._now() - _REST_S
        while self._resting:
            since, _ = next(iter(self._resting.values()))
            if since > too_long and self._resting_bytes <= self._max_bytes // _RESTING_SHARE:
                return
            self._forget_one()

    def _forget_one(self) -> None:
        key, (_, size) = self._resting.popitem(last=False)
        self._resting_bytes -= size
        self._bytes -= size
        self._generation = max(self._generation, self._logs.pop(key).generation)
        self._forgotten += 1

    def _grow(self, size_bytes: int) -> None:
        while self._resting and size_bytes > 0 and self._bytes + size_bytes > self._max_bytes:
            self._forget_one()
        if size_bytes > 0 and self._bytes + size_bytes > self._max_bytes:
            raise StoreError(
                f"the memory store is full ({self._bytes} of {self._max_bytes} bytes): "
                "trim logs, raise store.memory_bytes, or set store.url to a file"
            )
        self._bytes += size_bytes

    def _current(self, key: str, now: float) -> _Value | None:
        held = self._values.get(key)
        if held is not None and held[2] <= now:
            self._drop(key)
            return None
        return held

    def _drop(self, key: str) -> None:
        held = self._values.pop(key, None)
        if held is not None:
            self._bytes -= len(held[1]) + len(key) + ENTRY_OVERHEAD_BYTES

    def _plan(self, key: str, expires: float) -> None:
        """See that a value is looked at when it ends; one that was rewritten for longer is looked at twice."""
        if expires < self._looked_at.get(key, float("inf")):
            self._looked_at[key] = expires
            heappush(self._ends, (expires, key))
            if len(self._ends) > 2 * len(self._values) + _STALE_ENDS:  # mostly of values that were deleted
                self._looked_at = {key: at for key, at in self._looked_at.items() if key in self._values}
                self._ends = [(at, key) for key, at in self._looked_at.items()]
                heapify(self._ends)

    def _sweep(self, now: float) -> None:
        """Drop a few of the values whose end has come. O(log values) each, nothing if there is none."""
        for _ in range(_SWEPT_PER_PUT):
            if not self._ends or self._ends[0][0] > now:
                return
            at, key = heappop(self._ends)
            if self._looked_at.get(key) != at:
                continue
            del self._looked_at[key]
            held = self._values.get(key)
            if held is not None and held[2] <= now:
                self._drop(key)
            elif held is not None and held[2] != float("inf"):
                self._plan(key, held[2])
