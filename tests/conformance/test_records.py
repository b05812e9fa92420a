"""One suite over everything a ledger keeps its records in: the stores themselves, and a front's store from a host."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import pytest

from laneway.actors.hosts.questions import Questions
from laneway.actors.hosts.remote_records import RECORDS, RecordService, RemoteRecords
from laneway.actors.hosts.switchboard import Switchboard
from laneway.actors.ports import Store
from laneway.actors.tools.ledger import Records
from laneway.routing.errors import StoreError
from tests.actors.pairs import connect
from tests.conformance.test_store import IN_FILES, Medium, opened, redis_medium
from tests.redis_server import DURABLE, RedisServer, redis_server


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis"), *DURABLE) as server:
        yield server


@pytest.fixture(params=[*IN_FILES, "redis"])
def medium(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Medium]:
    if request.param in IN_FILES:
        yield IN_FILES[request.param](tmp_path / str(number) for number in itertools.count())
        return
    server: RedisServer = request.getfixturevalue("running")
    yield redis_medium(server)
    server.command("CONFIG", "SET", "maxmemory", 0)


def from_a_host(store: Store) -> Records:
    """The same records, asked for over a connection."""
    mine, theirs = Questions(), Questions()
    theirs.serve(RECORDS, RecordService(store))
    left, right = Switchboard(), Switchboard()
    left.add(mine)
    right.add(theirs)
    connect(left, right, "pool-host", "front")
    return RemoteRecords(mine, left.peers, lambda: "front")


def check(medium: Medium, place: str, body: Callable[[Records, Store], Coroutine[None, None, None]]) -> None:
    async def main() -> None:
        async with opened(medium) as store:
            await body(from_a_host(store) if place == "remote" else store, store)

    asyncio.run(main())


both = pytest.mark.parametrize("place", ["here", "remote"])


@both
def test_records_compare_and_set(medium: Medium, place: str) -> None:
    """A write with a version passes only if it is current; 0 means absent; without one it always does."""

    async def body(records: Records, store: Store) -> None:
        assert await records.get("tool/v") == (0, b"")
        first = await records.put("tool/v", b"1", version=0)
        assert first > 0
        assert await records.put("tool/v", b"x", version=0) == 0
        assert await records.get("tool/v") == (first, b"1")
        second = await records.put("tool/v", b"2", version=first)
        assert second > first
        assert await records.put("tool/v", b"x", version=first) == 0
        third = await records.put("tool/v", b"3")
        assert await records.get("tool/v") == (third, b"3")
        await store.delete("tool/v")
        assert await records.get("tool/v") == (0, b"")

    check(medium, place, body)


@both
def test_only_one_of_many_wins(medium: Medium, place: str) -> None:
    """Fifty at once with one version: one is written."""

    async def body(records: Records, store: Store) -> None:
        version = await records.put("tool/v", b"start")
        results = await asyncio.gather(*(records.put("tool/v", b"%d" % n, version=version) for n in range(50)))
        assert sum(result > 0 for result in results) == 1
        assert (await records.get("tool/v")).version == max(results)

    check(medium, place, body)


@both
def test_records_end_with_their_ttl(medium: Medium, place: str) -> None:
    """And then count as absent."""

    async def body(records: Records, store: Store) -> None:
        await records.put("tool/stays", b"1")
        await records.put("tool/short", b"1", ttl_s=1_000)
        await medium.elapse(900)
        assert (await records.get("tool/short")).version > 0
        await medium.elapse(101)
        assert await records.get("tool/short") == (0, b"")
        assert await records.put("tool/short", b"2", version=0) > 0
        assert (await records.get("tool/stays")).value == b"1"

    check(medium, place, body)


@both
def test_a_failing_medium_is_a_store_error_and_heals(medium: Medium, place: str) -> None:
    """Nothing of what failed is there."""

    async def body(records: Records, store: Store) -> None:
        await medium.fill(store)
        with pytest.raises(StoreError):
            await records.put("tool/v", b"x" * 2_000)
        await medium.mend(store)
        assert (await records.get("tool/v")).version == 0
        assert await records.put("tool/v", b"1", version=0) > 0

    check(medium, place, body)
