"""Hosts find each other: who dials whom, what is redialled, what is let go, who is refused."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import Any

import pytest

from laneway.actors.hosts.peers import DELIVER, DONE, EMIT
from laneway.engine.peer.dialler import Dialler
from laneway.engine.peer.handshake import Gate, Identity
from laneway.engine.peer.plane import Plane, must_dial
from laneway.engine.peer.policy import PeerPolicy
from laneway.engine.testing.proxy import Proxy
from laneway.routing.errors import ConfigError, LanewayError, LocalProtocolError
from laneway.routing.membership import FRONT, POOL, Member
from tests.engine.peer.stage import SECRET, VERSION, Clock, Recorder, both_up, eventually, host, joined, member

QUICK = PeerPolicy(backoff_base_s=0.01, backoff_cap_s=0.02)


def test_one_of_two_hosts_dials() -> None:
    """Fronts dial pool hosts, of two fronts the smaller name dials; pool hosts never do."""
    assert must_dial(FRONT, "z", Member("a", "1", POOL, ""))
    assert must_dial(FRONT, "a", Member("b", "1", FRONT, ""))
    assert not must_dial(FRONT, "b", Member("a", "1", FRONT, ""))
    assert not must_dial(POOL, "a", Member("b", "1", FRONT, ""))
    assert not must_dial(POOL, "a", Member("b", "1", POOL, ""))


def test_a_cluster_is_connected_once_each_way() -> None:
    """Everybody follows everybody: each front has one connection to each other host, pool hosts to fronts only."""

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            roles = {"a": FRONT, "b": FRONT, "c": FRONT, "p": POOL, "q": POOL}
            hosts = {n: await stack.enter_async_context(host(n, role=r, policy=QUICK)) for n, r in roles.items()}
            members = [member(name, hosts[name][2], role=role) for name, role in roles.items()]
            for plane, _, _ in hosts.values():
                plane.follow(members)
                plane.follow(members)
            for name, (_, recorder, _) in hosts.items():
                wanted = set(roles) - {name} if roles[name] == FRONT else {"a", "b", "c"}
                await recorder.until(lambda r=recorder, w=wanted: {p.name for p in r.peers} == w)
            for name, (plane, recorder, _) in hosts.items():
                assert len(recorder.peers) == len(plane.statistics), name
                assert not recorder.losses
                assert not plane.unreached

    asyncio.run(scenario())


def test_a_member_that_is_gone_is_let_go_and_not_let_in_again() -> None:
    """Following without a member closes its connection on both sides, and that life is refused from then on."""

    async def scenario() -> None:
        async with host("a", policy=QUICK) as (a, mine, address), host("b", policy=QUICK) as (b, theirs, other):
            a.follow([member("b", other, role=FRONT)])
            b.follow([member("a", address, role=FRONT)])
            await both_up(mine, theirs)
            b.follow([])
            await mine.until(lambda: mine.losses)
            await theirs.until(lambda: theirs.losses)
            assert theirs.losses[0][1].reason == "GONE"
            await eventually(lambda: "b" in a.unreached)  # a goes on dialling what it believes is a member
            assert a.unreached["b"].reason == "GONE"
            assert len(theirs.peers) == 1

    asyncio.run(scenario())


def test_a_new_life_is_found_at_its_new_address() -> None:
    """A host that comes back as another incarnation elsewhere gets a new connection; the old one is lost first."""

    async def scenario() -> None:
        async with host("front", policy=QUICK) as (front, mine, _):
            async with host("pool", role=POOL) as (_, first, address):
                front.follow([member("pool", address)])
                await both_up(mine, first)
            async with host("pool", role=POOL, incarnation="2") as (_, second, address):
                front.follow([member("pool", address, incarnation="2")])
                await mine.until(lambda: len(mine.peers) == 2)
                left, right = await both_up(mine, second)
                assert mine.told == [("connected", "1"), ("lost", "1"), ("connected", "2")]
                left.peer.send((DELIVER, 1))
                await second.until(lambda: second.messages)
                assert right.peer.alive

    asyncio.run(scenario())


def test_a_connection_that_broke_is_opened_again() -> None:
    """While a member stays one, a closed connection is followed by a new one, over which messages go again."""

    async def scenario() -> None:
        async with host("front", policy=QUICK) as (front, mine, _), host("pool", role=POOL) as (_, theirs, address):
            front.follow([member("pool", address)])
            for count in range(1, 4):
                await mine.until(lambda count=count: len(mine.peers) == count)
                await theirs.until(lambda count=count: len(theirs.peers) == count)
                theirs.peers[-1].send((EMIT, count))
                await mine.until(lambda count=count: mine.messages[-1:] == [(EMIT, count)])
                theirs.peers[-1].close(LanewayError("again"))
            await mine.until(lambda: len(mine.peers) == 4)
            assert len(mine.losses) == 3

    asyncio.run(scenario())


def test_a_dial_that_fails_in_a_way_nobody_foresaw_is_made_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The member would otherwise be out of reach for as long as it lives; why is in the log."""
    dial, dials = Dialler.dial, []

    def fails_once(self: Dialler, whom: Member) -> Any:
        dials.append(whom)
        if len(dials) == 1:
            raise RuntimeError("a mistake")
        return dial(self, whom)

    monkeypatch.setattr(Dialler, "dial", fails_once)

    async def scenario() -> None:
        async with host("front", policy=QUICK) as (front, mine, _), host("pool", role=POOL) as (_, theirs, address):
            front.follow([member("pool", address)])
            await both_up(mine, theirs)
            assert front.unreached == {}

    asyncio.run(scenario())
    assert "a mistake" in caplog.text


