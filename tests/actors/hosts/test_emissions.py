"""What a handler says on another host arrives gathered, in order, and never faster than it is taken."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from laneway.actors.hosts.emissions import Emissions
from laneway.actors.hosts.peers import EMIT, UNREAD
from laneway.engine.app.packing import HostPacking
from laneway.routing.classify import KindTable
from laneway.routing.envelope import BODY, KIND, Envelope, EnvelopeView
from laneway.routing.errors import LinkLost, LocalProtocolError, PeerProtocolError, SlowConsumer
from laneway.routing.lanes import Lane

TEXT = "TEXT_MESSAGE_CONTENT"


class _Way:
    """Emissions of delivery 7, and what came out of them."""

    def __init__(self, rig: SimpleNamespace, **options: Any) -> None:
        self.rig, self.kinds = rig, KindTable()
        self.packing = HostPacking(self.kinds)
        self.messages: list[list[Envelope]] = []
        self.bytes = 0
        clock = rig.VirtualClock(asyncio.get_running_loop())
        self.emissions = Emissions(7, self._send, self.packing, self.kinds, clock, **options)

    def _send(self, message: Any) -> None:
        verb, number, packed = message
        assert (verb, number) == (EMIT, 7)
        self.bytes += sum(map(len, packed))
        self.messages.append([self.packing.unpack(data, 0.0) for data in packed])

    def event(self, kind: str, body: bytes = b"", entity: str = "m", lane: int = Lane.NORMAL) -> Envelope:
        made: Envelope = self.rig.event(1, kind=kind, lane=lane, entity=entity, run="r", body=body)
        return made

    async def say(self, kind: str, body: bytes = b"", entity: str = "m", lane: int = Lane.NORMAL) -> None:
        add = self.emissions.gathering("t", "s", "r", kind, entity)
        if add is None or not add(body):
            await self.emissions.emit(self.event(kind, body, entity, lane))

    @property
    def heard(self) -> list[tuple[str, bytes]]:
        return [(env[KIND], env[BODY]) for message in self.messages for env in message]


def test_one_turn_is_one_message_and_adjacent_text_one_event(rig: SimpleNamespace) -> None:
    """Tokens of a turn travel together; order holds around other kinds, other messages and sealed deltas."""

    async def scenario() -> _Way:
        way = _Way(rig)
        for token in (b"a", b"b", b"c"):
            await way.say(TEXT, token)
        await way.say("LOG", b"1")
        await way.say(TEXT, b"d")
        await way.say(TEXT, b"e", "other")
        await way.say(TEXT, b"\xff\x80", "other")
        await way.say(TEXT, b"f", "other")
        assert way.messages == [], "the turn is not over"
        await asyncio.sleep(0)
        await way.say(TEXT, b"g", "other")
        await asyncio.sleep(0)
        return way

    way = rig.run(scenario())
    assert len(way.messages) == 2
    said = [(TEXT, b"abc"), ("LOG", b"1"), (TEXT, b"d"), (TEXT, b"e"), (TEXT, b"\xff\x80"), (TEXT, b"f"), (TEXT, b"g")]
    assert way.heard == said


def test_what_is_critical_leaves_at_once_and_never_waits(rig: SimpleNamespace) -> None:
    """It takes along what was said before it, also when the window is closed."""

    async def scenario() -> None:
        way = _Way(rig, window_bytes=10)
        await way.say("LOG", b"x" * 50)
        asyncio.get_running_loop()
        await way.say("RUN_ERROR", b"e", lane=Lane.CRITICAL)
        assert way.heard == [("LOG", b"x" * 50), ("RUN_ERROR", b"e")]
        assert way.emissions.waiting == 0

    rig.run(scenario())


def test_what_is_critical_never_is_more_than_a_front_holds(rig: SimpleNamespace) -> None:
    """A front breaks with a host that says more than a window and an event ahead: large ones wait for it after all."""

    async def scenario() -> None:
        way = _Way(rig)

        async def speak() -> None:
            for _ in range(4):
                await way.say("RUN_ERROR", b"e" * 1_000_000, lane=Lane.CRITICAL)

        speaker = asyncio.ensure_future(speak())
        for count in (1, 2, 3, 4):
            await asyncio.sleep(0.01)
            assert len(way.heard) == count
            assert way.emissions.waiting == (count < 4)
            way.emissions.taken(way.bytes)
        await speaker

    rig.run(scenario())


def test_nothing_runs_ahead_of_the_window(rig: SimpleNamespace) -> None:
    """Producers wait in order while too much is on its way, and go on as it is taken."""

    async def scenario() -> None:
        way = _Way(rig, window_bytes=1_000)

        async def speak(name: bytes) -> None:
            for _ in range(10):
                await way.say("LOG", name * 300)

        speakers = [asyncio.ensure_future(speak(name)) for name in (b"1", b"2")]
        for _ in range(40):
            await asyncio.sleep(0.01)
            assert way.emissions.on_its_way_bytes <= 1_000 + 400
            way.emissions.taken(way.bytes)
        await asyncio.gather(*speakers)
        await asyncio.sleep(0)
        way.emissions.taken(way.bytes)
        assert way.emissions.on_its_way_bytes == 0, "both sides count the same bytes"
        assert len(way.heard) == 20

    rig.run(scenario())


def test_text_that_is_gathered_counts(rig: SimpleNamespace) -> None:
    """Deltas close the window too, and what was estimated for them is corrected when they are packed."""

    async def scenario() -> None:
        way = _Way(rig, window_bytes=2_000)
        said = 0
        while not way.emissions.waiting:
            speaking = asyncio.ensure_future(way.say(TEXT, b"token"))
            await asyncio.sleep(0)
            said += 1
            assert said < 1_000
        assert way.emissions.on_its_way_bytes <= 2_000 + 200
        way.emissions.taken(way.bytes)
        await speaking
        await asyncio.sleep(0)
        way.emissions.taken(way.bytes)
        assert way.emissions.on_its_way_bytes == 0
        assert b"".join(body for _, body in way.heard) == b"token" * said

    rig.run(scenario())


def test_a_large_turn_does_not_gather_without_end(rig: SimpleNamespace) -> None:
    """A gathered delta, and a message, have a size at which they go."""

    async def scenario() -> _Way:
        way = _Way(rig)
        for _ in range(5_000):
            await way.say(TEXT, b"token ")
        await asyncio.sleep(0)
        return way

    way = rig.run(scenario())
    assert b"".join(body for _, body in way.heard) == b"token " * 5_000
    assert max(len(body) for _, body in way.heard) < 1_100
    assert 2 <= len(way.messages) <= 4


def test_a_session_that_takes_no_more_tells_its_speakers(rig: SimpleNamespace) -> None:
    """Who waits and who speaks later gets the session's error; only what is critical still goes out."""

    async def scenario() -> None:
        way = _Way(rig, window_bytes=10)
        await way.say("LOG", b"x" * 50)
        waiting = [asyncio.ensure_future(way.say("LOG", b"y")) for _ in range(2)]
        await asyncio.sleep(0.1)
        assert way.emissions.waiting == 2
        way.emissions.taken(0, LinkLost("nobody reads"))
        for each in waiting:
            with pytest.raises(LinkLost):
                await each
        with pytest.raises(LinkLost):
            await way.say(TEXT, b"z")
        await way.say("RUN_ERROR", b"e", lane=Lane.CRITICAL)
        assert [kind for kind, _ in way.heard] == ["LOG", "RUN_ERROR"]

    rig.run(scenario())


