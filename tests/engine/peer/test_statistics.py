"""The figures of a connection are those of what went over it."""

from __future__ import annotations

import asyncio

from laneway.actors.hosts.peers import DELIVER
from laneway.engine.peer.policy import PeerPolicy
from laneway.routing.membership import POOL
from tests.engine.peer.stage import both_up, eventually, host, member


def test_statistics_tell_what_was_carried() -> None:
    """Messages and bytes are counted each way, and heartbeats give a round trip."""

    async def scenario() -> None:
        async with (
            host("front", policy=PeerPolicy(beat_s=0.02, lost_s=20)) as (front, mine, _),
            host("pool", role=POOL) as (pool, theirs, address),
        ):
            front.follow([member("pool", address)])
            left, right = await both_up(mine, theirs)
            for number in range(10):
                left.peer.send((DELIVER, number, bytes(1_000)))
            await theirs.until(lambda: len(theirs.messages) == 10)
            await eventually(lambda: front.statistics[0].round_trip_s is not None)
            ours, other = front.statistics[0], pool.statistics[0]
            assert (ours.name, ours.incarnation, ours.dialled) == ("pool", "1", True)
            assert (other.name, other.dialled) == ("front", False)
            assert ours.sent_messages == other.received_messages == 10
            assert ours.received_messages == other.sent_messages == 0
            assert other.received_bytes > 10_000
            assert ours.queued_bytes == 0
            assert right.peer.alive

    asyncio.run(scenario())
