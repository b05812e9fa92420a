"""Where a document lies when nobody looks: its fenced log of updates and, now and then, a snapshot.

Law of this file: a snapshot is put before the log entries in it are trimmed, and only if the stored
one is still the one it was made from. A crash between the two leaves entries twice, which a CRDT
does not mind; a stale home cannot put an old snapshot over a newer one, nor trim.

A snapshot is made by a scratch document from what the store holds, never from the live one: that
may already contain updates that are not logged (and might never be). Every 500 updates or 64 KiB:
merging grows with the square of the inputs, a scratch document does not (10,000 updates: 12 ms).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from laneway.actors.ports import Claim, Entry, Store
from laneway.actors.sync.lib0 import Reader, var_bytes, varuint
from laneway.routing.errors import Fenced, ProtocolError, StoreError

__all__ = ["Archive"]

_STREAM: Final = 0
_COST_BYTES: Final = 16
_COMPACT_ENTRIES: Final = 500
_COMPACT_BYTES: Final = 65_536
_READ_BYTES: Final = 262_144


class Archive:
    """One document in the store.

    Args:
        key: its log's key, ``tenant/doc/name``; the snapshot lies at ``key/snapshot``.
        claim: takes the log over, and may refuse to; default: the store's.
    """

    def __init__(self, store: Store, key: str, claim: Callable[[str], Awaitable[Claim]] | None = None) -> None:
        self.key = key
        self.claim: Claim | None = None
        self.compactions = 0
        self.moved = False
        """Whether the last `open` found the log elsewhere than it was left: somebody else wrote."""
        self._store = store
        self._claim = claim or store.claim
        self._seq = 0
        self._position = 0
        self._snapshot_version = 0
        self._snapshot_bytes = 0
        self._tail = 0
        self._tail_bytes = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of snapshot and log tail: what loading it reads."""
        return self._snapshot_bytes + self._tail_bytes

    @property
    def due(self) -> bool:
        """True if the tail is long enough to be folded into a snapshot."""
        return self._tail >= _COMPACT_ENTRIES or self._tail_bytes >= _COMPACT_BYTES

    async def open(self) -> list[bytes]:
        """Return the updates that make the document; takes the log over unless it is held already.

        Raises StoreError if the store fails or entries are missing.
        """
        if self.claim is None:
            claim = await self._claim(self.key)
            left = self._seq
            self._seq, self._position = claim.heads.get(_STREAM, (0, 0))
            self.moved = self._seq != left
            self.claim = claim
        return await self._read(self.claim)

    def abandon(self) -> None:
        """Give the claim up: `open` takes the log over again, with a higher generation."""
        self.claim = None

    async def append(self, updates: Sequence[bytes]) -> None:
        """Log updates, all or none. Raises Fenced, StoreError; the claim is given up then."""
        claim = self._held()
        seq, position, entries = self._seq, self._position, []
        for update in updates:
            seq += 1
            position += len(update) + _COST_BYTES
            entries.append(Entry(_STREAM, seq, position, update))
        try:
            await self._store.append(claim, entries)
        except BaseException:
            self.abandon()
            raise
        self._tail += len(entries)
        self._tail_bytes += position - self._position
        self._seq, self._position = seq, position

    async def prove(self) -> None:
        """Return if the log is still ours. Raises Fenced, StoreError; the claim is given up then."""
        try:
            await self._store.trim(self._held(), _STREAM, 0)
        except BaseException:
            self.abandon()
            raise

    async def compact(self, whole: Callable[[Sequence[bytes]], Sequence[bytes]]) -> None:
        """Fold snapshot and log into a new snapshot. O(document).

        Args:
            whole: makes of many updates the few that hold the same.

        Raises Fenced if another home put a snapshot meanwhile, and StoreError.
        """
        claim, upto, known = self._held(), self._seq, self._snapshot_version
        updates = await self._read(claim)
        blob, version = b"", 0
        if known == self._snapshot_version:
            blob = _pack(claim.epoch, upto, whole(updates))
            version = await self._store.put(f"{self.key}/snapshot", blob, version=known)
        if not version:
            self.abandon()
            raise Fenced(f"another home put a snapshot of {self.key}; reload the document")
        self._snapshot_version, self._snapshot_bytes = version, len(blob)
        self._tail, self._tail_bytes = 0, 0
        self.compactions += 1
        await self._store.trim(claim, _STREAM, upto + 1)

    def _held(self) -> Claim:
        if self.claim is None:
            raise Fenced(f"the log of {self.key} is not held here; reload the document")
        return self.claim

    async def _read(self, claim: Claim) -> list[bytes]:
        """Read snapshot and tail, and count them."""
        record = await self._store.get(f"{self.key}/snapshot")
        updates, upto = _unpack(self.key, record.value, claim.epoch)
        entries: list[bytes] = []
        seq = upto + 1 if upto else claim.floors.get(_STREAM, 1)
        while seq <= self._seq:
            chunk = await self._store.read(self.key, _STREAM, seq, _READ_BYTES)
            if not chunk or chunk[0].seq != seq:
                raise StoreError(f"entry {seq} of {self.key} is missing; restore the store from a backup")
            entries.extend(entry.blob for entry in chunk)
            seq = chunk[-1].seq + 1
        self._snapshot_version, self._snapshot_bytes = record.version, len(record.value)
        self._tail = len(entries)
        self._tail_bytes = sum(map(len, entries)) + _COST_BYTES * len(entries)
        return updates + entries


def _pack(epoch: str, upto: int, updates: Sequence[bytes]) -> bytes:
    head = var_bytes(epoch.encode()) + varuint(upto) + varuint(len(updates))
    return head + b"".join(var_bytes(update) for update in updates)


def _unpack(key: str, blob: bytes, epoch: str) -> tuple[list[bytes], int]:
    """Return the snapshot's updates and the last seq in it (0 if it numbers another epoch's log)."""
    if not blob:
        return [], 0
    reader = Reader(blob)
    try:
        written, upto = reader.text(), reader.varuint()
        updates = [reader.bytes() for _ in range(reader.count())]
        reader.end()
    except ProtocolError as error:
        raise StoreError(f"the snapshot of {key} is damaged ({error}); restore the store from a backup") from None
    return updates, upto if written == epoch else 0
