"""One attempt: it gives both streams or a typed error, and never hangs."""

from __future__ import annotations

import asyncio

import pytest

from laneway.engine.peer.dialler import Dialler
from laneway.engine.peer.handshake import Gate, Identity
from laneway.engine.peer.policy import PeerPolicy
from laneway.engine.testing.proxy import Proxy
from laneway.routing.errors import RuntimeUnavailable
from laneway.routing.membership import POOL
from tests.engine.peer.stage import SECRET, VERSION, host, member


def _dialler(**policy: float) -> Dialler:
    return Dialler(Gate(Identity("front", "1", VERSION), SECRET), PeerPolicy(**policy))


async def _dial(dialler: Dialler, address: str) -> None:
    async with dialler.dial(member("pool", address)):
        pass


def test_an_attempt_gives_both_streams() -> None:
    """The streams are up, answered by the right host; leaving ends them on the other side too."""

    async def scenario() -> None:
        async with host("pool", role=POOL) as (_, recorder, address):
            async with _dialler().dial(member("pool", address)) as (hello, _, data):
                assert (hello.name, hello.incarnation) == ("pool", "1")
                await recorder.until(lambda: recorder.peers)
                await data.write(b"\x91\x92\x01\x02")
                await recorder.until(lambda: recorder.messages)
            await recorder.until(lambda: recorder.losses)

    asyncio.run(scenario())


def test_nobody_there_is_a_typed_error() -> None:
    """A port on which nothing listens, and a name that does not resolve, are RuntimeUnavailable at once."""

    async def scenario() -> None:
        async with Proxy(1) as proxy:
            free = proxy.target
        for address in (free, "no-such-host.invalid:1"):
            with pytest.raises(RuntimeUnavailable, match=f"pool at {address}"):
                await _dial(_dialler(), address)

    asyncio.run(scenario())


def test_silence_is_a_typed_error_after_the_deadline() -> None:
    """Something that accepts and never answers costs `connect_s`, not for ever."""

    async def scenario() -> None:
        async with host("pool", role=POOL) as (_, recorder, address), Proxy(int(address.split(":")[1])) as proxy:
            proxy.stall()
            with pytest.raises(RuntimeUnavailable, match=r"did not answer within 0\.2 s"):
                await _dial(_dialler(connect_s=0.2), proxy.target)
            assert not recorder.peers

    asyncio.run(scenario())


def test_something_else_there_is_a_typed_error() -> None:
    """A server that does not speak gRPC is told apart from none."""

    async def scenario() -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 welcome\r\n")
            writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(RuntimeUnavailable):
                await _dial(_dialler(connect_s=1), f"127.0.0.1:{port}")

    asyncio.run(scenario())
