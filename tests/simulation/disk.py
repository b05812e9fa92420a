"""A simulated disk under the Store port: it takes time, fails, lies, and survives a kill -9.

Law of this file: what `append` returned from is there for ever, unless the power fails and the disk had
lied; what was under way when the process died may or may not be. The data lives in one Archive that is
kept across crashes (so it keeps its epoch, as a file would); each process reaches it through its own
`SimStore`, which dies with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeAlias

from laneway.actors.ports import Claim, DeadLetter, Entry, Record, Store
from laneway.engine.stores.memory import MemoryStore
from laneway.routing.errors import StoreError
from tests.simulation.faults import Faults

__all__ = ["Archive", "Marks", "SimStore"]


Marks: TypeAlias = dict[str, dict[int, tuple[int, int]]]
"""log key -> stream -> (first seq that is there, last one)."""


class Archive(MemoryStore):
    """The medium itself, which also keeps what was trimmed: the truth that everything is compared with.

    Attributes:
        epoch: name of its numbering. kept: log key -> stream -> every entry ever appended.
        floors: (log key, stream) -> below which it was trimmed.
        writers: log key -> the generations that wrote it, in the order of their first writes.
    """

    def __init__(self, epoch: str, now: Callable[[], float]) -> None:
        super().__init__(epoch=epoch, now=now)
        self.epoch = epoch
        self.kept: dict[str, dict[int, list[Entry]]] = {}
        self.writers: dict[str, list[int]] = {}
        self.floors: dict[tuple[str, int], int] = {}

    async def append(self, claim: Claim, entries: Sequence[Entry]) -> None:
        """Append and archive."""
        await super().append(claim, entries)
        writers = self.writers.setdefault(claim.key, [])
        if entries and claim.generation not in writers[-1:]:
            writers.append(claim.generation)
        streams = self.kept.setdefault(claim.key, {})
        for entry in entries:
            streams.setdefault(entry.stream, []).append(entry)

    async def trim(self, claim: Claim, stream: int, below: int) -> None:
        """Trim, but only the log."""
        await super().trim(claim, stream, below)
        self.floors[claim.key, stream] = max(below, self.floors.get((claim.key, stream), 1))

    def marks(self) -> Marks:
        """How far each stream of each log is written: what a power loss leaves if all after it was a lie."""
        return {
            key: {stream: (self.floors.get((key, stream), 1), entries[-1].seq) for stream, entries in streams.items()}
            for key, streams in self.kept.items()
        }

    async def after_power_loss(self, marks: Marks, epoch: str) -> Archive:
        """Return what is there after a power loss: all up to `marks`, under a new epoch, for nobody can say so.

        Values and dead letters are kept.
        """
        left = Archive(epoch, self._now)
        left._values, left._ends, left._looked_at, left._versions = (
            self._values, self._ends, self._looked_at, self._versions
        )  # fmt: skip
        left._dead, left._dead_bytes, left._dead_ids = self._dead, self._dead_bytes, self._dead_ids
        for key, streams in marks.items():
            claim = await left.claim(key)
            for stream, (floor, head) in streams.items():
                await left.append(claim, [entry for entry in self.kept[key][stream] if entry.seq <= head])
                await left.trim(claim, stream, floor)
        return left

    def forget(self, key: str) -> None:
        """Drop a log whose session nobody comes back to, and what is known of it."""
        self.kept.pop(key, None)
        self.writers.pop(key, None)
        self._logs.pop(key, None)


class SimStore:
    """One process's view of the disk.

    Args:
        disk: where the data stays.
        faults: how it behaves.
    """

    durable = True

    def __init__(self, disk: Store, faults: Faults) -> None:
        self._disk = disk
        self._faults = faults
        self._head = asyncio.Lock()
        self.dead_process = False

    def kill(self) -> None:
        """The process died: appends under way are decided by the dice, later ones never happen."""
        self.dead_process = True

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do: the disk stays."""

    async def claim(self, key: str) -> Claim:
        """Claim after a short read."""
        await self._seek(0.0002, 0.002)
        return await self._disk.claim(key)

    async def append(self, claim: Claim, entries: Sequence[Entry]) -> None:
        """Append in order, after a commit's time, unless a fault strikes."""
        async with self._head:
            self._check_alive()
            weather = self._faults.weather
            slow = self._faults.happens("slow commit", 1.0 if self._faults.disk_slow else weather.slow_commit)
            try:
                await asyncio.sleep(0.5 if slow else self._faults.between(weather.commit_s))
            except asyncio.CancelledError:
                if self.dead_process and self._faults.happens("commit survived the crash", 0.5):
                    await self._disk.append(claim, entries)
                raise
            if self._faults.disk_full:
                self._faults.fired["disk full"] += 1
                raise StoreError("append failed before it wrote (simulated disk without room)")
            if self._faults.happens("lost commit", weather.lost_commit):
                raise StoreError("append failed before it wrote (simulated write error)")
            await self._disk.append(claim, entries)
            if self._faults.happens("torn commit", weather.torn_commit):
                raise StoreError("append wrote and failed (simulated fsync error)")

    def _check_alive(self) -> None:
        if self.dead_process:
            raise asyncio.CancelledError

    async def _seek(self, low_s: float, high_s: float) -> None:
        await self._pause(low_s, high_s)
        if self._faults.happens("failed read", self._faults.weather.failed_read):
            raise StoreError("a read failed (simulated media error)")

    async def read(self, key: str, stream: int, first: int, max_bytes: int = 262_144) -> list[Entry]:
        """Read after a seek."""
        await self._seek(0.0001, 0.001)
        return await self._disk.read(key, stream, first, max_bytes)

    async def trim(self, claim: Claim, stream: int, below: int) -> None:
        """Trim at once."""
        self._check_alive()
        await self._disk.trim(claim, stream, below)

    async def keys(self, prefix: str) -> list[str]:
        """List keys."""
        return await self._disk.keys(prefix)

    async def get(self, key: str) -> Record:
        """Read a value."""
        await self._pause(0.0001, 0.001)
        return await self._disk.get(key)

    async def put(self, key: str, value: bytes, *, version: int | None = None, ttl_s: float | None = None) -> int:
        """Write a value after a commit's time."""
        await asyncio.sleep(self._faults.between(self._faults.weather.commit_s))
        self._check_alive()
        return await self._disk.put(key, value, version=version, ttl_s=ttl_s)

    async def delete(self, key: str) -> None:
        """Forget a value."""
        await self._disk.delete(key)

    async def bury(self, letter: DeadLetter) -> int:
        """Keep a dead letter."""
        self._check_alive()
        return await self._disk.bury(letter)

    async def dead(self, tenant: str | None = None, limit: int = 100) -> list[DeadLetter]:
        """List dead letters."""
        return await self._disk.dead(tenant, limit)

    async def exhume(self, ids: Sequence[int]) -> list[DeadLetter]:
        """Take dead letters out."""
        return await self._disk.exhume(ids)

    async def _pause(self, low_s: float, high_s: float) -> None:
        await asyncio.sleep(self._faults.between((low_s, high_s)))
        self._check_alive()
