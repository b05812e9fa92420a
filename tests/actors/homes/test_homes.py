"""Which front a session is at home with."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from laneway.actors.homes.deeds import Deed, Deeds, Life
from laneway.actors.homes.homes import is_elsewhere
from laneway.actors.ports import Claim, Entry, Record
from laneway.engine.stores.memory import MemoryStore
from laneway.routing.errors import Draining, Fenced, RuntimeUnavailable, StoreError
from laneway.routing.placement import rendezvous
from tests.actors.fronts.towns import Town, Villager
from tests.simulation.loop import run

NAMES = ("a", "b", "c")


class _Counted(MemoryStore):
    """The shared store; counts what is read and written of records, and can be away for them."""

    def __init__(self) -> None:
        super().__init__(epoch="e1")
        self.gets = self.puts = 0
        self.down = False

    async def get(self, key: str) -> Record:
        self.gets += 1
        if self.down:
            raise StoreError("away")
        return await super().get(key)

    async def put(self, key: str, value: bytes, *, version: int | None = None, ttl_s: float | None = None) -> int:
        self.puts += 1
        if self.down:
            raise StoreError("away")
        return await super().put(key, value, version=version, ttl_s=ttl_s)


def _key_of(name: str, names: tuple[str, ...] = NAMES, skip: int = 0) -> str:
    """A session that rendezvous gives to this front."""
    found = [key for n in range(2000) if rendezvous(key := f"t/session/s{n}", names) == name]
    return found[skip]


async def _three(store: MemoryStore, *, shared: bool = True) -> tuple[Town, Villager, Villager, Villager]:
    town = Town()
    a, b, c = (Villager(name, store, shared=shared) for name in NAMES)
    town.join(a, b, c)
    return town, a, b, c


async def _refused(villager: Villager, key: str) -> Fenced:
    with pytest.raises(Fenced) as caught:
        await villager.homes.claim(key)
    return caught.value


# -- alone ------------------------------------------------------------------------------------


def test_a_front_that_is_alone_keeps_no_records() -> None:
    """Looking and claiming cost the claim and nothing else."""

    async def main() -> None:
        store, town = _Counted(), Town()
        a = Villager("a", store)
        town.join(a)
        for n in range(50):
            assert await a.homes.place(f"t/session/s{n}") == "a"
            assert (await a.homes.claim(f"t/session/s{n}")).generation == 1
            await a.homes.release(f"t/session/s{n}")
        assert (store.gets, store.puts) == (0, 0)
        await town.close()

    run(main())


def test_what_was_claimed_alone_stays_when_others_join() -> None:
    """It is put on record at once; who joins finds it there, also if it asks before that is done."""

    async def main() -> None:
        store, town = _Counted(), Town()
        a, b = Villager("a", store), Villager("b", store)
        town.join(a)
        keys = [_key_of("b", ("a", "b"), skip) for skip in range(40)]
        for key in keys:
            await a.homes.claim(key)
        town.join(b, tell=False)
        b.homes.saw(town.view())  # b knows of a; a has not heard of b yet
        assert not a.homes.company.others
        assert await b.homes.place(keys[0]) == "a"
        for key in keys:
            assert await b.homes.place(key) == "a"
            assert is_elsewhere(await _refused(b, key))
        assert not a.homes.company.alone
        await town.close()

    run(main())


def test_records_are_written_as_soon_as_another_front_shows_up() -> None:
    """Nobody has to ask: a front that dies a moment later has left them."""

    async def main() -> None:
        store, town = _Counted(), Town()
        a, b = Villager("a", store), Villager("b", store)
        town.join(a)
        await a.homes.claim("t/session/s")
        town.join(b)
        await asyncio.sleep(0.01)
        assert (await Deeds(store).read("t/session/s"))[1] == Deed(Life("a", "1"), 1, 2)
        await town.close()

    run(main())


def test_a_store_that_is_away_when_others_join_is_tried_again() -> None:
    """With the next view, or when asked; meanwhile nobody takes the home for free."""

    async def main() -> None:
        store, town = _Counted(), Town()
        a, b = Villager("a", store), Villager("b", store)
        town.join(a)
        key = _key_of("b", ("a", "b"))
        await a.homes.claim(key)
        store.down = True
        town.join(b)
        with pytest.raises(StoreError):
            await b.homes.place(key)
        await asyncio.sleep(1)
        store.down = False
        assert await b.homes.place(key) == "a"
        await town.close()

    run(main())


def test_a_record_of_the_dead_does_not_hide_who_is_alone() -> None:
    """A front that is alone leaves old records as they are; who joins asks it before believing them."""

    async def main() -> None:
        store, town = _Counted(), Town()
        dead, a = Villager("dead", store), Villager("a", store)
        town.join(dead, a)
        key = _key_of("dead", ("a", "dead"))
        await dead.homes.claim(key)
        town.lose("dead", tell=False)
        a.homes.saw(town.view())
        assert a.homes.company.alone
        await a.homes.claim(key)
        assert (await Deeds(store).read(key))[1].life == dead.homes.life
        b = Villager("b", store)
        town.join(b, tell=False)
        b.homes.saw(town.view())
        assert await b.homes.place(key) == "a"
        await town.close(dead)

    run(main())


def test_a_home_that_was_claimed_by_another_meanwhile_is_told() -> None:
    """A front that was alone puts its homes on record and finds a newer claim: an idle one would never learn it."""

    async def main() -> None:
        store, town = _Counted(), Town()
        a, b = Villager("a", store), Villager("b", store)
        town.join(a)
        reader = await (await a.attach("c", "s")).read()
        claim = await store.claim("t/session/s")
        await Deeds(store).write("t/session/s", Deed(b.homes.life, claim.generation, 2), 0)
        town.join(b)
        await reader.read()
        assert is_elsewhere(reader.error)
        assert a.directory.homes() == []
        assert not a.homes.holds("t/session/s")
        await reader.leave()
        await town.close()

    run(main())


# -- with others --------------------------------------------------------------------------------


def test_without_a_record_rendezvous_decides() -> None:
    """All fronts agree, and only the one that is meant may claim; then its record leads there."""

    async def main() -> None:
        store = _Counted()
        town, *fronts = await _three(store)
        for owner in fronts:
            key = _key_of(owner.name)
            assert {await front.homes.place(key) for front in fronts} == {owner.name}
            for front in fronts:
                if front is not owner:
                    error = await _refused(front, key)
                    assert is_elsewhere(error)
                    assert owner.name in error.message
            assert (await owner.homes.claim(key)).generation == 1
            assert (await Deeds(store).read(key))[1] == Deed(owner.homes.life, 1, 3)
        await town.close()

    run(main())


def test_looking_here_reads_nothing() -> None:
    """Once it is at home, the store is not asked again."""

    async def main() -> None:
        store = _Counted()
        town, a, *_ = await _three(store)
        await a.homes.claim(_key_of("a"))
        gets = store.gets
        for _ in range(10):
            assert await a.homes.place(_key_of("a")) == "a"
        assert store.gets == gets
        await town.close()

    run(main())


def test_a_home_stays_while_its_front_lives() -> None:
    """Also where rendezvous would not put it any more, because somebody joined."""

    async def main() -> None:
        store, town = _Counted(), Town()
        a, b, c = (Villager(name, store) for name in NAMES)
        town.join(a, b)
        key = next(key for n in range(2000) if _first_then(key := f"t/session/s{n}", "a", "c"))
        await a.homes.claim(key)
        town.join(c)
        assert [await front.homes.place(key) for front in (a, b, c)] == ["a", "a", "a"]
        await a.homes.release(key)
        assert [await front.homes.place(key) for front in (a, b, c)] == ["c", "c", "c"]
        await town.close()

    run(main())


def _first_then(key: str, first: str, then: str) -> bool:
    return rendezvous(key, ("a", "b")) == first and rendezvous(key, NAMES) == then


def test_the_home_of_a_lost_front_is_taken_over() -> None:
    """By rendezvous over those that are left; the claim is of a higher generation, and the record is theirs."""

    async def main() -> None:
        store = _Counted()
        town, a, b, c = await _three(store)
        key = _key_of("a")
        old = await a.homes.claim(key)
        town.lose("a", tell=False)
        for front in (b, c):
            front.homes.saw(town.view())
        heir = {"b": b, "c": c}[rendezvous(key, ("b", "c"))]
        other = c if heir is b else b
        assert await other.homes.place(key) == heir.name
        assert await heir.homes.orphan(key, [Life("a", "1")])
        assert not await other.homes.orphan(key, [Life("a", "1")])
        assert not await heir.homes.orphan(key, [Life("a", "2")])
        claim = await heir.homes.claim(key)
        assert claim.generation == old.generation + 1
        assert (await Deeds(store).read(key))[1] == Deed(heir.homes.life, 2, town.number)
        with pytest.raises(Fenced):
            await store.append(old, [Entry(0, 1, 1, b"x")])
        await town.close()

    run(main())


def test_a_restarted_front_is_another_life() -> None:
    """Its former homes are nobody's; it does not wait to learn that."""

    async def main() -> None:
        store = _Counted()
        town, a, b, c = await _three(store)
        key = _key_of("a")
        await a.homes.claim(key)
        town.lose("a", tell=False)
        again = Villager("a", store, incarnation="2")
        town.join(again)
        assert [await front.homes.place(key) for front in (again, b, c)] == ["a", "a", "a"]
        assert (await again.homes.claim(key)).generation == 2
        await town.close()

    run(main())


