"""The accepting half against a bare gRPC client: refused before a byte is read, up only as a whole."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest

from laneway.actors.hosts.peers import DELIVER
from laneway.engine.peer.frames import BYE, MessagePacker, decode_frame, join
from laneway.engine.peer.handshake import Gate, Identity, text_metadata
from laneway.engine.peer.policy import PeerPolicy
from laneway.routing.membership import POOL
from tests.engine.peer.stage import SECRET, VERSION, Recorder, host

GARBAGE = b"\xc1\xc1\xc1"


class Raw:
    """A client that says what a test wants."""

    def __init__(self, channel: grpc.aio.Channel, recorder: Recorder) -> None:
        self.channel = channel
        self.recorder = recorder
        self.said = dict(Gate(Identity("front", "1", VERSION), SECRET).hello("pool", "1", "c1"))

    def call(self, method: str = "Urgent", **change: str) -> grpc.aio.StreamStreamCall:
        said = self.said | {f"laneway-{key}": value for key, value in change.items()}
        return self.channel.stream_stream(f"/laneway.v1.Peer/{method}")(metadata=tuple(said.items()))

    async def both(self, **change: str) -> tuple[grpc.aio.StreamStreamCall, grpc.aio.StreamStreamCall]:
        count = len(self.recorder.peers)
        calls = self.call("Urgent", **change), self.call("Data", **change)
        for call in calls:
            await call.initial_metadata()
        await self.recorder.until(lambda: len(self.recorder.peers) > count)
        return calls


@asynccontextmanager
async def raw(policy: PeerPolicy | None = None) -> AsyncIterator[Raw]:
    async with (
        host("pool", role=POOL, policy=policy) as (_, recorder, address),
        grpc.aio.insecure_channel(address) as channel,
        asyncio.timeout(60),
    ):
        yield Raw(channel, recorder)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"key": "0" * 64}, grpc.StatusCode.UNAUTHENTICATED),
        ({"key": "0" * 64, "protocol": "9"}, grpc.StatusCode.UNAUTHENTICATED),
        ({"protocol": "9"}, grpc.StatusCode.FAILED_PRECONDITION),
        ({"version": "0"}, grpc.StatusCode.FAILED_PRECONDITION),
        ({"name": "pool"}, grpc.StatusCode.FAILED_PRECONDITION),
        ({"to": "somebody"}, grpc.StatusCode.FAILED_PRECONDITION),
    ],
)
@pytest.mark.parametrize("method", ["Urgent", "Data"])
def test_refused_before_a_byte_is_read(change: dict[str, str], code: grpc.StatusCode, method: str) -> None:
    """A stream of a stranger ends with a status that says why; its garbage is not even looked at."""

    async def scenario() -> None:
        async with raw() as client:
            call = client.call(method, **change)
            with contextlib.suppress(grpc.aio.AioRpcError):  # refused already
                await call.write(GARBAGE)
            assert await call.code() == code
            assert "not msgpack" not in await call.details()
            assert SECRET not in await call.details()
            assert "laneway-name" not in text_metadata(await call.initial_metadata())
            assert not client.recorder.peers

    asyncio.run(scenario())


def test_without_metadata_nobody_gets_in() -> None:
    """A bare call is refused, and so is a method that does not exist."""

    async def scenario() -> None:
        async with raw() as client:
            client.said = {}
            assert await client.call().code() == grpc.StatusCode.UNAUTHENTICATED
            assert await client.call("Other").code() == grpc.StatusCode.UNIMPLEMENTED

    asyncio.run(scenario())


def test_half_a_connection_is_none() -> None:
    """One stream alone is not told, and is refused when the other does not come in time."""

    async def scenario() -> None:
        async with raw(PeerPolicy(connect_s=0.2)) as client:
            call = client.call()
            assert await call.code() == grpc.StatusCode.FAILED_PRECONDITION
            assert text_metadata(await call.trailing_metadata())["laneway-reason"] == "HALF"
            assert not client.recorder.peers

    asyncio.run(scenario())


def test_a_stream_comes_once() -> None:
    """A second urgent stream of one connection is refused; the first still waits for its data stream."""

    async def scenario() -> None:
        async with raw() as client:
            first = client.call()
            await first.initial_metadata()
            second = client.call()
            assert text_metadata(await second.trailing_metadata())["laneway-reason"] == "TWICE"
            await client.call("Data").initial_metadata()
            await client.recorder.until(lambda: client.recorder.peers)

    asyncio.run(scenario())


def test_a_half_whose_other_half_leaves_is_refused() -> None:
    """When the first stream is cancelled before the second came, the second begins a connection of its own."""

    async def scenario() -> None:
        async with raw(PeerPolicy(connect_s=0.3)) as client:
            first = client.call()
            await first.initial_metadata()
            first.cancel()
            second = client.call("Data")
            assert await second.code() == grpc.StatusCode.FAILED_PRECONDITION
            assert not client.recorder.peers

    asyncio.run(scenario())


def test_both_streams_make_a_connection() -> None:
    """With both streams the connection is told, and frames go both ways."""

    async def scenario() -> None:
        async with raw() as client:
            urgent, data = await client.both()
            pack = MessagePacker(1_000).pack
            await data.write(join([pack((DELIVER, 1)), pack((DELIVER, 2))]))
            await client.recorder.until(lambda: len(client.recorder.messages) == 2)
            client.recorder.peers[0].send((DELIVER, 3), urgent=True)
            messages = decode_frame(await urgent.read(), 1_000)
            while messages[0][0] < 0:
                messages = decode_frame(await urgent.read(), 1_000)
            assert messages == [(DELIVER, 3)]

    asyncio.run(scenario())


def test_a_host_that_connects_anew_loses_its_older_connection() -> None:
    """The loss of the older is told before the newer, and only the newer is believed."""

    async def scenario() -> None:
        async with raw() as client:
            await client.both()
            _, data = await client.both(connection="c2", incarnation="2")
            assert client.recorder.told == [("connected", "1"), ("lost", "1"), ("connected", "2")]
            assert client.recorder.losses[0][1].reason == "ANEW"
            await data.write(join([MessagePacker(99).pack((DELIVER, 1))]))
            await client.recorder.until(lambda: client.recorder.messages)
            assert client.recorder.peers[1].alive

    asyncio.run(scenario())


@pytest.mark.parametrize("method", ["Urgent", "Data"])
@pytest.mark.parametrize("frame", [GARBAGE, join([MessagePacker(99).pack((-9, 0))]), b"\x91\x91\x01"])
def test_garbage_ends_the_connection(method: str, frame: bytes) -> None:
    """A frame that is none ends the connection with a typed error; the other side is told why."""

    async def scenario() -> None:
        async with raw() as client:
            urgent, data = await client.both()
            await (urgent if method == "Urgent" else data).write(frame)
            await client.recorder.until(lambda: client.recorder.losses)
            error = client.recorder.losses[0][1]
            assert error.code == "MALFORMED"
            message: tuple = ()
            while message[:1] != (BYE,):
                message = decode_frame(await urgent.read(), 10_000)[-1]
            assert message[2] == error.message
            assert len(client.recorder.losses) == 1

    asyncio.run(scenario())


def test_a_frame_above_the_bound_ends_the_connection() -> None:
    """gRPC refuses it before it is in memory; the loss is told once."""

    async def scenario() -> None:
        async with raw(PeerPolicy(message_bytes=10_000, frame_bytes=1_000)) as client:
            _, data = await client.both()
            await data.write(bytes(20_000))
            await client.recorder.until(lambda: client.recorder.losses)
            assert not client.recorder.messages

    asyncio.run(scenario())


@pytest.mark.parametrize("method", [0, 1])
def test_one_stream_less_is_the_end_of_both(method: int) -> None:
    """When either stream ends, cancelled or closed, the connection is lost once and the other stream ends too."""

    async def scenario(orderly: bool) -> None:
        async with raw() as client:
            calls = await client.both()
            if orderly:
                await calls[method].done_writing()
            else:
                calls[method].cancel()
            await client.recorder.until(lambda: client.recorder.losses)
            await calls[1 - method].code()
            assert len(client.recorder.losses) == 1
            assert client.recorder.losses[0][1].code == "HOST_LOST"

    asyncio.run(scenario(orderly=True))
    asyncio.run(scenario(orderly=False))
