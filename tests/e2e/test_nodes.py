"""An engine on several nodes: servers that come and go, and the hosts, sessions and documents they share."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from laneway import Client
from laneway.engine.codec import unpack_body
from laneway.routing.envelope import BODY, KIND
from tests.e2e.nodes import Nodes, three_nodes
from tests.e2e.serving import logged
from tests.redis_server import DURABLE, RedisServer, redis_server

CLUSTER = "left"
WITHIN_S = 120.0


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with three_nodes() as ours:
        yield ours


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis"), *DURABLE) as server:
        yield server


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(WITHIN_S):
            await main

    asyncio.run(bounded())


async def readiness(http: str) -> tuple[int, str]:
    """What /readyz says, and why."""

    def get() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{http}/readyz", timeout=10) as answer:
                return answer.status, ""
        except urllib.error.HTTPError as refused:
            return refused.code, json.loads(refused.read())["reason"]

    return await asyncio.to_thread(get)


async def until(client: Client, kind: str) -> None:
    """Read up to an event of a kind."""
    async for event in client:
        if event.kind == kind:
            return
    raise AssertionError(f"the stream ended without {kind}")


def pids(members: dict[str, dict[str, Any]]) -> dict[str, int]:
    return {name: row["pid"] for name, row in members.items() if row["role"] == "pool"}


def test_servers_come_and_go_and_hosts_stay_until_an_operator_stops_them(nodes: Nodes, redis: RedisServer) -> None:
    """SIGTERM leaves the hosts, another server on another node finds them and the sessions; `stop` ends them."""

    async def main() -> None:
        async with nodes.front(0, CLUSTER, redis.url) as one:
            async with Client(one.target, session="s") as client:
                await client.send("Remember this.")
                await until(client, "RUN_FINISHED")
            assert await readiness(one.http) == (200, "")
            before = await nodes.members(CLUSTER)
            (front,) = (row for row in before.values() if row["role"] == "front")
            assert nodes.node_id(nodes.ips[0]).startswith(front["node"])
            assert {row["state"] for row in before.values()} == {"ready"}
            assert set(pids(before)) == {"host/nlp/0", "host/tools/0"}
            code, took_s = await one.stop()
            assert (code, took_s < 20) == (0, True), one.errors
            assert "Traceback" not in one.errors
            assert "SIGTERM received" not in one.errors
            assert redis.command("EXISTS", "laneway:{default/home/session/s}") == b":0\r\n"
        after = await nodes.members(CLUSTER)
        assert pids(after) == pids(before)
        assert set(after) == set(pids(before)), "the front has said goodbye"
        await stopped(nodes, redis)

    run(main())


async def stopped(nodes: Nodes, redis: RedisServer) -> None:
    """A second server, until an operator stops the cluster in the middle of a run."""
    async with nodes.front(1, CLUSTER, redis.url, "--drain-s", "2") as two:
        async with Client(two.target, session="s") as client:
            await client.send("go on")
            await until(client, "TEXT_MESSAGE_CONTENT")
            code, said = await nodes.ask("stop", "--drain-s", "1", cluster=CLUSTER)
            assert (code, said) == (0, "the cluster is stopped; 2 hosts have ended\n")
            assert await readiness(two.http) == (503, "STOPPED")
        assert (await two.stop())[0] == 0, two.errors
        assert "Traceback" not in two.errors
    code, said = await nodes.ask("status", cluster=CLUSTER)
    assert (code, "was stopped, or was never started" in said) == (1, True), said
    _, numbered = await logged(redis.url, "s")
    ends = {env[KIND]: unpack_body(env[BODY]) for env in numbered if env[KIND] in ("RUN_FINISHED", "RUN_ERROR")}
    assert set(ends) == {"RUN_FINISHED", "RUN_ERROR"}
    assert ends["RUN_ERROR"]["code"] == "DRAINED"
