"""The HTTP edge: our own server for the ASGI application, on one port.

Law of this file: uvicorn's protocols in the running loop, with our bounds (`connection.py`), and
nothing else of it: no signal handlers, no lifespan, no logging, no worker processes. TLS 1.3 only,
proven at start; no listening beyond loopback without TLS and authentication.

Measured (uvicorn bare ASGI, httptools, websockets-sansio without permessage-deflate): 2 us of CPU
an SSE message, 8-15 us a WebSocket echo; other servers need 2 to 10 times that.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Final

import uvicorn

from laneway.engine.edge.asgi import Asgi
from laneway.engine.edge.bounds import Bounds, ConnectionBook
from laneway.engine.edge.connection import Connection, SocketConnection
from laneway.engine.tls import Tls, verify_tls13
from laneway.routing.errors import ConfigError

__all__ = ["HttpEdge", "HttpPolicy"]

_STOP_S: Final = 1.0
_KEEP_ALIVE_S: Final = 5
_TLS_HANDSHAKE_S: Final = 5.0
_BACKLOG: Final = 2048
_PING_S: Final = 20.0
"""Of the WebSocket's own pings; a client that answers none for as long is gone."""


@dataclass(frozen=True, slots=True)
class HttpPolicy:
    """Where and within which bounds the edge serves.

    Attributes:
        host, port: where to listen; port 0 = any free one.
        tls: identity, or None for plain text.
        message_bytes: largest WebSocket message.
        bounds: of one connection.
    """

    host: str = "127.0.0.1"
    port: int = 0
    tls: Tls | None = None
    message_bytes: int = 1_114_112
    bounds: Bounds = field(default_factory=Bounds)


class HttpEdge:
    """An HTTP server in front of an application.

    Args:
        app: what is served; whether it may be served there was checked (`exposure.check_exposure`).
    """

    def __init__(self, app: Asgi, policy: HttpPolicy | None = None) -> None:
        self._app = app
        self._policy = policy or HttpPolicy()
        self._book = ConnectionBook(self._policy.bounds, app.refused)
        self._server: asyncio.Server | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """The port it listens on, 0 before the start."""
        return self._port

    @property
    def streams(self) -> int:
        """Live streams."""
        return len(self._app.streams)

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._book.connections)

    async def start(self) -> int:
        """Listen and return the port.

        Raises ConfigError: a port that is taken, or unusable TLS files.
        """
        policy = self._policy
        config = uvicorn.Config(
            self._app,
            http=Connection,
            ws=SocketConnection,
            lifespan="off",
            interface="asgi3",
            log_config=None,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            ws_max_size=policy.message_bytes,
            ws_per_message_deflate=False,
            ws_ping_interval=_PING_S,
            ws_ping_timeout=_PING_S,
        )
        config.load()
        context = policy.tls.context() if policy.tls is not None else None
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: Connection(config=config, server_state=self._book, app_state={}),
                policy.host,
                policy.port,
                ssl=context,
                ssl_handshake_timeout=_TLS_HANDSHAKE_S if context is not None else None,
                backlog=_BACKLOG,
            )
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {policy.host}:{policy.port}: {error.strerror or error}; is another engine there?"
            ) from error
        self._port = self._server.sockets[0].getsockname()[1]
        if context is not None:
            try:
                await verify_tls13(policy.host, self._port)
            except ConfigError:
                await self.close()
                raise
        return self._port

    async def drain(self, grace_s: float) -> None:
        """Take no more streams, ask the live ones to leave, and stop when they have or after `grace_s`."""
        if self._server is None:
            return
        await self._app.drain(grace_s)
        await self._stop(_STOP_S)  # not at once: the last answers are still on their way

    async def close(self) -> None:
        """Stop now; idempotent. Clients resume."""
        await self._stop(0.0)

    async def _stop(self, grace_s: float) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for connection in list(self._book.connections):
            connection.shutdown()
        if self._book.tasks and grace_s:
            await asyncio.wait(self._book.tasks, timeout=grace_s)
        tasks = list(self._book.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in list(self._book.connections):
            connection.transport.abort()
        if self._book.connections:
            self._book.empty.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STOP_S):
                    await self._book.empty.wait()
        await server.wait_closed()
