"""An engine on several nodes: servers that come and go, and the hosts, sessions and documents they share."""

from __future__ import annotations

import asyncio
import itertools
import json
import urllib.error
import urllib.request
from collections.abc import Collection, Coroutine, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from laneway import Client
from laneway.actors.sessions.session import session_key
from laneway.engine.codec import unpack_body
from laneway.engine.delivery import Event
from laneway.engine.documents.replica import Replica
from laneway.routing.classify import IN, Kind, KindTable
from laneway.routing.envelope import BODY, KIND, RUN
from laneway.routing.lanes import Lane
from laneway.routing.placement import rendezvous
from tests.e2e.nodes import Nodes, three_nodes
from tests.e2e.serving import Server, logged
from tests.redis_server import DURABLE, RedisServer, redis_server

KINDS = KindTable([Kind(name, Lane.NORMAL, direction=IN) for name in ("WHERE", "KEYED")])
WITHIN_S = 200.0
pytestmark = pytest.mark.ray
SHARED: dict[str, Any] = {
    "model": "tests.e2e.afar:Reciter",
    "placement": {"tools": "driver"},
    "resources": {"nlp": {"node1": 0.1}, "where": {"spare": 0.1}, "keyed": {"spare": 0.1}},
}


class Fronts(NamedTuple):
    """One engine, served on each node.

    Attributes:
        servers: by number of the node. names: theirs, as members. members: all, as they were at the start.
    """

    servers: list[Server]
    names: list[str]
    members: dict[str, dict[str, Any]]

    def client(self, number: int, session: str, **options: Any) -> Client:
        """A client at the front of a node."""
        return Client(self.servers[number].target, session=session, kinds=KINDS, **options)

    def at_home(self, number: int, name: str) -> str:
        """A session's name whose home will be with the front of this node."""
        names = (f"{name}-{count}" for count in itertools.count())
        return next(
            each for each in names if rendezvous(session_key("default", each), self.names) == self.names[number]
        )


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """One loop, since it owns the servers' processes."""
    with asyncio.Runner() as ours:
        yield ours


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with three_nodes() as ours:
        yield ours


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis"), *DURABLE) as server:
        yield server


@pytest.fixture(scope="module")
def fronts(runner: asyncio.Runner, nodes: Nodes, redis: RedisServer) -> Iterator[Fronts]:
    """Fronts on all nodes; the first one makes the hosts, the others find them."""
    stack = AsyncExitStack()

    async def begin() -> Fronts:
        def front(number: int) -> Server:
            return nodes.front(number, "shared", redis.url, "--setup", "tests.e2e.afar:fill", **SHARED)

        servers = [await stack.enter_async_context(front(0))]
        servers += await asyncio.gather(*(stack.enter_async_context(front(number)) for number in (1, 2)))
        members = await nodes.members("shared")
        found = {row["node"]: name for name, row in members.items() if row["role"] == "front"}
        return Fronts(servers, [found[nodes.node_id(ip)[:12]] for ip in nodes.ips], members)

    try:
        yield runner.run(begin())
    finally:
        runner.run(stack.aclose())


def bounded(runner: asyncio.Runner, main: Coroutine[Any, Any, None]) -> None:
    async def within() -> None:
        async with asyncio.timeout(WITHIN_S):
            await main

    runner.run(within())


async def heard(client: Client, runs: Collection[str]) -> list[Event]:
    """Events up to the end of all these runs."""
    events, left = [], set(runs)
    async for event in client:
        events.append(event)
        if event.ends_run:
            left.discard(event.run)
            if not left:
                return events
    raise AssertionError("the stream ended before the runs did")


def transcript(events: Iterable[Event]) -> list[tuple[str, str, str, str]]:
    """What was told, in order; deltas are joined, since each link cuts them as it likes."""
    told: list[tuple[str, str, str, str]] = []
    for event in events:
        row = (event.run, event.kind, event.entity, event.text)
        if told and told[-1][:3] == row[:3] and event.kind == "TEXT_MESSAGE_CONTENT":
            row = (*row[:3], told.pop()[3] + event.text)
        told.append(row)
    return told


def agreed(one: Sequence[Event], other: Sequence[Event], lost: str) -> None:
    """Both have read the same; of the run that was lost, one what the other read first: the run's error overtakes its
    last words, and who has not read them by then is not given them any more."""
    mine, theirs = (transcript(event for event in read if event.run != lost) for read in (one, other))
    assert mine == theirs
    less, more = sorted((said(event for event in read if event.run == lost) for read in (one, other)), key=len)
    assert more.startswith(less)
    assert less


