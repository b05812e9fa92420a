"""A room: what a change waits for, and what happens when the document itself misbehaves."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from laneway.actors.sync.bounds import SyncPolicy
from laneway.actors.sync.patch import parse_operations
from laneway.actors.sync.room import Room
from laneway.engine.documents.yjs import YjsDocument, YjsEngine
from laneway.engine.stores.memory import MemoryStore
from laneway.routing.errors import PeerProtocolError


class Moody(YjsDocument):
    """Writes half of a patch, then raises like a native panic."""

    def patch(self, operations):
        if operations[-1].value == "panic":
            super().patch(operations[:-1])
            raise PeerProtocolError("panicked midway", reason="BAD_UPDATE")
        return super().patch(operations)


class MoodyEngine(YjsEngine):
    def open(self, name, client_id):
        return Moody(name, client_id)


def add(path, value):
    return {"op": "add", "path": path, "value": value}


def room(store, engine=None):
    return Room(
        "t",
        "d",
        store=store,
        engine=engine or YjsEngine(),
        on_dirty=lambda room, view: None,
        document_bytes=SyncPolicy().document_bytes,
    )


def test_half_a_change_never_stays():
    """After a panic in mid-patch the document is what the log says."""

    async def main():
        one = room(MemoryStore(), MoodyEngine())
        await one.patch(parse_operations([add("/a", 1)]), "")
        with pytest.raises(PeerProtocolError):
            await one.patch(parse_operations([add("/half", 1), add("/b", "panic")]), "")
        await one.patch(parse_operations([add("/c", 3)]), "")
        async with one.turn:
            assert one.json(await one.content()) == {"a": 1, "c": 3}
        await one.close(1.0)

    asyncio.run(main())


def test_a_cancelled_handler_does_not_undo_what_it_began():
    """The change is logged all the same, and those that share its commit are answered."""

    async def main():
        store = MemoryStore()
        one = room(store)
        tasks = [asyncio.create_task(one.patch(parse_operations([add(f"/k{i}", i)]), "")) for i in range(5)]
        await asyncio.sleep(0)
        tasks[2].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results].count(asyncio.CancelledError) == 1
        await one.close(1.0)
        other = room(store)
        async with other.turn:
            keys = set(other.json(await other.content()))
        assert keys >= {"k0", "k1", "k3", "k4"}
        await other.close(1.0)

    asyncio.run(main())


def test_patches_take_effect_in_order_of_arrival():
    """Positions in a patch mean the document as the patch before left it."""

    async def main():
        one = room(MemoryStore())
        await one.patch(parse_operations([add("/list", [])]), "")
        await asyncio.gather(*(one.patch(parse_operations([add(f"/list/{i}", i)]), "") for i in range(50)))
        async with one.turn:
            assert one.json(await one.content()) == {"list": list(range(50))}
        await one.close(1.0)

    asyncio.run(main())


def test_putting_away_frees_and_coming_back_finds_all():
    """`put_away` drops the replica; the next use loads it under the same claim."""

    async def main():
        one = room(MemoryStore())
        await one.patch(parse_operations([add("/a", 1)]), "")
        await one.settled()
        claim = one.archive.claim
        assert one.quiet
        async with one.turn:
            document = weakref.ref((await one.content()).document)
        one.put_away()
        assert not one.resident
        gc.collect()
        assert document() is None, "something still holds the document"
        async with one.turn:
            assert one.json(await one.content()) == {"a": 1}
        assert one.archive.claim is claim
        await one.close(1.0)

    asyncio.run(main())
