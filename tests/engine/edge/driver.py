"""An ASGI server in memory: requests and sockets by hand, without a port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, NamedTuple

from laneway.engine.edge.asgi import Asgi, Endpoint, SocketEndpoint
from laneway.engine.edge.auth import Authenticate, no_auth
from laneway.engine.edge.origins import Origins
from laneway.engine.edge.streams import Streams
from laneway.engine.edge.tickets import Tickets
from tests.engine.edge.double import SystemClock

WITHIN_S = 60.0


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def app(
    *routes: Endpoint,
    sockets: Iterable[SocketEndpoint] = (),
    authenticate: Authenticate = no_auth,
    origins: Origins | None = None,
    tickets: Tickets | None = None,
    streams: Streams | None = None,
    **options: Any,
) -> Asgi:
    return Asgi(
        routes,
        sockets,
        tickets=Tickets(SystemClock()) if tickets is None else tickets,
        origins=origins or Origins(local=True),
        streams=Streams(100, 100) if streams is None else streams,
        authenticate=authenticate,
        **options,
    )


def scope(method: str, path: str, headers: Mapping[str, str] | None = None, **more: Any) -> dict[str, Any]:
    path, _, query = path.partition("?")
    fields = {"host": "127.0.0.1:7701", **(headers or {})}
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()],
        "scheme": "http",
        "server": ("127.0.0.1", 7701),
        **more,
    }


class Call:
    """One request in progress: feed the body in parts, read the answer as it comes."""

    def __init__(self, application: Asgi, given: dict[str, Any]) -> None:
        self.incoming: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self.outgoing: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.task = asyncio.create_task(application(given, self.incoming.get, self._send))

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        await self.flowing.wait()
        self.outgoing.put_nowait(message)

    def feed(self, body: bytes, *, more: bool = False) -> None:
        self.incoming.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def leave(self) -> None:
        self.incoming.put_nowait({"type": "http.disconnect"})

    async def next(self) -> MutableMapping[str, Any]:
        async with asyncio.timeout(WITHIN_S):
            return await self.outgoing.get()

    async def answer(self) -> Answer:
        async with asyncio.timeout(WITHIN_S):
            await self.task
        start = self.outgoing.get_nowait()
        body = b""
        while not self.outgoing.empty():
            body += self.outgoing.get_nowait().get("body", b"")
        headers = {name.decode(): value.decode() for name, value in start["headers"]}
        return Answer(start["status"], headers, body)


async def ask(
    application: Asgi,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    **more: Any,
) -> Answer:
    """One request, one answer."""
    call = Call(application, scope(method, path, headers, **more))
    call.feed(body)
    return await call.answer()


class Socket:
    """One WebSocket in memory."""

    def __init__(self, application: Asgi, path: str, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        given = scope("GET", path, headers, subprotocols=["laneway.v1"], extensions={"websocket.http.response": {}})
        given["type"] = "websocket"
        given.update(more)
        del given["method"]
        self.incoming: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self.outgoing: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self.incoming.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.create_task(application(given, self.incoming.get, self._send))

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        self.outgoing.put_nowait(message)

    def give(self, message: bytes | str) -> None:
        key = "text" if isinstance(message, str) else "bytes"
        self.incoming.put_nowait({"type": "websocket.receive", key: message})

    def leave(self) -> None:
        self.incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})

    async def next(self) -> MutableMapping[str, Any]:
        async with asyncio.timeout(WITHIN_S):
            return await self.outgoing.get()