def test_who_joined_after_our_view_was_made_is_waited_for() -> None:
    """A record of an unknown life with a newer view is no record of a dead one."""

    async def main() -> None:
        store, town = _Counted(), Town()
        a, b, c = (Villager(name, store) for name in NAMES)
        town.join(a, b)
        town.join(c, tell=False)
        c.homes.saw(town.view())
        key = _key_of("c")
        await c.homes.claim(key)
        looking = asyncio.create_task(a.homes.place(key))
        await asyncio.sleep(1)
        assert not looking.done()
        town.tell()
        assert await looking == "c"
        await town.close()

    run(main())


def test_nobody_is_dead_while_the_view_is_not_settled() -> None:
    """A fresh registry has not heard everybody yet: a missing front keeps its homes until it is known."""

    async def main() -> None:
        store = _Counted()
        town, a, b, c = await _three(store)
        key = _key_of("b")
        await b.homes.claim(key)
        town.lose("b", tell=False)
        fresh = Villager("a", store, incarnation="2")  # that has never heard of b
        town.link(fresh, c)
        for front in (a, fresh):
            front.homes.saw(town.view(settled=False))
        assert await a.homes.place(key) == "b"
        looking = asyncio.create_task(fresh.homes.place(key))
        await asyncio.sleep(1)
        assert not looking.done()
        town.number += 1
        fresh.homes.saw(town.view())
        a.homes.saw(town.view())
        assert await looking == rendezvous(key, ("a", "c"))
        assert not a.homes.company.lives(Life("b", "1"))
        with pytest.raises(RuntimeUnavailable):
            await Villager("d", store).homes.place(key)  # that never hears of a membership
        await town.close()

    run(main())


