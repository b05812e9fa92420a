"""A document in the store: log, snapshot, and a crash between any two steps."""

from __future__ import annotations

import asyncio

import pytest

from laneway.actors.sync.archive import Archive
from laneway.engine.stores.memory import MemoryStore
from laneway.routing.errors import Fenced, StoreError


def fold(updates):
    """A stand-in for a scratch document: keep the distinct pieces."""
    return [b",".join(sorted({piece for update in updates for piece in update.split(b",")}))]


class Crash(Exception):
    pass


class Crashing:
    """A store on which the process dies after (or before) a given call."""

    def __init__(self, inner, call, before):
        self.inner, self.call, self.before = inner, call, before

    def __getattr__(self, name):
        method = getattr(self.inner, name)

        async def run(*args, **fields):
            if name == self.call and self.before:
                raise Crash
            result = await method(*args, **fields)
            if name == self.call:
                raise Crash
            return result

        return run


@pytest.mark.parametrize("call", ["get", "put", "trim"])
@pytest.mark.parametrize("before", [True, False])
def test_a_crash_anywhere_in_compaction_loses_nothing(call, before):
    """Whatever step it hits, the next home reads every update."""

    async def main():
        store = MemoryStore()
        archive = Archive(store, "t/doc/d")
        await archive.open()
        await archive.append([b"%d" % index for index in range(600)])
        assert archive.due
        archive._store = Crashing(store, call, before)
        with pytest.raises(Crash):
            await archive.compact(fold)
        after = Archive(store, "t/doc/d")
        updates = await after.open()
        assert fold(updates) == fold([b"%d" % index for index in range(600)])
        await after.append([b"more"])
        await after.compact(fold)
        assert not after.due
        assert fold(await Archive(store, "t/doc/d").open()) == fold([b"more", *(b"%d" % i for i in range(600))])

    asyncio.run(main())


def test_compaction_trims_the_log():
    """Only what came after the snapshot is read again."""

    async def main():
        store = MemoryStore()
        archive = Archive(store, "t/doc/d")
        await archive.open()
        await archive.append([b"a", b"b"])
        await archive.compact(fold)
        await archive.append([b"c"])
        assert await Archive(store, "t/doc/d").open() == [b"a,b", b"c"]
        assert [entry.seq for entry in await store.read("t/doc/d", 0, 3)] == [3]
        assert (await store.claim("t/doc/d")).floors == {0: 3}

    asyncio.run(main())


def test_a_newer_claim_fences_and_is_noticed():
    """Append, proof and compaction of the old home are refused; it knows on reopening that things moved."""

    async def main():
        store = MemoryStore()
        old, new = Archive(store, "t/doc/d"), Archive(store, "t/doc/d")
        await old.open()
        await old.append([b"a"])
        await old.open()
        assert not old.moved
        await new.open()
        await new.append([b"b"])
        with pytest.raises(Fenced):
            await old.append([b"x"])
        with pytest.raises(Fenced):
            await old.append([b"x"])
        assert await old.open() == [b"a", b"b"]
        assert old.moved
        with pytest.raises(Fenced):
            await new.prove()

    asyncio.run(main())


def test_missing_entries_are_an_error_not_a_smaller_document():
    """A hole between snapshot and log, or a damaged snapshot, is said, not skipped."""

    async def main():
        store = MemoryStore()
        archive = Archive(store, "t/doc/d")
        await archive.open()
        await archive.append([b"a", b"b", b"c"])
        await archive.compact(fold)
        await archive.append([b"d", b"e"])
        assert archive.claim is not None
        await store.trim(archive.claim, 0, 5)
        with pytest.raises(StoreError, match="missing"):
            await Archive(store, "t/doc/d").open()
        await store.put("t/doc/d/snapshot", b"\x05nonsense")
        with pytest.raises(StoreError, match="damaged"):
            await Archive(store, "t/doc/d").open()

    asyncio.run(main())


def test_long_logs_are_read_in_pieces():
    """More than one read's worth comes back whole and in order."""

    async def main():
        store = MemoryStore()
        archive = Archive(store, "t/doc/d")
        await archive.open()
        blobs = [b"%d" % index + b"x" * 50_000 for index in range(20)]
        for blob in blobs:
            await archive.append([blob])
        assert await Archive(store, "t/doc/d").open() == blobs

    asyncio.run(main())
