"""Documents of a cluster: three whole fronts, one store, the real CRDT."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgpack
import pytest

from laneway.actors.homes.deeds import Deeds
from laneway.actors.sync.bounds import SyncPolicy
from laneway.engine.documents.replica import Replica
from laneway.routing.errors import PeerProtocolError
from laneway.routing.placement import rendezvous
from tests.actors.fronts.towns import Reader, Town, Villager
from tests.actors.sessions.stage import Disk
from tests.simulation.loop import run

NAMES = ("a", "b", "c")
QUICK = SyncPolicy(idle_s=5.0, sweep_s=1.0)


def of(kind: str, *chain: str, skip: int = 0) -> str:
    """A session ("session") or document ("doc") that rendezvous gives to chain[0], then to chain[1], ..."""

    def fits(name: str) -> bool:
        left = list(NAMES)
        for front in chain:
            if rendezvous(f"t/{kind}/{name}", left) != front:
                return False
            left.remove(front)
        return True

    return [name for n in range(3000) if fits(name := f"{kind[0]}{n}")][skip]


async def a_town(store: Any = None, names: tuple[str, ...] = NAMES, **fields: Any) -> Town:
    town = Town()
    disk = store or Disk()
    town.join(*(Villager(name, disk, sync_policy=QUICK, **fields) for name in names))
    return await town.start()


class Editor:
    """A client with a replica of one document."""

    def __init__(self, reader: Reader, doc: str) -> None:
        self.reader, self.doc = reader, doc
        self.replica = Replica(doc)
        self.counter = 0
        self._seen = 0

    async def send(self, kind: str, body: bytes) -> None:
        self.counter += 1
        await self.reader.send(kind, self.counter, entity=self.doc, body=body)

    async def join(self) -> Editor:
        await self.send("DOC_SYNC", self.replica.hello())
        await self.sync()
        return self

    async def put(self, key: str, value: object) -> None:
        self.replica.set("/" + key, value) if hasattr(self.replica, "set") else None

    async def sync(self) -> None:
        """Send what was changed here, and take what others did."""
        for _ in range(4):
            for body in self.replica.changes():
                await self.send("DOC_SYNC", body)
            await self.reader.read()
            items, self._seen = self.reader.items[self._seen :], len(self.reader.items)
            for item in items:
                if item.envelope[2] in ("DOC_SYNC", "PRESENCE") and item.envelope[6] == self.doc:
                    for answer in self.replica.receive(item.envelope[11]):
                        await self.send("DOC_SYNC", answer)


async def edit(reader: Reader, counter: int, doc: str, **values: object) -> None:
    """Patch a document's JSON."""
    rows = [{"op": "add", "path": f"/{key}", "value": value} for key, value in values.items()]
    await reader.send("DOC_PATCH", counter, entity=doc, body=json.dumps(rows).encode())


def states(reader: Reader, doc: str) -> list[tuple[str, Any]]:
    """What was told of its JSON."""
    return [
        (item.envelope[2], msgpack.unpackb(item.envelope[11]))
        for item in reader.items
        if item.envelope[2].startswith("STATE_") and item.envelope[6] == doc
    ]


def replayed(reader: Reader, doc: str) -> Any:
    """The JSON that a client has after what it was told; deltas here only add keys."""
    value: dict[str, Any] = {}
    for kind, body in states(reader, doc):
        if kind == "STATE_SNAPSHOT":
            value = dict(body["snapshot"])
        else:
            for row in body["delta"]:
                value[row["path"][1:]] = row.get("value")
    return value


def homes_of(town: Town, doc: str) -> list[str]:
    return [name for name, each in town.members.items() if each.homes.holds(f"t/doc/{doc}")]


def test_a_document_is_edited_on_two_fronts() -> None:
    """Whoever edits it where: it has one home, and everybody ends with the same."""

    async def main() -> None:
        town = await a_town()
        doc = of("doc", "c")
        readers = [await (await town.members[n].attach(n, of("session", n))).read() for n in ("a", "b")]
        for reader in readers:
            await reader.send("DOC_PATCH", 1, entity=doc, body=b"[]")
        await asyncio.gather(*(edit(reader, 2, doc, **{reader.client: 1}) for reader in readers))
        for reader in readers:
            await reader.read()
        assert homes_of(town, doc) == ["c"]
        assert replayed(readers[0], doc) == replayed(readers[1], doc) == {"a": 1, "b": 1}
        for reader in readers:
            assert reader.told("notice") == []
            await reader.leave()
        await town.close()

    run(main())