def test_older_views_change_nothing() -> None:
    """An answer that was overtaken is not taken for news."""

    async def main() -> None:
        town, a, *_ = await _three(_Counted())
        old = town.view()
        town.lose("b")
        a.homes.saw(old)
        assert [life.name for life in a.homes.company.others] == ["c"]
        await town.close()

    run(main())


# -- races ----------------------------------------------------------------------------------------


class _Gate:
    """A way to a store that holds claims until it is let go."""

    def __init__(self, store: MemoryStore) -> None:
        self.open = asyncio.Event()
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def claim(self, key: str) -> Claim:
        claim = await self._store.claim(key)
        await self.open.wait()
        return claim


def _heirs(key: str) -> tuple[str, str]:
    return rendezvous(key, ("a", "c")), rendezvous(key, ("b", "c"))


def test_of_two_who_claim_at_once_the_later_claim_wins() -> None:
    """Both looked when nothing was on record: the record ends with the higher generation, the other is told where."""

    async def main() -> None:
        store, town = _Counted(), Town()
        gate = _Gate(store)
        a, b, c = Villager("a", gate), Villager("b", store), Villager("c", store)
        town.join(a, b, c)
        key = next(key for n in range(2000) if _heirs(key := f"t/session/s{n}") == ("a", "b"))
        a.homes.company._fronts.pop("b")  # a does not know b, nor b a: each believes that it is the one
        first = asyncio.create_task(a.homes.claim(key))  # generation 1, and not on record yet
        await asyncio.sleep(0.1)
        b.homes.company._fronts.pop("a")
        second = await b.homes.claim(key)
        gate.open.set()
        with pytest.raises(Fenced) as caught:
            await first
        assert is_elsewhere(caught.value)
        assert second.generation == 2
        assert (await Deeds(store).read(key))[1] == Deed(b.homes.life, 2, town.number)
        town.tell()
        assert [await front.homes.place(key) for front in (a, b, c)] == ["b", "b", "b"]
        await town.close()

    run(main())