def said(events: Iterable[Event]) -> str:
    return "".join(event.text for event in events)


async def places(client: Client, count: int) -> dict[str, set[int]]:
    """Entity -> processes that answered, of so many events."""
    found: dict[str, set[int]] = {}
    async for event in client:
        if event.kind == "CUSTOM":
            found.setdefault(event.entity, set()).add(json.loads(event.body)["pid"])
            count -= 1
            if not count:
                return found
    raise AssertionError("the stream ended")


# -- one engine -----------------------------------------------------------------------------------


def test_a_client_on_one_node_reads_what_a_pool_on_another_makes(
    runner: asyncio.Runner, nodes: Nodes, fronts: Fronts
) -> None:
    """The answer tells its process and its node, which are not the front's."""

    async def main() -> None:
        async with fronts.client(0, "far") as client:
            events = await heard(client, {(await client.send("3")).run})
        told, end = json.JSONDecoder().raw_decode(said(events))
        assert told["node"] == nodes.node_id(nodes.ips[1])
        assert told["pid"] == fronts.members["host/nlp/0"]["pid"]
        assert told["pid"] != fronts.servers[0].process.pid
        assert said(events)[end:] == " number 0 number 1 number 2"

    bounded(runner, main())


def test_two_clients_of_a_session_on_two_nodes_read_the_same(runner: asyncio.Runner, fronts: Fronts) -> None:
    """Both ask at once, again and again, and both read all answers in one order."""

    async def main() -> None:
        async with fronts.client(0, "same") as left, fronts.client(2, "same") as right:
            asked = await asyncio.gather(*(client.send("20") for client in (left, right) * 3))
            runs = {receipt.run for receipt in asked}
            mine, theirs = await asyncio.gather(heard(left, runs), heard(right, runs))
        assert transcript(mine) == transcript(theirs)
        assert {row[1] for row in transcript(mine)} >= {"RUN_STARTED", "TEXT_MESSAGE_CONTENT", "RUN_FINISHED"}

    bounded(runner, main())


def test_a_document_edited_on_two_nodes_converges(runner: asyncio.Runner, fronts: Fronts) -> None:
    """Both write at once into the same place; both have everything in the end, and the same."""

    async def edit(client: Client, replica: Replica, mark: str) -> None:
        await client.send_event("DOC_SYNC", replica.hello(), entity="board")
        for number in range(10):
            replica.insert_text(0, mark)
            replica.patch([{"op": "add", "path": f"/{mark}{number}", "value": number}])
            for body in replica.changes():
                await client.send_event("DOC_SYNC", body, entity="board")

    async def follow(client: Client, replica: Replica) -> None:
        while not len(replica.json()) == len(replica.text()) == 20:
            event = await anext(client)
            if event.kind == "DOC_SYNC":
                for answer in replica.receive(event.body):
                    await client.send_event("DOC_SYNC", answer, entity="board")

    async def main() -> None:
        async with fronts.client(0, "ada") as ada, fronts.client(1, "bob") as bob:
            one, two = Replica("board"), Replica("board")
            await asyncio.gather(edit(ada, one, "a"), edit(bob, two, "b"))
            await asyncio.gather(follow(ada, one), follow(bob, two))
        assert one.fingerprint() == two.fingerprint()
        assert sorted(one.text()) == ["a"] * 10 + ["b"] * 10

    bounded(runner, main())


def test_a_publication_reaches_sessions_on_all_nodes(runner: asyncio.Runner, fronts: Fronts) -> None:
    """Wherever they are at home, and whichever front their client is at."""

    async def main() -> None:
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(
                    fronts.client(number, fronts.at_home((number + 1) % 3, "listener"), topics=["topic:news"])
                )
                for number in range(3)
            ]
            await clients[0].publish("topic:news", b"hello all")
            for client in clients:
                got = await anext(event async for event in client if event.body == b"hello all")
                assert got.entity == "topic:news"

    bounded(runner, main())


