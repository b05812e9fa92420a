"""One WebSocket as a route is given it, over ASGI.

Law of this file: before the upgrade a refusal is an HTTP answer; after it a close code of
`status.py` with the error's sentence, cut to what a close frame holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from laneway.actors.ports import Principal
from laneway.engine.edge.exchange import Receive, Send, error_document
from laneway.engine.edge.request import Request
from laneway.engine.edge.status import wire_status
from laneway.routing.errors import LanewayError

__all__ = ["SocketRoute", "WebSocket"]

_REASON_BYTES: Final = 123
"""RFC 6455 section 5.5: a control frame holds 125 bytes, two are the code."""
_LAST_S: Final = 1.0
_NORMAL: Final = 1000


class SocketRoute(Protocol):
    """What serves upgraded connections of one path."""

    async def __call__(self, socket: WebSocket) -> None:
        """Serve an accepted socket until it is over."""
        ...


class WebSocket:
    """A connection and what it may say.

    Args:
        request: checked already.
        receive, send: ASGI callables.
        abort: resets the connection; None if the server has no such thing.

    Attributes:
        principal: who speaks; set by the application before the route is called.
        subprotocol: what was agreed.
    """

    def __init__(
        self, request: Request, receive: Receive, send: Send, *, abort: Callable[[], None] | None = None
    ) -> None:
        self.request = request
        self.principal = Principal("")
        self.subprotocol = ""
        self._receive = receive
        self._send = send
        self._abort = abort
        self._over = False

    async def accept(self, subprotocol: str) -> None:
        """Upgrade. Raises ConnectionError if the client is gone."""
        if (await self._receive())["type"] != "websocket.connect":
            raise ConnectionError("the client left before the upgrade")
        self.subprotocol = subprotocol
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol})

    async def refuse(self, error: LanewayError, *, full: bool) -> None:
        """Answer instead of an upgrade; `full` = the server can send a status other than 403, and a body."""
        await self._receive()
        self._over = True
        if not full:
            await self._send({"type": "websocket.close"})
            return
        from pydantic_core import to_json

        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
        status = wire_status(error).http
        await self._send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await self._send({"type": "websocket.http.response.body", "body": to_json(error_document(error))})

    async def receive(self) -> bytes | str | None:
        """Return the next message, or None when there will be no more."""
        message = await self._receive()
        if message["type"] != "websocket.receive":
            self._over = True
            return None
        text, data = message.get("text"), message.get("bytes")
        return text if text is not None else bytes(data or b"")

    async def send(self, message: bytes | str) -> None:
        """Send one message; waits while the client does not read. Raises ConnectionError when it is gone."""
        if self._over:
            raise ConnectionError("the socket is gone")
        try:
            if isinstance(message, str):
                await self._send({"type": "websocket.send", "text": message})
            else:
                await self._send({"type": "websocket.send", "bytes": message})
        except (OSError, RuntimeError) as error:  # servers differ in how they say that it is closed
            raise ConnectionError("the socket is gone") from error

    async def close(self, error: LanewayError | None = None) -> None:
        """Close with the code of an error, or normally; a client that does not read is cut off."""
        if self._over:
            return
        self._over = True
        code = _NORMAL if error is None else wire_status(error).ws
        reason = "" if error is None else error.message
        cut = reason.encode()[:_REASON_BYTES].decode("utf-8", "ignore")
        try:
            async with asyncio.timeout(_LAST_S):
                await self._send({"type": "websocket.close", "code": code, "reason": cut})
        except (OSError, RuntimeError):  # gone already
            return
        except TimeoutError:
            if self._abort is not None:
                self._abort()
