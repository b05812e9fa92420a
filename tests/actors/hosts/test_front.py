"""A front keeps to the room that it was told, counted as a mailbox counts it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.actors.hosts.delivery import Delivery
from laneway.actors.hosts.emissions import Emissions
from laneway.actors.hosts.front import Front, Room, outcome_of
from laneway.actors.hosts.peers import ANSWER, ASK, HANDLED, ROOM
from laneway.actors.hosts.switchboard import Switchboard
from laneway.actors.pools.mailbox import Mailbox
from laneway.actors.ports import Outcome, Principal
from laneway.engine.app.packing import HostPacking
from laneway.routing.classify import KindTable
from laneway.routing.envelope import envelope
from laneway.routing.errors import LanewayError, PeerProtocolError
from laneway.routing.lanes import Lane
from tests.actors.pairs import End, connect

CRITICAL, NORMAL = int(Lane.CRITICAL), int(Lane.NORMAL)


@given(st.integers(1, 6), st.integers(1, 4), st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60))
def test_a_room_counts_as_a_mailbox_does(ordinary: int, critical: int, steps: list[tuple[bool, bool]]) -> None:
    """What a mailbox of that size has room for may come, and nothing else."""
    box, room = Mailbox(ordinary, critical, lambda env: None), Room()
    room.tell((ordinary, critical))
    for number, (comes, urgent) in enumerate(steps, 1):
        lane = CRITICAL if urgent else NORMAL
        if comes:
            fits = box.free() > 0 or (urgent and box.free(critical=True) > 0)
            assert room.enter(lane) == fits
            if fits:
                box.push(envelope("W", producer="p", counter=number, tenant="t", session="s", lane=lane))
        elif taken := [env for env in [box.pop(0.0, only_critical=urgent)] if env is not None]:
            room.leave(taken[0][7])


def test_a_smaller_room_may_cross_with_deliveries() -> None:
    """What a front was told once it may use: it may not have heard of the change yet."""
    room = Room()
    room.tell((2, 1))
    room.tell((0, 0))
    assert [room.enter(NORMAL) for _ in range(3)] == [True, True, False]
    assert [room.enter(CRITICAL) for _ in range(2)] == [True, False]
    assert room.told == (0, 0)


class _Sink:
    """Takes what a front is sent."""

    def handlers(self) -> Mapping[int, Any]:
        return dict.fromkeys((ROOM, ASK, HANDLED), lambda peer, message: None)

    def connected(self, peer: Any) -> None: ...

    def lost(self, peer: Any, error: LanewayError) -> None: ...


class _Desk:
    """A front without a switchboard here, and deliveries of it."""

    def __init__(self, rig: SimpleNamespace) -> None:
        there = Switchboard()
        there.add(_Sink())
        self.peer: End
        self.peer, _ = connect(Switchboard(), there)
        self.front = Front(self.peer)
        self.rig = rig

    def delivery(self, number: int) -> Delivery:
        kinds = KindTable()
        made = Delivery(self.peer, number, self.rig.event(number), Principal("", "t"), None)
        clock = self.rig.VirtualClock(asyncio.get_running_loop())
        made.emissions = Emissions(number, made.post, HostPacking(kinds), kinds, clock)
        return made


def test_rooms_are_told_when_they_change(rig: SimpleNamespace) -> None:
    """The first time always, then only news."""

    async def scenario() -> None:
        desk = _Desk(rig)
        for room in ((0, 0), (0, 0), (4, 2), (4, 2), (2, 1)):
            desk.front.announce("p", "p/h/0", room)
        assert desk.peer.sent == [(ROOM, 0, "p", "p/h/0", *room) for room in ((0, 0), (4, 2), (2, 1))]

    rig.run(scenario())


def test_deliveries_beyond_the_room_or_of_a_used_number_are_refused(rig: SimpleNamespace) -> None:
    """Both break the contract; a delivery that is over makes room."""

    async def scenario() -> None:
        desk = _Desk(rig)
        with pytest.raises(PeerProtocolError) as refused:
            desk.front.enter("p/h/0", desk.delivery(1))
        assert refused.value.reason == "NO_ROOM"
        desk.front.announce("p", "p/h/0", (1, 1))
        first = desk.delivery(1)
        desk.front.enter("p/h/0", first)
        with pytest.raises(PeerProtocolError, match="twice"):
            desk.front.enter("p/h/0", desk.delivery(1))
        with pytest.raises(PeerProtocolError, match="more to cell"):
            desk.front.enter("p/h/0", desk.delivery(2))
        desk.front.leave("p/h/0", first)
        desk.front.enter("p/h/0", desk.delivery(2))

    rig.run(scenario())


def test_ends_of_one_turn_travel_together(rig: SimpleNamespace) -> None:
    """With what was said last; a large one is not waited for, and what waits can be sent at once."""

    async def scenario() -> None:
        desk = _Desk(rig)
        desk.front.handled(1, [])
        desk.front.handled(2, [b"a", b"b"])
        assert desk.peer.sent == []
        await asyncio.sleep(0)
        desk.front.handled(3, [b"x" * 100_000])
        desk.front.handled(4, [])
        desk.front.flush()
        desk.front.flush()
        told = ([(1, []), (2, [b"a", b"b"])], [(3, [b"x" * 100_000])], [(4, [])])
        assert desk.peer.sent == [(HANDLED, 0, handled) for handled in told]

    rig.run(scenario())


def test_a_principal_is_read_once_while_it_stays_the_same(rig: SimpleNamespace) -> None:
    """Each as it was told; what is none is refused."""

    async def scenario() -> None:
        front = _Desk(rig).front
        ada = front.principal(["ada", "t", ["admin"], None])
        assert front.principal(["ada", "t", ["admin"], None]) is ada
        assert ada == Principal("ada", "t", frozenset({"admin"}))
        assert front.principal(["bob", "t", [], 1.0]) == Principal("bob", "t", frozenset(), 1.0)
        with pytest.raises(PeerProtocolError):
            front.principal(["bob"])

    rig.run(scenario())


def test_early_cancels_are_bounded(rig: SimpleNamespace) -> None:
    """The last thousand are remembered, each for one delivery, with a reason of bounded length."""

    async def scenario() -> None:
        front = _Desk(rig).front
        for number in range(2_000):
            front.remember(number, "x" * 10_000)
        assert front.cancelled(0) is None
        assert front.cancelled(1_999) == "x" * 500
        assert front.cancelled(1_999) is None

    rig.run(scenario())


def test_asks(rig: SimpleNamespace) -> None:
    """An ask is answered, or ends by itself a little after its time, or with the front."""

    async def scenario() -> None:
        desk = _Desk(rig)
        delivery = desk.delivery(5)
        asked = asyncio.ensure_future(desk.front.ask(delivery, b"event", 10.0))
        await asyncio.sleep(0)
        assert desk.peer.sent == [(ASK, 1, 5, b"event", 10.0)]
        desk.front.answered((ANSWER, 1, "handled", b"v", "", "", False))
        assert await asked == Outcome("handled", b"v")
        desk.front.answered((ANSWER, 1, "handled", b"again", "", "", False))
        began = asyncio.get_running_loop().time()
        assert (await desk.front.ask(delivery, b"event", 10.0)).code == "DEADLINE_EXCEEDED"
        assert asyncio.get_running_loop().time() - began == pytest.approx(12.0, abs=0.1)
        asked = asyncio.ensure_future(desk.front.ask(delivery, b"event", 10.0))
        await asyncio.sleep(0)
        desk.front.end_asks()
        assert (await asked).code == "HOST_LOST"
        assert (await desk.front.ask(delivery, bytes(5_000_000), 10.0)).code == "LOCAL_PROTOCOL"
        assert desk.front.asks == 0

    rig.run(scenario())


def test_an_asker_that_goes_away_takes_its_event_with_it(rig: SimpleNamespace) -> None:
    """Cancelled or out of time: the front is told that nobody waits."""

    async def scenario() -> None:
        desk = _Desk(rig)
        delivery = desk.delivery(5)
        asked = asyncio.ensure_future(desk.front.ask(delivery, b"event", 10.0))
        await asyncio.sleep(1)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert desk.peer.sent[1:] == [(ASK, 1, 5, None, 0.0)]
        await desk.front.ask(delivery, b"event", 1.0)
        assert desk.peer.sent[3:] == [(ASK, 2, 5, None, 0.0)]
        assert desk.front.asks == 0

    rig.run(scenario())


@pytest.mark.parametrize(
    "fields", [[], ["handled"], ["happy", b"", "", "", False], ["handled", "text", "", "", False]], ids=repr
)
def test_what_is_no_outcome_is_refused(fields: Any) -> None:
    """Five fields of their types, and a status that exists."""
    with pytest.raises(PeerProtocolError):
        outcome_of(fields)
