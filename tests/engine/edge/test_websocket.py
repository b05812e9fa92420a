"""One WebSocket over ASGI: close codes, sentences that fit, peers that are gone."""

from __future__ import annotations

import asyncio

import pytest

from laneway.engine.edge.asgi import SocketEndpoint
from laneway.engine.edge.websocket import WebSocket
from laneway.routing.errors import LanewayError, PeerProtocolError, Superseded
from tests.engine.edge.driver import Socket, app


@pytest.mark.parametrize(
    ("error", "code"),
    [(None, 1000), (Superseded("newer"), 4409), (PeerProtocolError("x" * 500 + "ä" * 9), 1002)],
)
def test_the_close_code_says_why(error: LanewayError | None, code: int) -> None:
    """And the reason fits into a control frame, whole characters only."""

    async def ending(socket: WebSocket) -> None:
        await socket.close(error)
        await socket.close(error)

    async def main() -> None:
        socket = Socket(app(sockets=[SocketEndpoint("/s", ending, ("laneway.v1",))]), "/s")
        assert (await socket.next())["type"] == "websocket.accept"
        closed = await socket.next()
        assert closed["code"] == code
        assert len(closed["reason"].encode()) <= 123
        await socket.task
        assert socket.outgoing.empty()

    asyncio.run(main())


def test_a_client_that_is_gone_reads_nothing() -> None:
    """receive says None, send a ConnectionError, close nothing; none of it is logged as a bug."""
    seen: list[object] = []

    async def late(socket: WebSocket) -> None:
        seen.append(await socket.receive())
        with pytest.raises(ConnectionError):
            await socket.send(b"late")

    async def main() -> None:
        socket = Socket(app(sockets=[SocketEndpoint("/s", late, ("laneway.v1",))]), "/s")
        await socket.next()
        socket.leave()
        await socket.task
        assert seen == [None]
        assert socket.outgoing.empty()

    asyncio.run(main())
