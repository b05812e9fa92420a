"""Two fronts of one cluster on a real Ray, with and without a store that both see."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from laneway import Client, Config, Engine
from laneway.routing.errors import ConfigError
from tests.redis_server import DURABLE, RedisServer, redis_server

pytestmark = pytest.mark.usefixtures("ray_address")
WITHIN_S = 200.0
"""Hosts come up slowly on a busy machine; nothing is asserted about how long it took."""


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that syncs before it answers."""
    with redis_server(tmp_path_factory.mktemp("redis"), *DURABLE) as server:
        yield server


def front(cluster: str, store: str | Path, **settings: Any) -> Engine:
    runtime = {"kind": "ray", "cluster": cluster, "beat_s": 0.2, "lost_s": 5.0, "ready_s": 120.0, **settings}
    config = {"runtime": runtime, "nlp": {"model": "tests.engine.app.hands:Talker"}}
    return Engine(Config.model_validate(config), store=store)


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(WITHIN_S):
            await main

    asyncio.run(bounded())


async def answer(client: Client, text: str) -> list[tuple[str, str]]:
    """Ask, and return the run's events."""
    receipt = await client.send(text)
    return await heard(client, receipt.run)


async def heard(client: Client, run: str) -> list[tuple[str, str]]:
    """A run's events up to its end."""
    events = []
    async for event in client:
        if event.run == run:
            events.append((event.kind, event.text))
            if event.ends_run:
                return events
    raise AssertionError("the stream ended before the run did")


def said(events: list[tuple[str, str]]) -> str:
    return "".join(text for _, text in events)


def test_a_session_is_the_same_from_every_front(redis: RedisServer) -> None:
    """Two clients of one session on two fronts read the same events in the same order, whoever asks."""

    async def main() -> None:
        async with AsyncExitStack() as stack:
            one = await stack.enter_async_context(front("both", redis.url))
            two = await stack.enter_async_context(front("both", redis.url))
            edges = [await engine.serve_grpc() for engine in (one, two)]
            left, right = [
                await stack.enter_async_context(Client(f"127.0.0.1:{edge.port}", session="s", client_id=name))
                for edge, name in zip(edges, ("left", "right"), strict=True)
            ]
            for asking, listening in ((left, right), (right, left)):
                receipt = await asking.send("Tell me something.")
                mine, theirs = await asyncio.gather(heard(asking, receipt.run), heard(listening, receipt.run))
                assert said(mine) == said(theirs)
                assert said(mine)
                assert mine[-1][0] == theirs[-1][0] == "RUN_FINISHED"
            homes = [len(engine.directory.homes()) for engine in (one, two)]
            assert sorted(homes) == [0, 1], "one home, and the other front relays"

    run(main())


def test_a_session_outlives_the_front_it_was_at_home_with(redis: RedisServer) -> None:
    """When that front leaves in good order, its clients go on at the other, with all that was said."""

    async def main() -> None:
        async with AsyncExitStack() as stack:
            one = await stack.enter_async_context(front("outlives", redis.url))
            async with front("outlives", redis.url) as two:
                edge = await two.serve_grpc()
                async with Client(f"127.0.0.1:{edge.port}", session="moving") as client:
                    first = await answer(client, "Remember this.")
            other = await one.serve_grpc()
            async with Client(f"127.0.0.1:{other.port}", session="moving") as client:
                second = await answer(client, "Go on, please.")
                assert said(second)
            assert first[-1][0] == second[-1][0] == "RUN_FINISHED"
            messages = one.directory.messages("default", "moving")
            assert [message["role"] for message in messages] == ["user", "assistant"] * 2

    run(main())


def test_fronts_without_a_common_store_are_refused_unless_all_are_volatile(tmp_path: Path) -> None:
    """The second one says why and what to do, and does not spoil the first; volatile ones may be several."""

    async def main() -> None:
        async with front("apart", tmp_path / "one.db"):
            second = front("apart", tmp_path / "two.db")
            with pytest.raises(ConfigError, match=r"store is its own.*Give all fronts one Redis"):
                await second.start()
            await second.close()
            third = front("apart", "memory", durability="volatile")
            with pytest.raises(ConfigError, match="another kind of store"):
                await third.start()
            await third.close()
        async with (
            front("apart", "memory", durability="volatile"),
            front("apart", "memory", durability="volatile") as b,
        ):
            assert await b.recovered() == 0

    run(main())
