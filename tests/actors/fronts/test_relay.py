"""The asking side of sessions elsewhere; what it does together with a home is in test_fronts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from laneway.actors.fronts.flow import Flow
from laneway.actors.fronts.parcels import Parcels
from laneway.actors.fronts.relay import Relay
from laneway.actors.hosts.peers import (
    ATTACH,
    ATTACHED,
    ENDED,
    INGEST,
    LEAVE,
    LINK_IN,
    LINK_OUT,
    NEXT,
    TOLD,
    Message,
    Peer,
)
from laneway.actors.hosts.switchboard import Switchboard
from laneway.engine.app.packing import LogPacking
from laneway.routing.errors import DeadlineExceeded, HostLost, RuntimeUnavailable, StoreError, Superseded
from laneway.routing.failures import error_fields
from tests.actors.pairs import End, connect
from tests.actors.sessions.stage import ALICE, Caller, a_hello, an_event, kind_table
from tests.simulation.loop import VirtualClock, run


class _Home:
    """The other side: writes down, and answers as the test says."""

    def __init__(self) -> None:
        self.got: list[Message] = []

    def handlers(self) -> dict[int, Any]:
        return dict.fromkeys((ATTACH, NEXT, LINK_IN, LEAVE, INGEST), lambda peer, message: self.got.append(message))

    def connected(self, peer: Peer) -> None:
        self.peer = peer

    def lost(self, peer: Peer, error: object) -> None: ...


def _two() -> tuple[Relay, _Home, End]:
    left, right = Switchboard(), Switchboard()
    flow, home = Flow(), _Home()
    clock = VirtualClock(asyncio.get_running_loop())
    relay = Relay(flow, Parcels(LogPacking(kind_table()), clock))
    for part in (flow, relay):
        left.add(part)
    right.add(Flow())
    right.add(home)
    return relay, home, connect(left, right)[0]


def test_a_link_is_open_when_its_home_says_so() -> None:
    """Two batches are asked for at once; what comes for a link that is over is dropped."""

    async def main() -> None:
        relay, home, peer = _two()
        opening = asyncio.create_task(relay.attach(peer, a_hello("c", "s"), ALICE, {"laneway.transport": "x"}))
        await asyncio.sleep(0.1)
        assert [message[0] for message in home.got] == [ATTACH, NEXT, NEXT]
        _, number, fields, row, origin = home.got[0]
        assert (fields["session"], row[:2], origin) == ("s", ["alice", "t"], {"laneway.transport": "x"})
        assert not opening.done()
        home.peer.send((ATTACHED, number))
        link = await opening
        home.peer.send((LINK_OUT, number, [[{"welcome": {}}, []]]))
        assert (await link.frames())[0].header == {"welcome": {}}
        assert len(relay) == 1
        home.peer.send((ENDED, number, error_fields(Superseded("newer"))))
        with pytest.raises(Superseded):
            await link.frames()
        assert len(relay) == 0
        for late in ((ATTACHED, number), (LINK_OUT, number, []), (ENDED, number, error_fields(Superseded("again")))):
            home.peer.send(late)
        await asyncio.sleep(0.1)
        assert peer.alive

    run(main())


def test_an_opening_that_comes_to_nothing_is_left() -> None:
    """Refused, late, given up, or lost: the home is told wherever it may still open the link."""

    async def main() -> None:
        relay, home, peer = _two()

        def ask() -> asyncio.Task[Any]:
            return asyncio.create_task(relay.attach(peer, a_hello(), ALICE, {}))

        refused = ask()
        await asyncio.sleep(0.1)
        home.peer.send((ENDED, 1, error_fields(StoreError("away"))))
        with pytest.raises(StoreError):
            await refused
        with pytest.raises(DeadlineExceeded):
            await ask()
        given_up = ask()
        await asyncio.sleep(0.1)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        await asyncio.sleep(0.1)
        assert [message for message in home.got if message[0] == LEAVE] == [(LEAVE, 2, None), (LEAVE, 3, None)]
        lost = ask()
        await asyncio.sleep(0.1)
        peer.cut()
        with pytest.raises(HostLost):
            await lost
        with pytest.raises(RuntimeUnavailable):
            await ask()

    run(main())


def test_events_are_waited_for_until_each_has_its_answer() -> None:
    """Answers are told as they come, and what was answered is taken out of what waits."""

    async def main() -> None:
        relay, home, peer = _two()
        caller = Caller("c")
        waiting = {counter: an_event(counter) for counter in (1, 2, 3)}
        asking = asyncio.create_task(relay.ingest(peer, "s", caller, waiting))
        await asyncio.sleep(0.1)
        number = home.got[0][1]
        assert (home.got[0][0], *home.got[0][2:4], len(home.got[0][6])) == (INGEST, "s", "c", 3)
        home.peer.send((TOLD, number, {"ok": [[1, 2, "durable"]]}))
        await asyncio.sleep(0.1)
        assert not asking.done()
        assert list(waiting) == [3]
        home.peer.send((TOLD, number, {"refused": [[[3], "LANE_FULL", "", "full", 5]]}))
        await asking
        assert (caller.ok, caller.refused) == ([(1, "durable"), (2, "durable")], [(3, "LANE_FULL", "")])
        home.peer.send((TOLD, number, {"ok": [[1, 1, "durable"]]}))
        await asyncio.sleep(0.1)
        assert len(caller.ok) == 2

    run(main())


def test_events_without_an_answer_are_told_as_such() -> None:
    """By the home's error, or by its loss; the asker knows which are left."""

    async def main() -> None:
        relay, home, peer = _two()
        waiting = {1: an_event(1)}
        asking = asyncio.create_task(relay.ingest(peer, "s", Caller(), waiting))
        await asyncio.sleep(0.1)
        home.peer.send((TOLD, home.got[0][1], {"error": error_fields(StoreError("away"))}))
        with pytest.raises(StoreError):
            await asking
        asking = asyncio.create_task(relay.ingest(peer, "s", Caller(), waiting))
        await asyncio.sleep(0.1)
        peer.cut()
        with pytest.raises(HostLost):
            await asking
        assert list(waiting) == [1]
        with pytest.raises(RuntimeUnavailable):
            await relay.ingest(peer, "s", Caller(), waiting)

    run(main())