def test_a_pool_on_two_nodes_spreads_and_keeps_keys_together(
    runner: asyncio.Runner, nodes: Nodes, fronts: Fronts
) -> None:
    """Events go to both hosts; those of one entity go to one of them, whichever front they come through."""

    async def main() -> None:
        hosts = {name: row for name, row in fronts.members.items() if row["role"] == "pool"}
        for pool in ("where", "keyed"):
            on = {row["node"] for name, row in hosts.items() if name.startswith(f"host/{pool}/")}
            assert on == {nodes.node_id(ip)[:12] for ip in nodes.ips[1:]}, pool
        async with fronts.client(0, "left") as left, fronts.client(2, "right") as right:
            keys = [f"k{number % 8}" for number in range(24)]
            found: list[dict[str, set[int]]] = []
            for client in (left, right):
                await asyncio.gather(*(client.send_event("WHERE") for _ in range(20)))
                assert len((await places(client, 20))[""]) == 2
                await asyncio.gather(*(client.send_event("KEYED", entity=key) for key in keys))
                found.append(await places(client, len(keys)))
            assert found[0] == found[1]
            assert {len(pids) for pids in found[0].values()} == {1}
            assert len(set.union(*found[0].values())) == 2

    bounded(runner, main())


def test_a_pool_grows_while_events_wait(runner: asyncio.Runner, nodes: Nodes, fronts: Fronts, tmp_path: Path) -> None:
    """The scaler adds the third host it may, which takes part in the work at once; a fourth never comes."""

    async def main() -> None:
        go = tmp_path / "go"
        async with fronts.client(0, "work") as client:
            waiting = [client.send_event("WHERE", str(go).encode()) for _ in range(60)]
            await asyncio.gather(*waiting)
            while (await nodes.members("shared")).get("host/where/2", {}).get("state") != "ready":
                pass
            go.touch()
            assert len((await places(client, 60))[""]) == 3
        assert "host/where/3" not in await nodes.members("shared")

    bounded(runner, main())


# -- faults -----------------------------------------------------------------------------------------


async def moved(fronts: Fronts, number: int, former: Client, read: list[Event]) -> Client:
    """The same client at another node, from where it stopped; what it had and nobody read is added to `read`."""
    await former.close()
    read += [event async for event in former]
    own = {"client_id": former.client_id, "cursor": former.cursor, "first_counter": former.next_counter}
    return fronts.client(number, former.session, **own)


async def begin(client: Client, count: int) -> list[Event]:
    """The first events of a run, up to so many with text."""
    events = []
    async for event in client:
        events.append(event)
        count -= bool(event.text)
        if not count:
            return events
    raise AssertionError("the stream ended")


def test_a_client_whose_front_is_killed_goes_on_at_another_node(runner: asyncio.Runner, fronts: Fronts) -> None:
    """kill -9 in the middle of a run: what it reads at the next front completes it, as others read it undisturbed.

    A session that was at home with the lost front goes on at another one: its run ends with HOST_LOST, for
    all its clients alike, and the next one is answered.
    """

    async def main() -> None:
        relayed, lost = fronts.at_home(1, "relayed"), fronts.at_home(0, "lost")
        async with AsyncExitStack() as stack:
            near, calm = fronts.client(0, relayed), fronts.client(1, relayed)
            home, other = fronts.client(0, lost), fronts.client(2, lost)
            for client in (near, calm, home, other):
                await stack.enter_async_context(client)
            run = (await near.send("200")).run
            ended = (await home.send("5000")).run
            first, second, third = await asyncio.gather(begin(near, 5), begin(home, 5), begin(other, 5))
            await fronts.servers[0].kill()
            after = await stack.enter_async_context(await moved(fronts, 2, near, first))
            undisturbed = await heard(calm, {run})
            assert transcript(first + await heard(after, {run})) == transcript(undisturbed)
            assert undisturbed[-1].kind == "RUN_FINISHED"
            assert said(undisturbed).endswith(" number 199")
            assert after.welcome["resume"] == "resumed"

            back = await stack.enter_async_context(await moved(fronts, 1, home, second))
            again = (await back.send("3")).run
            mine, theirs = await asyncio.gather(heard(back, {ended, again}), heard(other, {ended, again}))
            for read in (second + mine, third + theirs):
                (error,) = (event for event in read if event.kind == "RUN_ERROR")
                assert (error.run, error.data["code"]) == (ended, "HOST_LOST")
            agreed(second + mine, third + theirs, ended)
            assert (mine[-1].run, mine[-1].kind) == (again, "RUN_FINISHED")

    bounded(runner, main())


