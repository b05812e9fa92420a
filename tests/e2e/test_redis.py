"""An engine whose logs are on a Redis server that goes away, comes back, and is used by others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from laneway import Engine
from laneway.engine.app.embedded import EmbeddedSession
from laneway.engine.client_outbox import Receipt
from laneway.engine.models.synthetic import SyntheticModel
from laneway.routing.errors import StoreUnavailable
from tests.redis_server import RedisServer, redis_server

WITHIN_S = 60.0
_AGAIN_S = 0.05


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


async def refused(session: EmbeddedSession) -> list[asyncio.Task[Receipt]]:
    """Send until the engine refuses, and return what it had taken by then: that waits to be written."""
    taken: list[asyncio.Task[Receipt]] = []
    while True:
        task = asyncio.create_task(session.send("while it goes away"))
        await asyncio.wait([task], timeout=_AGAIN_S)
        if task.done() and isinstance(task.exception(), StoreUnavailable):
            return taken
        taken.append(task)


async def answered(session: EmbeddedSession) -> None:
    """Ask until the engine takes it, and read the whole answer."""
    while True:
        try:
            events = [event async for event in session.ask("hello again")]
        except StoreUnavailable:
            await asyncio.sleep(_AGAIN_S)
            continue
        assert events[-1].kind == "RUN_FINISHED"
        return


def test_an_engine_outlives_the_absence_of_its_store(server: RedisServer) -> None:
    """Killed and started again: what it had taken waits, new events are refused, then the same engine goes on."""

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), Engine(store=server.url) as engine:
            engine.nlp.use(SyntheticModel(tokens=(2, 4), tokens_per_s=0))
            assert engine.store.durable
            assert engine.store.shared
            async with engine.session("s1") as session:
                assert (await session.send("hello")).status == "durable"
                await answered(session)
                epoch = (await engine.store.claim("probe")).epoch
                server.kill()
                taken = await refused(session)
                server.start()
                await answered(session)
                assert {receipt.status for receipt in await asyncio.gather(*taken)} <= {"durable"}
                assert (await engine.store.claim("probe")).epoch == epoch

    asyncio.run(main())


def test_another_engine_takes_a_session_over(server: RedisServer) -> None:
    """It has the conversation; the first engine is fenced and says nothing more in it."""

    async def main() -> None:
        async with (
            asyncio.timeout(WITHIN_S),
            Engine(store=server.url) as first,
            Engine(store=server.url) as second,
        ):
            await asyncio.gather(first.recovered(), second.recovered())  # before there is anything to take up
            for engine in (first, second):
                engine.nlp.use(SyntheticModel(tokens=(2, 4), tokens_per_s=0))
            async with first.session("s1") as session:
                await answered(session)
            async with second.session("s1") as session:
                await answered(session)
                messages = second.directory.messages("default", "s1")
            assert [message["role"] for message in messages] == ["user", "assistant"] * 2

    asyncio.run(main())