def test_messages_of_the_first_moment_arrive() -> None:
    """What is sent while the connection is told arrives, and after the other side knows of the connection."""

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            recorders = Recorder(), Recorder()
            for recorder in recorders:
                recorder.on_connected = lambda peer: peer.send((EMIT, 1))
            front, mine, _ = await stack.enter_async_context(host("front", recorder=recorders[0]))
            _, theirs, address = await stack.enter_async_context(host("pool", role=POOL, recorder=recorders[1]))
            front.follow([member("pool", address)])
            for recorder in (mine, theirs):
                await recorder.until(lambda recorder=recorder: recorder.messages)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        ({"secret": "another secret, long enough"}, "Unauthenticated", "secret"),
        ({"version": "9.9"}, "ConfigError", "host 'front' runs laneway 1.2.3 .* host 'pool' laneway 9.9"),
        ({"incarnation": "2"}, "RuntimeUnavailable", "life '2', not 'pool' in '1'"),
    ],
)
def test_a_host_that_does_not_belong_here_is_refused(change: dict[str, str], kind: str, says: str) -> None:
    """Another secret, version or life: a typed error at the dialler says which, and nobody is connected."""

    async def scenario() -> None:
        async with (
            host("front", policy=QUICK) as (front, mine, _),
            host("pool", role=POOL, **change) as (_, theirs, address),
        ):
            front.follow([member("pool", address)])
            await eventually(lambda: "pool" in front.unreached)
            error = front.unreached["pool"]
            assert type(error).__name__ == kind
            with pytest.raises(type(error), match=says):
                raise error
            assert not mine.peers
            assert not theirs.peers

    asyncio.run(scenario())


def test_closing_tells_the_others_why() -> None:
    """A host that shuts down says so; its peers are told once, and it can be closed twice."""

    async def scenario() -> None:
        async with host("front") as (front, mine, _), host("pool", role=POOL) as (pool, theirs, address):
            front.follow([member("pool", address)])
            await both_up(mine, theirs)
            await pool.close()
            await pool.close()
            await mine.until(lambda: mine.losses)
            assert "host pool shuts down" in mine.losses[0][1].message
            assert theirs.losses[0][1].code == "DRAINED"
            assert not pool.statistics

    asyncio.run(scenario())


def test_what_was_said_before_closing_is_heard() -> None:
    """A host that shuts down in order answers what it has done; megabytes of it, and before the last words."""

    async def scenario() -> None:
        async with host("front") as (front, mine, _), host("pool", role=POOL) as (pool, theirs, address):
            front.follow([member("pool", address)])
            _, side = await both_up(mine, theirs)
            said = [(DONE, number, b"x" * 100_000) for number in range(50)]
            for message in said:
                side.peer.send(message)
            await pool.close()
            await mine.until(lambda: mine.losses)
            assert mine.messages == said
            assert "host pool shuts down" in mine.losses[0][1].message

    asyncio.run(scenario())


