"""One connection with its time in the test's hand: heartbeats, silence, last words, hostile receivers."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref

import pytest

from laneway.actors.hosts.peers import DELIVER, Message, Peer
from laneway.engine.peer.frames import BYE, PING, PONG
from laneway.engine.peer.policy import PeerPolicy
from laneway.routing.errors import LocalProtocolError, RuntimeUnavailable
from tests.engine.peer.fakes import Rig

BEATS = PeerPolicy(beat_s=1, lost_s=3, linger_s=0.01)


def _pings(messages: list[Message]) -> int:
    return sum(message[0] == PING for message in messages)


def test_idle_streams_are_pinged_at_every_beat() -> None:
    """Both streams get a ping when a beat has passed, and none before."""

    async def scenario() -> None:
        async with Rig(BEATS) as rig:
            for now, wanted in ((0.9, 0), (1.0, 1), (1.9, 1), (2.0, 2)):
                await rig.at(now, forgiving=True)
                assert (_pings(rig.urgent.written), _pings(rig.data.written)) == (wanted, wanted)

    asyncio.run(scenario())


def test_a_busy_data_stream_needs_no_ping() -> None:
    """What was written within a beat is a sign of life; the urgent stream is measured at every beat anyway."""

    async def scenario() -> None:
        async with Rig(BEATS) as rig:
            rig.clock.at = 1_000.5
            rig.connection.send((DELIVER, 1))
            rig.connection.send((DELIVER, 2), urgent=True)
            await rig.settle()
            await rig.at(1.0)
            assert (_pings(rig.urgent.written), _pings(rig.data.written)) == (1, 0)
            await rig.at(1.5)
            assert (_pings(rig.urgent.written), _pings(rig.data.written)) == (1, 1)

    asyncio.run(scenario())


def test_pings_do_not_pile_up_behind_a_write() -> None:
    """While a write is stuck, one ping waits and not more."""

    async def scenario() -> None:
        async with Rig(BEATS) as rig:
            rig.urgent.open.clear()
            rig.connection.send((DELIVER, 1), urgent=True)
            await rig.settle()
            for now in range(1, 9):
                await rig.at(now, forgiving=True)
            rig.urgent.open.set()
            await rig.settle()
            assert _pings(rig.urgent.written) == 1

    asyncio.run(scenario())


def test_a_ping_is_answered_on_its_stream() -> None:
    """PONG carries the number of the PING; neither reaches the receiver."""

    async def scenario() -> None:
        async with Rig() as rig:
            rig.urgent.say((PING, 7))
            rig.data.say((PING, 8), (DELIVER, 1))
            await rig.settle()
            assert rig.urgent.written == [(PONG, 7)]
            assert rig.data.written == [(PONG, 8)]
            assert rig.recorder.messages == [(DELIVER, 1)]

    asyncio.run(scenario())


def test_the_round_trip_is_measured() -> None:
    """The time between a ping and its answer is shown."""

    async def scenario() -> None:
        async with Rig(BEATS) as rig:
            assert rig.connection.statistics.round_trip_s is None
            await rig.at(1.0)
            rig.clock.at = 1_001.25
            rig.urgent.say((PONG, rig.urgent.written[0][1]))
            await rig.settle()
            assert rig.connection.statistics.round_trip_s == pytest.approx(0.25)

    asyncio.run(scenario())


def test_silence_loses_the_peer() -> None:
    """Nothing heard for `lost_s` ends the connection, with the host and the seconds in the error."""

    async def scenario() -> None:
        async with Rig(BEATS) as rig:
            await rig.at(2.9)
            assert rig.connection.alive
            await rig.at(3.1)
            assert not rig.connection.alive
            error = rig.recorder.losses[0][1]
            assert (error.code, error.reason) == ("HOST_LOST", "SILENT")
            assert "host other was silent for 3.1 s" in error.message
            assert rig.urgent.written[-1][0] == BYE

    asyncio.run(scenario())


def test_every_sign_of_life_counts() -> None:
    """A stream that brings anything at all is not silent."""

    async def scenario() -> None:
        async with Rig(BEATS) as rig:
            for now in range(1, 12):
                rig.clock.at = 1_000.0 + now
                rig.urgent.say((PONG, 1))
                await rig.settle()
                await rig.at(now)
            assert rig.connection.alive

    asyncio.run(scenario())


def test_a_data_stream_may_be_busy_with_one_message_but_not_for_ever() -> None:
    """The data stream alone may be silent for ten times as long."""

    async def scenario() -> None:
        async with Rig(BEATS) as rig:
            for now in range(1, 31):
                assert rig.connection.alive
                rig.clock.at = 1_000.0 + now
                rig.urgent.say((PONG, 1))
                await rig.settle()
                await rig.at(now)
            assert "data stream" in rig.recorder.losses[0][1].message

    asyncio.run(scenario())


def test_who_was_away_itself_forgives() -> None:
    """A forgiving beat sends pings and loses nobody."""

    async def scenario() -> None:
        async with Rig(BEATS) as rig:
            await rig.at(50, forgiving=True)
            assert rig.connection.alive
            assert _pings(rig.urgent.written) == 1

    asyncio.run(scenario())


def test_what_waits_is_dropped_at_the_end_and_the_last_words_are_sent() -> None:
    """After `close` only BYE is written, with the reason."""

    async def scenario() -> None:
        async with Rig() as rig:
            rig.connection.send((DELIVER, 1))
            rig.connection.send((DELIVER, 2), urgent=True)
            rig.connection.close(RuntimeUnavailable("enough"))
            assert rig.connection.statistics.queued_bytes < 20
            await rig.settle()
            assert rig.data.written == []
            assert rig.urgent.written == [(BYE, 0, "enough")]

    asyncio.run(scenario())


def test_nothing_is_believed_after_the_end() -> None:
    """Frames that come after the loss are read and dropped; the streams are ended."""

    async def scenario() -> None:
        async with Rig() as rig:
            rig.connection.close(RuntimeUnavailable("enough"))
            rig.data.say((DELIVER, 1))
            await rig.settle()
            assert rig.recorder.messages == []
        assert rig.urgent.ended
        assert rig.data.ended

    asyncio.run(scenario())


def test_who_keeps_a_lost_peer_keeps_no_stream() -> None:
    """A peer that somebody still holds after its loss does not hold its sockets."""

    async def scenario() -> None:
        async with Rig() as rig:
            wires = [weakref.ref(rig.urgent), weakref.ref(rig.data)]
        del rig.urgent, rig.data
        gc.collect()
        assert not rig.connection.alive
        assert [wire() for wire in wires] == [None, None]

    asyncio.run(scenario())


def test_a_break_is_told_with_its_cause() -> None:
    """What the transport says stands in the error."""

    async def scenario() -> None:
        async with Rig() as rig:
            rig.data.inbox.put_nowait(ConnectionError("UNAVAILABLE: Socket closed"))
            await rig.recorder.until(lambda: rig.recorder.losses)
            assert "host other broke (UNAVAILABLE: Socket closed)" in rig.recorder.losses[0][1].message

    asyncio.run(scenario())


@pytest.mark.parametrize("error", [ConnectionError("reset"), RuntimeError("a mistake")])
def test_a_stream_that_cannot_be_written_ends_the_connection(error: Exception) -> None:
    """Whatever it raises: what waits would otherwise wait for as long as the other stream lives."""

    async def scenario() -> None:
        async with Rig() as rig:
            rig.data.breaks = error
            rig.connection.send((DELIVER, 1))
            await rig.settle()
            ((_, lost),) = rig.recorder.losses
            assert lost.reason == "BROKEN"
            assert str(error) in lost.message

    asyncio.run(scenario())


def test_one_moment_is_one_frame() -> None:
    """What is sent before the loop turns goes out together, on each stream."""

    async def scenario() -> None:
        async with Rig() as rig:
            for number in range(100):
                rig.connection.send((DELIVER, number))
            await rig.settle()
            assert rig.data.frames == 1
            assert len(rig.data.written) == 100

    asyncio.run(scenario())


def test_a_message_that_cannot_be_sent_loses_nothing() -> None:
    """The caller gets the error, the connection goes on."""

    async def scenario() -> None:
        async with Rig() as rig:
            with pytest.raises(LocalProtocolError):
                rig.connection.send((DELIVER, object()))
            with pytest.raises(LocalProtocolError):
                rig.connection.send((DELIVER, 1, bytes(5_000_000)))
            rig.connection.send((DELIVER, 2))
            await rig.settle()
            assert rig.data.written == [(DELIVER, 2)]
            assert rig.connection.alive

    asyncio.run(scenario())


def test_a_receiver_that_raises_ends_its_connection_only(caplog: pytest.LogCaptureFixture) -> None:
    """A bug in a receiver is logged and ends the connection; the loss is still told."""

    async def scenario() -> None:
        def fail(peer: Peer, message: Message) -> None:
            raise KeyError("a bug")

        async with Rig() as rig:
            rig.recorder.on_message = fail
            rig.data.say((DELIVER, 1), (DELIVER, 2))
            await rig.recorder.until(lambda: rig.recorder.losses)
            assert rig.recorder.messages == [(DELIVER, 1)]

    with caplog.at_level(logging.ERROR):
        asyncio.run(scenario())
    assert "a bug" in caplog.text


def test_a_receiver_that_fails_to_connect_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    """A connection that cannot be taken in is closed, and its loss is told."""

    async def scenario() -> None:
        def fail(peer: Peer) -> None:
            raise KeyError("a bug")

        rig = Rig()
        rig.recorder.on_connected = fail
        async with rig:
            await rig.recorder.until(lambda: rig.recorder.losses)

    with caplog.at_level(logging.ERROR):
        asyncio.run(scenario())
    assert "a bug" in caplog.text


def test_a_connection_that_ended_before_it_was_told_is_never_told() -> None:
    """Neither the beginning nor the end of it."""

    async def scenario() -> None:
        rig = Rig()
        rig.connection.close(RuntimeUnavailable("too late"))
        async with rig:
            pass
        await rig.settle()
        assert rig.recorder.told == []

    asyncio.run(scenario())