def test_a_claim_whose_record_fails_is_no_home() -> None:
    """The error is the store's, and the next attempt claims again."""

    async def main() -> None:
        store = _Counted()
        town, a, *_ = await _three(store)
        key = _key_of("a")
        assert await a.homes.place(key) == "a"
        store.down = True
        with pytest.raises(StoreError):
            await a.homes.claim(key)
        store.down = False
        assert (await a.homes.claim(key)).generation >= 1
        assert await a.homes.place(key) == "a"
        await town.close()

    run(main())


def test_a_release_of_what_another_has_changes_nothing() -> None:
    """The record that somebody else wrote since stays; a store that is away is only logged."""

    async def main() -> None:
        store = _Counted()
        town, a, b, _ = await _three(store)
        key, other = _key_of("a"), _key_of("a", skip=1)
        await a.homes.claim(key)
        await a.homes.claim(other)
        version, _ = await Deeds(store).read(key)
        theirs = Deed(b.homes.life, 2, town.number)
        await Deeds(store).write(key, theirs, version)
        await a.homes.release(key)
        assert (await Deeds(store).read(key))[1] == theirs
        store.down = True
        await a.homes.release(other)
        await a.homes.release("t/session/never-held")
        await town.close()

    run(main())


# -- ends -----------------------------------------------------------------------------------------


def test_a_front_that_shuts_down_gets_nothing_new() -> None:
    """By its own word and by theirs who were refused; if all do, looking is refused DRAINING."""

    async def main() -> None:
        store = _Counted()
        town, a, b, c = await _three(store)
        key = _key_of("a")
        a.homes.draining = True
        assert await a.homes.place(key) in ("b", "c")
        assert await b.homes.place(key) == await a.homes.place(key)  # it said so when it was asked
        b.homes.full("c")
        assert await b.homes.place(_key_of("c")) == "b"
        b.homes.full("nobody")
        b.homes.draining = c.homes.draining = True
        with pytest.raises(Draining):
            await b.homes.place(_key_of("c"))
        await town.close()

    run(main())


def test_a_life_that_was_declared_over_claims_nothing() -> None:
    """Neither what it held nor anything else, also if it was in the middle of it; a new life may."""

    async def main() -> None:
        store, town = _Counted(), Town()
        gate = _Gate(store)
        a, b = Villager("a", gate), Villager("b", gate)
        town.join(a, b)
        key = _key_of("a", ("a", "b"))
        claiming = asyncio.create_task(a.homes.claim(key))
        await asyncio.sleep(0.1)
        a.homes.drop()
        assert a.homes.over
        gate.open.set()
        with pytest.raises(Fenced) as caught:
            await claiming
        assert not is_elsewhere(caught.value)
        for asked in (a.homes.place(key), a.homes.claim(key)):
            with pytest.raises(Fenced):
                await asked
        await a.homes.release(key)
        assert (await Deeds(store).read(key))[1] is None
        a.incarnation = "2"
        a.neighbours.begin("2")
        town.link(a, b)
        town.number += 1
        town.tell()
        assert (await a.homes.claim(key)).generation == 2
        await town.close()

    run(main())


# -- volatile -------------------------------------------------------------------------------------


def test_without_a_shared_store_rendezvous_alone_decides() -> None:
    """Nothing is recorded; what belongs elsewhere after a change is told as astray, but for a front that leaves."""

    async def main() -> None:
        town = Town()
        stores = [_Counted() for _ in NAMES]
        a, b, c = (Villager(name, store, shared=False) for name, store in zip(NAMES, stores, strict=True))
        town.join(a, b)
        key = next(key for n in range(2000) if _first_then(key := f"t/session/s{n}", "a", "c"))
        await a.homes.claim(key)
        assert is_elsewhere(await _refused(b, key))
        assert a.homes.astray() == []
        town.join(c)
        assert a.homes.astray() == [key]
        a.homes.draining = True  # it ends here, whoever may come
        assert a.homes.astray() == []
        a.homes.draining = False
        await a.homes.release(key)
        assert [await front.homes.place(key) for front in (a, b, c)] == ["c", "c", "c"]
        assert sum(store.gets + store.puts for store in stores) == 0
        await town.close()

    run(main())
