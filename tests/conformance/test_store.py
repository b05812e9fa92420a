"""One suite over every Store: what the port promises, and what happens when the medium does not."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from laneway.actors.ports import Claim, DeadLetter, Entry, Store
from laneway.engine.stores.memory import MemoryStore
from laneway.engine.stores.redis import RedisStore
from laneway.engine.stores.sqlite import SqliteStore
from laneway.routing.errors import Fenced, LocalProtocolError, StoreError
from tests.redis_server import RedisServer, redis_server


@dataclass(slots=True)
class Clock:
    """The time that ttls are measured in."""

    at: float = 1_000.0

    def now(self) -> float:
        return self.at

    async def elapse(self, seconds: float) -> None:
        self.at += seconds


@dataclass(slots=True)
class Medium:
    """Where a store keeps its data, and how to make it fail.

    `make` gives a store; `fill` makes the next appends fail and `mend` lets them pass again; `elapse` lets
    seconds pass for ttls; `another` gives an empty medium of the same kind.
    """

    make: Callable[[], Store]
    fill: Callable[[Store], Awaitable[None]]
    mend: Callable[[Store], Awaitable[None]]
    elapse: Callable[[float], Awaitable[None]]
    another: Callable[[], Medium]
    survives: bool


class FaultyConnection(sqlite3.Connection):
    """A connection whose COMMIT fails while the class says so: a failing fsync."""

    failing = False
    fired = 0

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:  # type: ignore[override]
        if sql == "COMMIT" and type(self).failing:
            type(self).fired += 1
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(sql, *parameters)


def memory_medium(paths: Iterator[Path]) -> Medium:
    clock = Clock()
    stores: list[MemoryStore] = []

    def make() -> Store:
        stores.append(MemoryStore(1_000_000, max_dead=5, max_dead_bytes=1_000, now=clock.now))
        return stores[-1]

    async def fill(store: Store) -> None:
        await store.put("ballast", b"x" * (999_600 - stores[-1].used_bytes))

    async def mend(store: Store) -> None:
        await store.delete("ballast")

    return Medium(make, fill, mend, clock.elapse, lambda: memory_medium(paths), survives=False)


def sqlite_medium(paths: Iterator[Path]) -> Medium:
    clock = Clock()
    path = next(paths)
    faulty = type("Faulty", (FaultyConnection,), {})

    def make() -> Store:
        return SqliteStore(
            path / "sub" / "store.db", max_dead=5, max_dead_bytes=1_000, unix=clock.now, factory=faulty, busy_s=0.2
        )

    async def fill(store: Store) -> None:
        faulty.failing = True  # type: ignore[attr-defined]

    async def mend(store: Store) -> None:
        assert faulty.fired > 0, "the fault was meant to fire"  # type: ignore[attr-defined]
        faulty.failing = False  # type: ignore[attr-defined]

    return Medium(make, fill, mend, clock.elapse, lambda: sqlite_medium(paths), survives=True)


def redis_medium(server: RedisServer) -> Medium:
    prefix = secrets.token_hex(4)

    def make() -> Store:
        return RedisStore(server.url, prefix=prefix, max_dead=5, max_dead_bytes=1_000)

    async def fill(store: Store) -> None:
        server.command("CONFIG", "SET", "maxmemory", 1)

    async def mend(store: Store) -> None:
        server.command("CONFIG", "SET", "maxmemory", 0)

    async def elapse(seconds: float) -> None:
        """Bring the end of every value nearer: the ttl is the server's to measure."""
        pull = """for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':value:*')) do
            local left = redis.call('PTTL', key)
            if left >= 0 then redis.call('PEXPIRE', key, left - ARGV[2]) end end"""
        server.command("EVAL", pull, 0, prefix, round(seconds * 1000))

    return Medium(make, fill, mend, elapse, lambda: redis_medium(server), survives=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


IN_FILES = {"memory": memory_medium, "sqlite": sqlite_medium}


@pytest.fixture(params=[*IN_FILES, "redis"])
def medium(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Medium]:
    if request.param in IN_FILES:
        yield IN_FILES[request.param](tmp_path / str(number) for number in itertools.count())
        return
    server: RedisServer = request.getfixturevalue("server")
    yield redis_medium(server)
    server.command("CONFIG", "SET", "maxmemory", 0)


@asynccontextmanager
async def opened(medium: Medium) -> AsyncIterator[Store]:
    store = medium.make()
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def check(medium: Medium, body: Callable[[Store], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with opened(medium) as store:
            await body(store)

    asyncio.run(main())


def entries(stream: int, first: int, last: int, size_bytes: int = 10) -> list[Entry]:
    return [Entry(stream, seq, seq * 26, b"%d:" % seq + b"x" * size_bytes) for seq in range(first, last + 1)]


def letter(number: int, tenant: str = "t", size_bytes: int = 10) -> DeadLetter:
    return DeadLetter(0, tenant, "s", "HANDLER_FAILED", f"letter {number}", 3, b"p" * size_bytes, 1_700_000_000.5)


def test_append_and_read_back(medium: Medium) -> None:
    """What was appended is read in order, per stream, from any seq."""

    async def body(store: Store) -> None:
        claim = await store.claim("t/session/s")
        assert (claim.heads, claim.floors, claim.generation) == ({}, {}, 1)
        await store.append(claim, entries(0, 1, 3) + entries(1, 1, 2))
        await store.append(claim, entries(1, 3, 5))
        assert await store.read("t/session/s", 1, 1) == entries(1, 1, 5)
        assert await store.read("t/session/s", 0, 2) == entries(0, 2, 3)
        assert await store.read("t/session/s", 0, 4) == []
        assert await store.read("t/session/s", 7, 1) == []
        assert await store.read("t/session/none", 0, 1) == []
        assert await store.read("t/session/s", 1, -5) == entries(1, 1, 5)

    check(medium, body)


def test_an_empty_append_is_fenced_too(medium: Medium) -> None:
    """Appending nothing writes nothing, and still tells an outdated home that it is one."""

    async def body(store: Store) -> None:
        old = await store.claim("k")
        await store.append(old, [])
        await store.claim("k")
        with pytest.raises(Fenced):
            await store.append(old, [])

    check(medium, body)


def test_reads_are_paged_by_bytes(medium: Medium) -> None:
    """A page holds about max_bytes and at least one entry; pages join up to the whole."""

    async def body(store: Store) -> None:
        claim = await store.claim("k")
        await store.append(claim, entries(1, 1, 50, size_bytes=100))
        assert len(await store.read("k", 1, 1, max_bytes=1)) == 1
        pages: list[Entry] = []
        while page := await store.read("k", 1, len(pages) + 1, max_bytes=1_000):
            assert sum(len(entry.blob) for entry in page) <= 1_000
            pages += page
        assert pages == entries(1, 1, 50, size_bytes=100)

    check(medium, body)


@pytest.mark.parametrize(
    "bad",
    [
        entries(1, 5, 5),  # a hole
        entries(1, 3, 3),  # a repeat
        entries(1, 4, 4) + entries(1, 6, 6),  # a hole inside
        entries(1, 4, 4) + entries(1, 4, 4),  # a repeat inside
        entries(2, 2, 2),  # a new stream that does not start at 1
        [Entry(1, 4, 3 * 26 - 1, b"")],  # a position behind the head's
        [Entry(-1, 1, 1, b"")],
    ],
)
def test_a_hole_or_repeat_is_refused_whole(medium: Medium, bad: list[Entry]) -> None:
    """A broken numbering writes nothing at all, and the log goes on from its head."""

    async def body(store: Store) -> None:
        claim = await store.claim("k")
        await store.append(claim, entries(1, 1, 3))
        with pytest.raises(LocalProtocolError, match="log k"):
            await store.append(claim, entries(0, 1, 2) + bad)
        assert await store.read("k", 0, 1) == []
        await store.append(claim, entries(1, 4, 4))
        assert (await store.claim("k")).heads == {1: (4, 104)}

    check(medium, body)


def test_a_newer_claim_fences_the_older(medium: Medium) -> None:
    """After a second claim the first can neither append nor trim, and the second has its heads."""

    async def body(store: Store) -> None:
        old = await store.claim("k")
        other = await store.claim("other")
        await store.append(old, entries(1, 1, 3))
        new = await store.claim("k")
        assert new.generation == old.generation + 1
        assert new.epoch == old.epoch
        assert new.heads == {1: (3, 78)}
        for call in (store.append(old, entries(1, 4, 4)), store.trim(old, 1, 2)):
            with pytest.raises(Fenced, match="another home"):
                await call
        await store.append(new, entries(1, 4, 4))
        await store.append(other, entries(1, 1, 1))
        assert await store.read("k", 1, 1) == entries(1, 1, 4)

    check(medium, body)


def test_a_claim_of_another_store_is_fenced(medium: Medium) -> None:
    """A claim that this store never gave does not write."""

    async def body(store: Store) -> None:
        await store.claim("k")
        for claim in (Claim("nowhere", 1, "e", {}, {}), Claim("k", 1, "another epoch", {}, {})):
            with pytest.raises(Fenced):
                await store.append(claim, entries(1, 1, 1))

    check(medium, body)


def test_concurrent_appends_of_many_logs(medium: Medium) -> None:
    """A hundred logs appending at once each come out whole; a fenced one harms no neighbour."""

    async def body(store: Store) -> None:
        stale = await store.claim("log.7")
        claims = [await store.claim(f"log.{number}") for number in range(100)]

        async def fill(claim: Claim) -> None:
            for first in range(1, 40, 4):
                await store.append(claim, entries(1, first, first + 3))

        with pytest.raises(Fenced):
            await asyncio.gather(*map(fill, claims), store.append(stale, entries(1, 1, 1)))
        await asyncio.gather(*(store.read(claim.key, 1, 1) for claim in claims))
        for number in range(100):
            head = (await store.claim(f"log.{number}")).heads[1][0]
            assert await store.read(f"log.{number}", 1, 1) == entries(1, 1, head)

    check(medium, body)


def test_trim(medium: Medium) -> None:
    """Trimmed entries are gone, the floor tells it, the head stays even when nothing is left."""

    async def body(store: Store) -> None:
        claim = await store.claim("k")
        await store.append(claim, entries(1, 1, 10))
        await store.trim(claim, 1, 4)
        await store.trim(claim, 1, 2)
        await store.trim(claim, 9, 4)
        assert await store.read("k", 1, 1) == entries(1, 4, 10)
        claim = await store.claim("k")
        assert (claim.heads[1], claim.floors[1]) == ((10, 260), 4)
        await store.trim(claim, 1, 10_000)
        assert await store.read("k", 1, 1) == []
        claim = await store.claim("k")
        assert (claim.heads[1], claim.floors[1]) == ((10, 260), 11)
        await store.append(claim, entries(1, 11, 12))
        assert await store.read("k", 1, 1) == entries(1, 11, 12)

    check(medium, body)


def test_keys_by_prefix(medium: Medium) -> None:
    """Keys come sorted; wildcard characters are nothing special; values are not logs."""

    async def body(store: Store) -> None:
        for key in ("t/session/b", "t/session/a", "t_/session/a", "t%/x", "u/session/a"):
            await store.claim(key)
        await store.put("t/session/value", b"1")
        assert await store.keys("t/session/") == ["t/session/a", "t/session/b"]
        assert await store.keys("t_") == ["t_/session/a"]
        assert await store.keys("t%") == ["t%/x"]
        assert len(await store.keys("")) == 5
        assert await store.keys("z") == []

    check(medium, body)


def test_values_compare_and_set(medium: Medium) -> None:
    """A put with a version succeeds only while it is current; 0 stands for absent."""

    async def body(store: Store) -> None:
        assert await store.get("v") == (0, b"")
        first = await store.put("v", b"1", version=0)
        assert first > 0
        assert await store.put("v", b"x", version=0) == 0
        assert await store.get("v") == (first, b"1")
        second = await store.put("v", b"2", version=first)
        assert second > first
        assert await store.put("v", b"x", version=first) == 0
        third = await store.put("v", b"3")
        assert await store.get("v") == (third, b"3")
        await store.delete("v")
        await store.delete("v")
        assert await store.get("v") == (0, b"")
        fourth = await store.put("v", b"4", version=0)
        assert fourth > third, "a rewritten value must not pass for the deleted one"

    check(medium, body)


def test_only_one_of_many_wins_a_compare_and_set(medium: Medium) -> None:
    """Fifty writers with the same expected version: exactly one succeeds."""

    async def body(store: Store) -> None:
        version = await store.put("v", b"start")
        results = await asyncio.gather(*(store.put("v", b"%d" % n, version=version) for n in range(50)))
        assert sorted(results)[:-1] == [0] * 49
        assert (await store.get("v")).version == max(results)

    check(medium, body)


def test_values_end_with_their_ttl(medium: Medium) -> None:
    """At its ttl a value is absent for get and for compare-and-set; without one it stays."""

    async def body(store: Store) -> None:
        await store.put("stays", b"1")
        for number in range(40):
            await store.put(f"short.{number}", b"1", ttl_s=1_000)
        await store.put("renewed", b"1", ttl_s=1_000)
        await store.put("renewed", b"2")
        await medium.elapse(900)
        assert (await store.get("short.0")).version > 0
        await medium.elapse(100)
        assert (await store.get("short.0")) == (0, b"")
        assert await store.put("short.1", b"2", version=0) > 0
        for number in range(20):
            await store.put(f"other.{number}", b"1")
        assert (await store.get("stays")).value == b"1"
        assert (await store.get("renewed")).value == b"2"
        assert (await store.get("short.39")) == (0, b"")

    check(medium, body)


def test_dead_letters(medium: Medium) -> None:
    """Letters come newest first, by tenant, and leave by exhume."""

    async def body(store: Store) -> None:
        ids = [await store.bury(letter(n, tenant="ab"[n % 2])) for n in range(4)]
        assert ids == sorted(set(ids))
        assert [found.message for found in await store.dead()] == ["letter 3", "letter 2", "letter 1", "letter 0"]
        assert [found.message for found in await store.dead("a")] == ["letter 2", "letter 0"]
        assert [found.id for found in await store.dead(limit=1)] == ids[-1:]
        assert await store.dead("nobody") == []
        assert await store.exhume([ids[2], 999, ids[0]]) == [
            letter(2, "a")._replace(id=ids[2]),
            letter(0, "a")._replace(id=ids[0]),
        ]
        assert await store.exhume([ids[0]]) == []
        assert [found.id for found in await store.dead()] == [ids[3], ids[1]]

    check(medium, body)


def test_dead_letters_are_bounded(medium: Medium) -> None:
    """Beyond 5 letters, or 1,000 bytes, the oldest go first; one that is too large alone is kept."""

    async def body(store: Store) -> None:
        for number in range(9):
            await store.bury(letter(number))
        assert [found.message for found in await store.dead()] == [f"letter {n}" for n in (8, 7, 6, 5, 4)]
        await store.bury(letter(9, size_bytes=970))
        assert [found.message for found in await store.dead()] == ["letter 9", "letter 8", "letter 7", "letter 6"]
        await store.bury(letter(10, size_bytes=2_000))
        assert [found.message for found in await store.dead()] == ["letter 10"]

    check(medium, body)


def test_a_failing_medium_is_a_store_error_and_heals(medium: Medium) -> None:
    """While commits fail appends raise StoreError and leave nothing; afterwards the log goes on."""

    async def body(store: Store) -> None:
        claim = await store.claim("k")
        await store.append(claim, entries(1, 1, 3))
        await medium.fill(store)
        for _ in range(2):
            with pytest.raises(StoreError):
                await store.append(claim, entries(1, 4, 9, size_bytes=100))
        with pytest.raises(StoreError):
            await store.put("v", b"x" * 2_000)
        await medium.mend(store)
        claim = await store.claim("k")
        assert claim.heads == {1: (3, 78)}
        await store.append(claim, entries(1, 4, 9))
        assert await store.read("k", 1, 1) == entries(1, 1, 9)
        assert (await store.get("v")).version == 0

    check(medium, body)


def test_calls_after_close_are_store_errors(medium: Medium) -> None:
    """close() is idempotent; every method then refuses."""

    async def main() -> None:
        store = medium.make()
        await store.open()
        claim = await store.claim("k")
        await store.close()
        await store.close()
        calls = [
            store.claim("k"),
            store.append(claim, entries(1, 1, 1)),
            store.read("k", 1, 1),
            store.trim(claim, 1, 1),
            store.keys(""),
            store.get("v"),
            store.put("v", b""),
            store.delete("v"),
            store.bury(letter(1)),
            store.dead(),
            store.exhume([1]),
        ]
        for call in calls:
            with pytest.raises(StoreError):
                await call
        await store.open()
        assert await store.claim("k")
        await store.close()

    asyncio.run(main())


def test_close_flushes(medium: Medium) -> None:
    """Appends under way when close() is called are written or refused, never left hanging."""

    async def main() -> None:
        store = medium.make()
        await store.open()
        claim = await store.claim("k")
        appends = [asyncio.ensure_future(store.append(claim, entries(1, n, n))) for n in range(1, 200)]
        await asyncio.sleep(0)
        await store.close()
        assert await asyncio.gather(*appends) == [None] * 199
        await store.open()
        assert await store.read("k", 1, 1) == entries(1, 1, 199)
        await store.close()

    asyncio.run(main())


def test_epoch_after_a_restart(medium: Medium) -> None:
    """A durable store keeps epoch, heads, values and letters; a volatile one starts a new epoch."""

    async def main() -> None:
        async with opened(medium) as store:
            before = await store.claim("k")
            await store.append(before, entries(1, 1, 5) + entries(0, 1, 2))
            await store.trim(before, 1, 3)
            version = await store.put("v", b"1")
            number = await store.bury(letter(1))
        async with opened(medium) as store:
            after = await store.claim("k")
            assert (after.epoch == before.epoch) is medium.survives is store.durable
            if medium.survives:
                assert (after.generation, after.heads, after.floors) == (2, {0: (2, 52), 1: (5, 130)}, {0: 1, 1: 3})
                assert await store.get("v") == (version, b"1")
                assert [found.id for found in await store.dead()] == [number]
                assert await store.put("w", b"") > version
            else:
                assert (after.generation, after.heads) == (1, {})

    asyncio.run(main())


steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 2), st.integers(1, 5)),
        st.tuples(st.just("trim"), st.integers(0, 2), st.integers(0, 20)),
        st.tuples(st.just("claim"), st.just(0), st.just(0)),
        st.tuples(st.just("restart"), st.just(0), st.just(0)),
    ),
    max_size=30,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps, marks=st.integers(1, 12))