def test_a_queue_beyond_its_bound_loses_the_peer() -> None:
    """Who queues more than the bound for a peer loses it with a typed error; the other side learns of it."""

    async def scenario() -> None:
        async with joined(PeerPolicy(queue_bytes=100_000)) as (left, right):
            for number in range(101):
                left.peer.send((DELIVER, number, bytes(1_000)))
            error = await left.lost()
            assert error.reason == "QUEUE_FULL"
            assert error.retryable
            await right.lost()

    asyncio.run(scenario())


@pytest.mark.parametrize("let_go", [True, False])
def test_nothing_is_left_of_a_dial_that_is_given_up(let_go: bool) -> None:
    """Members that cannot be reached, in an attempt or between two, are let go or closed with no task left."""

    async def scenario() -> None:
        async with host("pool", role=POOL) as (_, theirs, address), Proxy(int(address.split(":")[1])) as proxy:
            proxy.stall()
            before = asyncio.all_tasks()
            front = Plane("front", "1", Recorder(), secret=SECRET, clock=Clock(), version=VERSION)
            await front.start("127.0.0.1")
            front.follow([member("pool", proxy.target), member("nobody", "127.0.0.1:1")])
            await eventually(lambda: proxy.connections and "nobody" in front.unreached)
            if let_go:
                front.follow([])
                assert not front.unreached
            await front.close()
            assert not theirs.peers
            left = asyncio.all_tasks() - before
            assert not [task for task in left if task.get_name().startswith("laneway-peer")]

    asyncio.run(scenario())


def test_no_secret_is_ever_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong at the most talkative level, neither side's secret stands in its log."""
    other = "another secret, long enough"

    async def scenario() -> None:
        async with (
            host("front", policy=QUICK) as (front, mine, _),
            host("pool", role=POOL) as (_, _, address),
            host("alien", role=POOL, secret=other) as (_, _, elsewhere),
        ):
            front.follow([member("pool", address), member("alien", elsewhere)])
            await mine.until(lambda: mine.peers)
            await eventually(lambda: "alien" in front.unreached)
            mine.peers[0].close(LanewayError("enough"))
            await mine.until(lambda: mine.losses)

    with caplog.at_level(logging.DEBUG):
        asyncio.run(scenario())
    assert "alien" in caplog.text
    for secret in (SECRET, other):
        key = dict(Gate(Identity("x", "1", "1"), secret).hello("y", "1", "c"))["laneway-key"]
        assert secret not in caplog.text
        assert key not in caplog.text


def test_ipv6_works() -> None:
    """An address with colons is listened on and dialled as well."""

    async def scenario() -> None:
        pool = Plane("pool", "1", theirs := Recorder(), secret=SECRET, clock=Clock(), version=VERSION, role=POOL)
        address = await pool.start("::1")
        assert address.startswith("[::1]:")
        async with host("front") as (front, mine, _):
            front.follow([member("pool", address)])
            await both_up(mine, theirs)
        await pool.close()

    asyncio.run(scenario())


def test_misuse_is_told_at_once() -> None:
    """A short secret, an unusable name, an order that cannot work: errors at the call."""

    async def scenario() -> None:
        with pytest.raises(ConfigError, match="secret"):
            Plane("a", "1", Recorder(), secret="short", clock=Clock(), version=VERSION)
        with pytest.raises(ConfigError, match="name"):
            Plane("a name", "1", Recorder(), secret=SECRET, clock=Clock(), version=VERSION)
        plane = Plane("a", "1", Recorder(), secret=SECRET, clock=Clock(), version=VERSION)
        with pytest.raises(LocalProtocolError):
            plane.follow([])
        with pytest.raises(ConfigError, match="listen"):
            await plane.start("203.0.113.1")
        await plane.close()
        with pytest.raises(LocalProtocolError):
            await plane.start("127.0.0.1")

    asyncio.run(scenario())
