"""A network between two hosts that resets, swallows, slows down; whatever it does, order holds or the peer is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from laneway.actors.hosts.peers import CANCEL, DELIVER, EMIT
from laneway.engine.peer.plane import Plane
from laneway.engine.peer.policy import PeerPolicy
from laneway.engine.testing.proxy import Proxy
from laneway.routing.membership import POOL
from tests.engine.peer.stage import Recorder, eventually, host, member

QUICK = PeerPolicy(beat_s=0.1, lost_s=1.0, backoff_base_s=0.02, backoff_cap_s=0.05, connect_s=1.0)
PATIENT = PeerPolicy(beat_s=1, lost_s=60, backoff_base_s=0.02, backoff_cap_s=0.05)


@asynccontextmanager
async def through_proxy(policy: PeerPolicy = PATIENT) -> AsyncIterator[tuple[Recorder, Recorder, Proxy, Plane]]:
    """A front that is connected to a pool host through a proxy."""
    async with (
        host("pool", role=POOL, policy=policy) as (_, theirs, address),
        Proxy(int(address.split(":")[1])) as proxy,
        host("front", policy=policy) as (front, mine, _),
        asyncio.timeout(60),
    ):
        front.follow([member("pool", proxy.target)])
        await mine.until(lambda: mine.peers)
        await theirs.until(lambda: theirs.peers)
        yield mine, theirs, proxy, front


async def _works_again(mine: Recorder, theirs: Recorder, connections: int = 2) -> None:
    await mine.until(lambda: len(mine.peers) >= connections and mine.peers[-1].alive)
    await theirs.until(lambda: len(theirs.peers) >= connections and theirs.peers[-1].alive)
    mine.messages.clear()
    theirs.peers[-1].send((EMIT, 77))
    await mine.until(lambda: (EMIT, 77) in mine.messages)


def test_a_reset_in_the_middle_of_a_frame() -> None:
    """What arrived is a beginning of what was sent, in order; both sides lose the peer once, and meet again."""

    async def scenario() -> None:
        async with through_proxy() as (mine, theirs, proxy, _):
            proxy.cut_after(1_000_000)
            for number in range(5_000):
                theirs.peers[0].send((EMIT, number, bytes(1_000)))
            await mine.until(lambda: mine.losses)
            await theirs.until(lambda: theirs.losses)
            came = [message[1] for message in mine.messages]
            assert came == list(range(len(came)))
            assert 0 < len(came) < 5_000
            await _works_again(mine, theirs)
            assert len(mine.losses) == len(theirs.losses) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("direction", ["up", "down"])
def test_one_direction_that_swallows_everything(direction: str) -> None:
    """When nothing arrives one way, both sides lose the peer, and meet again when the way is free."""

    async def scenario() -> None:
        async with through_proxy(QUICK) as (mine, theirs, proxy, _):
            proxy.stall(up=direction == "up", down=direction == "down")
            await mine.until(lambda: mine.losses)
            await theirs.until(lambda: theirs.losses)
            proxy.resume()
            await _works_again(mine, theirs)
            assert mine.losses[0][0] is mine.peers[0]
            assert theirs.losses[0][0] is theirs.peers[0]

    asyncio.run(scenario())


def test_a_network_that_is_away_and_comes_back() -> None:
    """While nothing can be reached the dialler keeps trying and tells why; then it is connected again."""

    async def scenario() -> None:
        async with through_proxy() as (mine, theirs, proxy, front):
            proxy.refuse()
            proxy.cut()
            await mine.until(lambda: mine.losses)
            await theirs.until(lambda: theirs.losses)
            before = proxy.connections
            await eventually(lambda: proxy.connections >= before + 3)
            assert "pool at" in front.unreached["pool"].message
            proxy.refuse(False)
            await _works_again(mine, theirs)
            assert not front.unreached

    asyncio.run(scenario())


def test_urgent_messages_overtake_a_data_stream_that_is_full() -> None:
    """Over a slow line with megabytes queued as data, an urgent message and its answer pass most of them."""

    async def scenario() -> None:
        async with through_proxy() as (mine, theirs, proxy, _):
            proxy.throttle(4_000_000)
            theirs.on_message = lambda peer, message: peer.send(message, urgent=True) if message[0] == CANCEL else None
            for number in range(4_000):
                mine.peers[0].send((DELIVER, number, bytes(1_000)))
            mine.peers[0].send((CANCEL, 1, "now"), urgent=True)
            await mine.until(lambda: mine.messages)
            assert sum(message[0] == DELIVER for message in theirs.messages) < 2_000
            proxy.throttle(0)
            await theirs.until(lambda: len(theirs.messages) == 4_001)
            assert [m[1] for m in theirs.messages if m[0] == DELIVER] == list(range(4_000))

    asyncio.run(scenario())


def test_a_line_that_stands_still_fills_a_bounded_queue() -> None:
    """Messages for a peer behind a stalled line are kept up to the bound; beyond it the peer is lost."""

    async def scenario() -> None:
        policy = PeerPolicy(beat_s=1, lost_s=60, queue_bytes=2_000_000, connect_s=1)
        async with through_proxy(policy) as (mine, _, proxy, front):
            proxy.stall()
            sent = 0
            while mine.peers[0].alive:
                mine.peers[0].send((DELIVER, sent, bytes(10_000)))
                sent += 1
                assert all(each.queued_bytes <= 2_000_000 for each in front.statistics)
                await asyncio.sleep(0)
            await mine.until(lambda: mine.losses)
            assert mine.losses[0][1].reason == "QUEUE_FULL"
            assert sent < 500
            proxy.resume()

    asyncio.run(scenario())