def test_any_history_reads_as_a_list_would(medium: Medium, steps: list[tuple[str, int, int]], marks: int) -> None:
    """Appends, trims, claims and restarts in any order: heads, floors and entries as in a plain list."""
    fresh = medium.another()
    model: dict[int, list[Entry]] = {}
    floors: dict[int, int] = {}

    async def main() -> None:
        store = fresh.make()
        await store.open()
        claim = await store.claim("k")
        for what, stream, number in steps:
            if what == "append":
                head = len(model.get(stream, []))
                await store.append(claim, entries(stream, head + 1, head + number))
                model.setdefault(stream, []).extend(entries(stream, head + 1, head + number))
            elif what == "trim":
                await store.trim(claim, stream, number)
                if stream in model:
                    floors[stream] = max(floors.get(stream, 1), min(number, len(model[stream]) + 1))
            elif what == "claim":
                claim = await store.claim("k")
            elif fresh.survives:
                await store.close()
                await store.open()
        for stream, kept in model.items():
            floor = floors.get(stream, 1)
            assert await store.read("k", stream, 1) == kept[floor - 1 :]
        claim = await store.claim("k")
        assert claim.heads == {stream: (len(kept), len(kept) * 26) for stream, kept in model.items()}
        assert claim.floors == {stream: floors.get(stream, 1) for stream in model}
        await store.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("laneway.engine.stores.database._MARK_ROWS", marks)
        asyncio.run(main())