def test_replicas_on_three_fronts_converge() -> None:
    """Frames, answers and presence reach each of them, also those whose front has the document."""

    async def main() -> None:
        town = await a_town()
        doc = of("doc", "b")
        editors = [
            await Editor(await (await town.members[n].attach(n, of("session", n))).read(), doc).join() for n in NAMES
        ]
        for number, editor in enumerate(editors):
            editor.replica.patch([{"op": "add", "path": f"/k{number}", "value": number}])
        for _ in range(2):
            for editor in editors:
                await editor.sync()
        wanted = {f"k{number}": number for number in range(3)}
        assert [editor.replica.json() for editor in editors] == [wanted] * 3
        assert homes_of(town, doc) == ["b"]
        for editor in editors:
            await editor.reader.leave()
        await town.close()

    run(main())


def test_a_bad_edit_is_refused_from_the_home() -> None:
    """With its own code, to its sender only."""

    async def main() -> None:
        town = await a_town()
        doc = of("doc", "c")
        reader = await (await town.members["a"].attach("a", of("session", "a"))).read()
        await reader.send("DOC_PATCH", 1, entity=doc, body=b'[{"op": "remove", "path": "/nothing"}]')
        await reader.read()
        (notice,) = reader.told("notice")
        assert (notice["code"], notice["counter"]) == ("MALFORMED", 1)
        await reader.leave()
        await town.close()

    run(main())


@pytest.mark.parametrize("leaves", ["kill", "close"])
def test_a_document_outlives_its_home(leaves: str) -> None:
    """The next home has all that was answered, one writer at a time; followers are told on, without asking."""

    async def main() -> None:
        town = await a_town()
        doc = of("doc", "c", "b")
        readers = [await (await town.members[n].attach(n, of("session", n))).read() for n in ("a", "b")]
        for reader in readers:
            await reader.send("DOC_PATCH", 1, entity=doc, body=b"[]")
            await edit(reader, 2, doc, **{reader.client: 1})
            await reader.read()
        gone = town.members["c"]
        if leaves == "kill":
            await town.kill("c")
        else:
            await gone.close()
            assert (await Deeds(gone.store).read(f"t/doc/{doc}"))[1] is None
            town.lose("c")
        await asyncio.sleep(2)
        await edit(readers[0], 3, doc, later=2)
        for reader in readers:
            await reader.read()
        assert homes_of(town, doc) == ["b"]
        assert replayed(readers[0], doc) == replayed(readers[1], doc) == {"a": 1, "b": 1, "later": 2}
        for reader in readers:
            await reader.leave()
        await town.close()

    run(main())


def test_a_document_stays_when_a_front_joins() -> None:
    """Until nobody uses it any more; then it is placed anew."""

    async def main() -> None:
        disk = Disk()
        town = await a_town(disk, ("a", "b"))
        doc = next(
            f"d{n}" for n in range(3000)
            if rendezvous(f"t/doc/d{n}", ("a", "b")) == "a" and rendezvous(f"t/doc/d{n}", NAMES) == "c"
        )  # fmt: skip
        reader = await (await town.members["b"].attach("b", of("session", "b"))).read()
        await edit(reader, 1, doc, x=1)
        await reader.read()
        assert homes_of(town, doc) == ["a"]
        town.join(Villager("c", disk, sync_policy=QUICK))
        await town.start()
        late = await (await town.members["c"].attach("c", of("session", "c"))).read()
        await edit(late, 1, doc, y=2)
        await late.read()
        assert homes_of(town, doc) == ["a"]
        await asyncio.sleep(10)
        assert homes_of(town, doc) == []
        await late.send("DOC_PATCH", 2, entity=doc, body=b"[]")
        await late.read()
        assert homes_of(town, doc) == ["c"]
        assert replayed(late, doc) == {"x": 1, "y": 2}
        for each in (reader, late):
            await each.leave()
        await town.close()

    run(main())


def test_a_zombie_of_a_document_writes_nothing() -> None:
    """A home that was taken for dead: its edits are refused, its followers follow the new one, nothing is lost."""

    async def main() -> None:
        disk = Disk()
        town = await a_town(disk)
        doc = of("doc", "c", "a")
        reader = await (await town.members["a"].attach("a", of("session", "a"))).read()
        await reader.send("DOC_PATCH", 1, entity=doc, body=b"[]")
        await edit(reader, 2, doc, x=1)
        await reader.read()
        zombie = town.lose("c")
        await asyncio.sleep(1)
        await edit(reader, 3, doc, y=2)
        await reader.read()
        assert homes_of(town, doc) == ["a"]
        before = await disk.read(f"t/doc/{doc}", 0, 1)
        room = zombie.documents.own._rooms["t", doc]
        assert room.resident
        zombie.neighbours.drop()
        assert not zombie.documents.own._rooms
        await asyncio.sleep(1)
        assert await disk.read(f"t/doc/{doc}", 0, 1) == before
        assert replayed(reader, doc) == {"x": 1, "y": 2}
        await reader.leave()
        await town.close(zombie)

    run(main())


