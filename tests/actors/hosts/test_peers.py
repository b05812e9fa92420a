"""The verbs of hosts are numbers of their own, and what connects two hosts in tests is a Peer."""

from __future__ import annotations

import asyncio

from laneway.actors.hosts import peers
from laneway.actors.hosts.switchboard import Switchboard
from tests.actors.pairs import connect


def test_every_verb_has_its_own_number() -> None:
    """No two verbs share a number, and all are in the table."""
    numbers = [getattr(peers, name) for name in peers.__all__ if name.isupper() and name != "VERBS"]
    assert sorted(numbers) == sorted(peers.VERBS)


def test_each_stream_keeps_its_order_and_ends_once() -> None:
    """Messages of a stream arrive in order; the end of a connection is told once to both sides."""

    class Part:
        def __init__(self) -> None:
            self.took: list[peers.Message] = []
            self.ends = 0

        def handlers(self):  # type: ignore[no-untyped-def]
            return {peers.ROOM: lambda peer, message: self.took.append(message)}

        def connected(self, peer: peers.Peer) -> None: ...

        def lost(self, peer: peers.Peer, error: Exception) -> None:
            self.ends += 1

    async def scenario() -> tuple[Part, Part]:
        left, right, here, there = Switchboard(), Switchboard(), Part(), Part()
        left.add(here)
        right.add(there)
        mine, theirs = connect(left, right)
        mine.hold()
        for number in range(3):
            mine.send((peers.ROOM, number))
        mine.send((peers.ROOM, 9), urgent=True)
        await asyncio.sleep(0)
        mine.let_go()
        await asyncio.sleep(0)
        mine.cut()
        theirs.cut()
        await asyncio.sleep(0)
        mine.send((peers.ROOM, 10))
        await asyncio.sleep(0)
        return here, there

    here, there = asyncio.run(scenario())
    assert [message[1] for message in there.took] == [9, 0, 1, 2]
    assert (here.ends, there.ends) == (1, 1)
