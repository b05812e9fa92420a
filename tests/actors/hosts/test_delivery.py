"""A delivery knows whose it is and what was said before, and answers on its own stream."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import msgpack
import pytest

from laneway.actors.hosts.delivery import Delivery, principal_of
from laneway.actors.hosts.emissions import Emissions
from laneway.actors.hosts.peers import DONE, EMIT
from laneway.actors.hosts.switchboard import Switchboard
from laneway.actors.ports import Outcome, Principal
from laneway.engine.app.packing import HostPacking
from laneway.routing.classify import KindTable
from laneway.routing.errors import PeerProtocolError
from laneway.routing.lanes import Lane
from tests.actors.pairs import End, connect

WHO = Principal("ada", "t", frozenset({"admin"}), 7.5)


def _delivery(rig: SimpleNamespace, peer: End, history: bytes | None = None, lane: int = Lane.NORMAL) -> Delivery:
    kinds = KindTable()
    delivery = Delivery(peer, 3, rig.event(1, lane=lane), WHO, history)
    clock = rig.VirtualClock(asyncio.get_running_loop())
    delivery.emissions = Emissions(3, delivery.post, HostPacking(kinds), kinds, clock)
    return delivery


def test_what_was_said_comes_before_the_end(rig: SimpleNamespace) -> None:
    """The outcome is the last message, also if what was said had not been sent yet."""

    async def scenario() -> None:
        peer, _ = connect(Switchboard(), Switchboard())
        delivery = _delivery(rig, peer)
        await delivery.emissions.emit(rig.event(2, kind="LOG"))
        delivery.done(Outcome("failed", b"v", "C", "why", True))
        assert [message[0] for message in peer.sent] == [EMIT, DONE]
        assert peer.sent[1] == (DONE, 3, "failed", b"v", "C", "why", True)
        assert not delivery.urgent
        assert _delivery(rig, peer, lane=Lane.CRITICAL).urgent

    rig.run(scenario())


@pytest.mark.parametrize("outcome", [Outcome("handled", bytes(5_000_000)), Outcome("failed", b"", "C", "\udcff")])
def test_an_outcome_that_cannot_travel_is_a_failure(rig: SimpleNamespace, outcome: Outcome) -> None:
    """Larger than a message may be, or no text: the front is told so instead of nothing."""

    async def scenario() -> None:
        peer, _ = connect(Switchboard(), Switchboard())
        _delivery(rig, peer).done(outcome)
        ((verb, number, status, value, code, message, _),) = peer.sent
        assert (verb, number, status, value, code) == (DONE, 3, "failed", b"", "HANDLER_FAILED")
        assert "cannot travel" in message

    rig.run(scenario())


def test_history(rig: SimpleNamespace) -> None:
    """Packed AG-UI messages, or none; anything else breaks the contract."""

    async def scenario() -> None:
        peer, _ = connect(Switchboard(), Switchboard())
        said = [{"id": "1", "role": "user", "content": "hi"}]
        assert _delivery(rig, peer, msgpack.packb(said)).history() == said
        assert _delivery(rig, peer).history() == []
        for bad in (b"\xc1", msgpack.packb({"a": 1}), msgpack.packb([1])):
            with pytest.raises(PeerProtocolError, match="history of delivery 3"):
                _delivery(rig, peer, bad).history()

    rig.run(scenario())


def test_a_principal_travels_as_four_fields() -> None:
    """Anything else breaks the contract."""
    assert principal_of(["ada", "t", ["admin"], 7.5]) == WHO
    for bad in (None, [], ["ada", "t", "admin", None], ["ada"]):
        with pytest.raises(PeerProtocolError):
            principal_of(bad)
