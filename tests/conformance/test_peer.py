"""One suite over every Peer: the pair in memory that other tests use, and the gRPC plane."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import pytest

from laneway.actors.hosts.peers import CANCEL, DELIVER, EMIT, Message, Peer
from laneway.routing.errors import PeerProtocolError, RuntimeUnavailable
from tests.actors.pairs import connect
from tests.engine.peer.stage import Recorder, Side, joined

World: TypeAlias = Callable[[], AbstractAsyncContextManager[tuple[Side, Side]]]


@asynccontextmanager
async def _in_memory() -> AsyncIterator[tuple[Side, Side]]:
    mine, theirs = Recorder(), Recorder()
    left, right = connect(mine, theirs)  # type: ignore[arg-type]
    yield Side(mine, left), Side(theirs, right)


@pytest.fixture(params=[_in_memory, joined], ids=["memory", "grpc"])
def world(request: pytest.FixtureRequest) -> World:
    return request.param


def play(world: World, scene: Callable[[Side, Side], Awaitable[Any]]) -> None:
    async def run() -> None:
        async with world() as (left, right), asyncio.timeout(60):
            await scene(left, right)

    asyncio.run(run())


def test_each_side_knows_the_other(world: World) -> None:
    """A peer has the name and the life of the host at the other end, and is alive."""

    async def scene(left: Side, right: Side) -> None:
        assert (left.peer.name, right.peer.name) == ("right", "left")
        assert left.peer.incarnation == right.peer.incarnation == "1"
        assert left.peer.alive
        assert right.peer.alive

    play(world, scene)


def test_values_arrive_as_they_were_sent(world: World) -> None:
    """Plain types keep type and value; a message is a tuple whose inner sequences are lists."""
    sent: Message = (EMIT, 2**62, -1, 0.5, None, True, "é🙂", b"\x00\xff", [1, [b"", {}]], {"k": [None], "": "v"})

    async def scene(left: Side, right: Side) -> None:
        left.peer.send(sent)
        right.peer.send(sent, urgent=True)
        for side in (left, right):
            await side.recorder.until(lambda side=side: side.recorder.messages)
            assert side.recorder.messages == [sent]
            assert type(side.recorder.messages[0]) is tuple

    play(world, scene)


@pytest.mark.parametrize("urgent", [False, True])
def test_a_stream_keeps_its_order_through_a_burst(world: World, urgent: bool) -> None:
    """Ten thousand messages of both directions at once all arrive, each once, in their order."""

    async def scene(left: Side, right: Side) -> None:
        for number in range(10_000):
            left.peer.send((DELIVER, number, b"x" * (number % 97)), urgent=urgent)
            right.peer.send((EMIT, number), urgent=urgent)
        for side in (left, right):
            await side.recorder.until(lambda side=side: len(side.recorder.messages) >= 10_000)
            assert [message[1] for message in side.recorder.messages] == list(range(10_000))

    play(world, scene)


def test_each_stream_keeps_its_order_when_both_are_busy(world: World) -> None:
    """Urgent and data messages sent in turns keep the order of their own stream."""

    async def scene(left: Side, right: Side) -> None:
        for number in range(2_000):
            left.peer.send((DELIVER, number))
            left.peer.send((CANCEL, number), urgent=True)
            if not number % 100:
                await asyncio.sleep(0)
        came = right.recorder.messages
        await right.recorder.until(lambda: len(came) >= 4_000)
        for verb in (DELIVER, CANCEL):
            assert [message[1] for message in came if message[0] == verb] == list(range(2_000))

    play(world, scene)


def test_messages_of_four_mebibytes_fit(world: World) -> None:
    """The largest messages go through either stream, in either direction, between small ones."""
    body = bytes(4 * 1024 * 1024)

    async def scene(left: Side, right: Side) -> None:
        for side in (left, right):
            for urgent in (False, True):
                side.peer.send((EMIT, 1), urgent=urgent)
                side.peer.send((EMIT, 2, body), urgent=urgent)
                side.peer.send((EMIT, 3), urgent=urgent)
        for side in (left, right):
            await side.recorder.until(lambda side=side: len(side.recorder.messages) == 6)
            assert sorted(len(message) for message in side.recorder.messages) == [2, 2, 2, 2, 3, 3]

    play(world, scene)


def test_a_slow_receiver_gets_everything(world: World) -> None:
    """Whoever takes his time with each message still gets all of them, in order, and loses nobody."""

    async def scene(left: Side, right: Side) -> None:
        right.recorder.on_message = lambda peer, message: time.sleep(0.0005)
        for number in range(1_000):
            left.peer.send((DELIVER, number, bytes(2_000)))
        await right.recorder.until(lambda: len(right.recorder.messages) == 1_000)
        assert [message[1] for message in right.recorder.messages] == list(range(1_000))
        assert left.peer.alive
        assert right.peer.alive

    play(world, scene)


@pytest.mark.parametrize("closer", [0, 1])
def test_a_loss_is_told_once_on_both_sides(world: World, closer: int) -> None:
    """Whoever closes, both sides learn of it exactly once, and are not alive when they do."""

    async def scene(*sides: Side) -> None:
        sides[closer].peer.close(RuntimeUnavailable("enough"))
        sides[closer].peer.close(RuntimeUnavailable("enough again"))
        for side in sides:
            await side.lost()
            assert not side.peer.alive
            side.peer.close(RuntimeUnavailable("late"))
        for _ in range(20):
            await asyncio.sleep(0)
        for side in sides:
            assert [peer for peer, _ in side.recorder.losses] == [side.peer]
        assert sides[closer].recorder.losses[0][1].message == "enough"
        assert "enough" in sides[1 - closer].recorder.losses[0][1].message

    play(world, scene)


def test_sending_to_a_lost_peer_is_harmless(world: World) -> None:
    """After the loss a message goes nowhere, and nobody is told anything more."""

    async def scene(left: Side, right: Side) -> None:
        left.peer.close(RuntimeUnavailable("enough"))
        left.peer.send((DELIVER, 1))
        await left.lost()
        await right.lost()
        left.peer.send((DELIVER, 2))
        right.peer.send((EMIT, 3), urgent=True)
        for _ in range(20):
            await asyncio.sleep(0)
        assert not left.recorder.messages
        assert not right.recorder.messages

    play(world, scene)


def test_closing_while_receiving_is_the_end_of_it(world: World) -> None:
    """Who closes on a message gets none after it, and is told of the loss after that message."""

    async def scene(left: Side, right: Side) -> None:
        def refuse(peer: Peer, message: Message) -> None:
            if message[1] == 3:
                peer.close(PeerProtocolError("not this one"))
                assert not right.recorder.losses

        right.recorder.on_message = refuse
        for number in range(10):
            left.peer.send((DELIVER, number))
        error = await right.lost()
        assert error.message == "not this one"
        await left.lost()
        assert [message[1] for message in right.recorder.messages] == [0, 1, 2, 3]

    play(world, scene)