def test_a_home_that_was_overtaken_tells_its_followers() -> None:
    """Fenced by a front that took it wrongly: it gives the document up, and all fronts follow it there."""

    async def main() -> None:
        disk = Disk()
        town = await a_town(disk)
        doc = of("doc", "c")
        readers = [await (await town.members[n].attach(n, of("session", n))).read() for n in NAMES]
        for reader in readers:
            await reader.send("DOC_PATCH", 1, entity=doc, body=b"[]")
            await reader.read()
        key = f"t/doc/{doc}"
        version, _ = await Deeds(disk).read(key)
        claim = await disk.claim(key)  # b believed it was its own
        from laneway.actors.homes.deeds import Deed

        b = town.members["b"]
        await Deeds(disk).write(key, Deed(b.homes.life, claim.generation, town.number), version)
        await edit(readers[2], 2, doc, z=1)
        for reader in readers:
            await reader.read()
        assert homes_of(town, doc) == ["b"]
        await asyncio.sleep(1)
        await edit(readers[0], 2, doc, w=2)
        for reader in readers:
            await reader.read()
        assert [replayed(reader, doc) for reader in readers] == [{"z": 1, "w": 2}] * 3
        for reader in readers:
            await reader.leave()
        await town.close()

    run(main())


def test_a_session_that_has_gone_follows_nothing_any_more() -> None:
    """Its front tells the document's home; a session whose front is lost is dropped with the next telling."""

    async def main() -> None:
        town = await a_town(idle_s=0.5)
        doc = of("doc", "c")
        sessions = {name: of("session", name) for name in ("a", "b")}
        readers = {name: await (await town.members[name].attach(name, sessions[name])).read() for name in sessions}
        for reader in readers.values():
            await reader.send("DOC_PATCH", 1, entity=doc, body=b"[]")
            await reader.read()
        room = town.members["c"].documents.own._rooms["t", doc]
        assert len(room.views()) == 2
        town.members["a"].documents.leave("t", sessions["a"])
        await asyncio.sleep(0.1)
        assert [view.session for view in room.views()] == [sessions["b"]]
        await town.kill("b")
        await edit(readers["a"], 2, doc, x=1)
        await asyncio.sleep(15)
        assert room.views() == []
        for reader in readers.values():
            await reader.leave()
        await town.close()

    run(main())


def test_a_connection_that_broke_leaves_no_follower_behind() -> None:
    """Both fronts live: what was told meanwhile is made up for once they are connected again."""

    async def main() -> None:
        town = await a_town()
        doc = of("doc", "c")
        reader = await (await town.members["a"].attach("a", of("session", "a"))).read()
        other = await (await town.members["c"].attach("c", of("session", "c"))).read()
        await reader.send("DOC_PATCH", 1, entity=doc, body=b"[]")
        await reader.read()
        town.between("a", "c")[0].cut()
        await asyncio.sleep(0)
        await edit(other, 1, doc, x=1)
        await asyncio.sleep(1)
        town.link(town.members["a"], town.members["c"])
        await asyncio.sleep(3)
        await reader.read()
        assert replayed(reader, doc) == {"x": 1}
        for each in (reader, other):
            await each.leave()
        await town.close()

    run(main())


def test_without_a_shared_store_a_document_moves_and_its_replicas_bring_it() -> None:
    """A front that joins gets its share of documents; clients that have them are asked for them."""

    async def main() -> None:
        town = Town()
        stores = {name: Disk(durable=False) for name in NAMES}
        town.join(*(Villager(n, stores[n], shared=False, sync_policy=QUICK) for n in ("a", "b")))
        await town.start()
        doc = next(
            f"d{n}" for n in range(3000)
            if rendezvous(f"t/doc/d{n}", ("a", "b")) == "a" and rendezvous(f"t/doc/d{n}", NAMES) == "c"
        )  # fmt: skip
        stays = of("session", "b")
        editor = await Editor(await (await town.members["b"].attach("b", stays)).read(), doc).join()
        editor.replica.patch([{"op": "add", "path": "/x", "value": 1}])
        await editor.sync()
        assert homes_of(town, doc) == ["a"]
        town.join(Villager("c", stores["c"], shared=False, sync_policy=QUICK))
        await town.start()
        await asyncio.sleep(2)
        await editor.sync()
        assert homes_of(town, doc) == ["c"]
        room = town.members["c"].documents.own._rooms["t", doc]
        async with room.turn:
            assert (await room.content()).document.json() == {"x": 1}
        await editor.reader.leave()
        await town.close()

    run(main())


def test_other_questions_are_refused() -> None:
    """By name."""

    async def main() -> None:
        town = await a_town()
        with pytest.raises(PeerProtocolError):
            await town.members["a"].questions.ask(town.between("a", "b")[0], "documents", "nonsense", 1, 1.0)
        await town.close()

    run(main())