def test_a_front_that_says_nothing_is_given_up(rig: SimpleNamespace) -> None:
    """A producer does not wait for ever; one that is cancelled leaves its place to the next."""

    async def scenario() -> None:
        way = _Way(rig, window_bytes=10, stall_s=5.0)
        await way.say("LOG", b"x" * 50)
        first, second = (asyncio.ensure_future(way.say("LOG", b"y")) for _ in range(2))
        await asyncio.sleep(1.0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        with pytest.raises(SlowConsumer) as stalled:
            await second
        assert stalled.value.reason == "STALLED"
        assert way.emissions.waiting == 0

    rig.run(scenario())


def test_silence(rig: SimpleNamespace) -> None:
    """After the end nobody waits, nothing is sent, and nothing raises."""

    async def scenario() -> None:
        way = _Way(rig, window_bytes=10)
        await way.say("LOG", b"x" * 50)
        waiting = asyncio.ensure_future(way.say("LOG", b"y"))
        await asyncio.sleep(0.1)
        await way.say("RUN_ERROR", b"", lane=Lane.CRITICAL)
        sent = len(way.messages)
        way.emissions.silence()
        await waiting
        await way.say("LOG", b"z")
        await way.say("RUN_ERROR", b"", lane=Lane.CRITICAL)
        await asyncio.sleep(1.0)
        assert len(way.messages) == sent

    rig.run(scenario())


@pytest.mark.parametrize("taken", [-1, 10_000, "much"], ids=str)
def test_an_acknowledgement_of_what_was_not_sent_breaks_the_contract(rig: SimpleNamespace, taken: Any) -> None:
    """More than was sent, or less than before, cannot be."""

    async def scenario() -> None:
        way = _Way(rig)
        await way.say("LOG", b"x")
        way.emissions.flush()
        with pytest.raises((PeerProtocolError, TypeError)):
            way.emissions.taken(taken)

    rig.run(scenario())


def test_a_body_is_bytes(rig: SimpleNamespace) -> None:
    """Anything else is refused at the handler that said it, and harms nobody else."""

    async def scenario() -> None:
        way = _Way(rig)
        await way.say(TEXT, b"a")
        with pytest.raises(LocalProtocolError, match="must be bytes and str"):
            await way.say(TEXT, "text")  # type: ignore[arg-type]
        with pytest.raises(LocalProtocolError, match="must be bytes and str"):
            await way.say("LOG", b"", 7)  # type: ignore[arg-type]
        await way.say(TEXT, b"b")
        await way.emissions.emit_all([way.event("LOG", b"1"), way.event("LOG", b"2")])
        await asyncio.sleep(0)
        assert way.heard == [(TEXT, b"ab"), ("LOG", b"1"), ("LOG", b"2")]
        assert EnvelopeView(way.messages[0][0]).run == "r"

    rig.run(scenario())


def test_what_becomes_of_an_unread_run_is_told_to_the_front(rig: SimpleNamespace) -> None:
    """Where the session is at home; not any more once the front is lost."""
    sent: list[Any] = []

    async def scenario() -> None:
        clock, kinds = rig.VirtualClock(asyncio.get_running_loop()), KindTable()
        emissions = Emissions(7, sent.append, HostPacking(kinds), kinds, clock)
        emissions.when_unread("t", "s", "r", "close")
        emissions.silence()
        emissions.when_unread("t", "s", "r", "continue")

    rig.run(scenario())
    assert sent == [(UNREAD, 7, "close")]