def test_a_pool_host_comes_back_on_another_node_when_its_own_is_gone(
    runner: asyncio.Runner, nodes: Nodes, fronts: Fronts, tmp_path: Path
) -> None:
    """A node without power: its events are handled elsewhere, and its host is made anew where there is room."""

    async def main() -> None:
        gone, go = nodes.node_id(nodes.ips[2])[:12], tmp_path / "go"
        before = pids(await nodes.members("shared"), gone)
        assert any(name.startswith("host/where/") for name in before)
        async with fronts.client(1, "lasting") as client:
            await asyncio.gather(*(client.send_event("WHERE", str(go).encode()) for _ in range(20)))
            await asyncio.to_thread(nodes.remove, nodes.ips[2])
            while any(Path(f"/proc/{pid}").exists() for pid in before.values()):  # noqa: ASYNC110, ASYNC240
                await asyncio.sleep(0.01)
            go.touch()
            assert not (await places(client, 20))[""] & set(before.values())
            back: dict[str, int] = {}
            while not set(before) <= set(back):
                members = await nodes.members("shared")
                back = {name: pid for name, pid in pids(members).items() if members[name]["node"] not in ("", gone)}
            await asyncio.gather(*(client.send_event("WHERE") for _ in range(20)))
            assert len((await places(client, 20))[""]) >= 2

    bounded(runner, main())


# -- servers and operators --------------------------------------------------------------------------


async def readiness(http: str) -> tuple[int, str]:
    """What /readyz says, and why."""

    def get() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{http}/readyz", timeout=10) as answer:
                return answer.status, ""
        except urllib.error.HTTPError as refused:
            return refused.code, json.loads(refused.read())["reason"]

    return await asyncio.to_thread(get)


def pids(members: dict[str, dict[str, Any]], node: str = "") -> dict[str, int]:
    """Processes of hosts by name, or those on one node."""
    return {name: row["pid"] for name, row in members.items() if row["role"] == "pool" and node in ("", row["node"])}


def test_servers_come_and_go_and_hosts_stay_until_an_operator_stops_them(
    runner: asyncio.Runner, nodes: Nodes, redis: RedisServer
) -> None:
    """SIGTERM leaves the hosts, another server on another node finds them and the sessions; `stop` ends them."""

    async def main() -> None:
        async with nodes.front(0, "left", redis.url, "--drain-s", "60", model="tests.e2e.afar:Reciter") as one:
            async with Client(one.target, session="s") as client:
                await heard(client, {(await client.send("3")).run})
            assert await readiness(one.http) == (200, "")
            before = await nodes.members("left")
            (front,) = (row for row in before.values() if row["role"] == "front")
            assert nodes.node_id(nodes.ips[0]).startswith(front["node"])
            assert {row["state"] for row in before.values()} == {"ready"}
            assert set(pids(before)) == {"host/nlp/0", "host/tools/0"}
            code, took_s = await one.stop()
            assert (code, took_s < 60) == (0, True), one.errors
            assert "Traceback" not in one.errors
            assert "SIGTERM received" not in one.errors
            assert redis.command("EXISTS", "laneway:{home/default/session/s}") == b":0\r\n"
        after = await nodes.members("left")
        assert pids(after) == pids(before)
        assert set(after) == set(pids(before)), "the front has said goodbye"
        await stopped(nodes, redis)

    bounded(runner, main())


async def stopped(nodes: Nodes, redis: RedisServer) -> None:
    """A second server, until an operator stops the cluster in the middle of a run."""
    own = {"model": "tests.e2e.afar:Reciter"}
    async with nodes.front(1, "left", redis.url, "--drain-s", "2", **own) as two:
        async with Client(two.target, session="s") as client:
            run = (await client.send("5000")).run
            await begin(client, 3)
            code, told = await nodes.ask("stop", "--drain-s", "1", cluster="left")
            assert (code, told) == (0, "the cluster is stopped; 2 hosts have ended\n")
            assert await readiness(two.http) == (503, "STOPPED")
        assert (await two.stop())[0] == 0, two.errors
        assert "Traceback" not in two.errors
    code, told = await nodes.ask("status", cluster="left")
    assert (code, "none was started there" in told) == (1, True), told
    _, numbered = await logged(redis.url, "s")
    ends = {env[RUN]: unpack_body(env[BODY]) for env in numbered if env[KIND] in ("RUN_FINISHED", "RUN_ERROR")}
    assert ends[run]["code"] == "DRAINED"
