"""The connections of our own HTTP server: uvicorn's, with bounds where it has none.

Law of this file: whatever a peer sends or does not read costs bounded memory and a bounded time:
headers and bodies have byte limits and deadlines, unread answers a deadline, WebSocket messages a
number of fragments. What uvicorn would log is not logged: URLs hold tickets, and peers may not
write our log; bugs are logged by the application.

uvicorn 0.54 (read, and measured in tests/engine/edge/test_connection.py): no limit on header
bytes or on header, body and write times; empty WebSocket fragments gather for ever, and so do
pongs for a peer that does not read.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Final

from pydantic_core import to_json
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from laneway.engine.edge.exchange import ABORT, error_document
from laneway.engine.edge.status import wire_status
from laneway.routing.errors import LanewayError, PeerProtocolError

__all__ = ["Bounds", "Connection", "ConnectionBook", "SocketConnection"]

_PHRASES: Final = {400: b"Bad Request", 408: b"Request Timeout", 413: b"Content Too Large", 414: b"URI Too Long"} | {
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}
_LINGER_S: Final = 1.0
"""How long the answer to a refused connection may take to be read."""
_UPGRADE_LINE_BYTES: Final = 8_100
"""websockets reads header lines of 8,192 bytes (http11.MAX_LINE_LENGTH), and fails without an answer above."""
_UNSENT_BYTES: Final = 65_536
"""What the kernel may hold of a connection and has not sent: an urgent frame waits behind no more."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one connection may cost.

    Attributes:
        connections: open at once.
        head_bytes: request line and headers together; url_bytes: the request line's target; headers: how many.
        message_bytes: one request with everything around its body (chunk sizes, trailers).
        head_s: until the headers are complete, from the first byte or from the connect.
        body_s: until the body is complete, whether anybody reads it or not.
        stall_s: an answer of which nothing was read for so long is cut off.
        fragments: of one WebSocket message.
    """

    connections: int = 25_000
    head_bytes: int = 16_384
    url_bytes: int = 4_096
    headers: int = 100
    message_bytes: int = 2_621_440
    head_s: float = 10.0
    body_s: float = 35.0
    stall_s: float = 30.0
    fragments: int = 1_024


class _Silent(logging.Logger):
    """uvicorn asks for a logger; nothing of a peer goes through it."""

    def __init__(self) -> None:
        super().__init__("silent", logging.CRITICAL + 1)


class ConnectionBook(ServerState):
    """The connections and tasks of one server, as uvicorn's protocols keep them.

    Attributes:
        empty: set each time the last connection has left.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.silent = _Silent()
        self.empty = asyncio.Event()
        self._second = 0
        self._date: list[tuple[bytes, bytes]] = []
        super().__init__()

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """The Date header, made once a second."""
        second = int(time.time())
        if second != self._second:
            self._second, self._date = second, [(b"date", formatdate(second, usegmt=True).encode())]
        return self._date

    @default_headers.setter
    def default_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        return

    def left(self) -> None:
        """A connection is gone."""
        if not self.connections:
            self.empty.set()


class _Stall:
    """Cuts a transport off of which nothing is read for a while."""

    __slots__ = ("_left", "_pause_s", "_timer", "_transport")

    def __init__(self, transport: asyncio.Transport, pause_s: float) -> None:
        self._transport = transport
        self._pause_s = pause_s
        self._left = 0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Something waits to be read."""
        if self._timer is None:
            self._left = self._transport.get_write_buffer_size()
            self._timer = asyncio.get_running_loop().call_later(self._pause_s, self._look)

    def stop(self) -> None:
        """The connection is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        size = self._transport.get_write_buffer_size()
        if size and size >= self._left:
            self._transport.abort()
        elif size:
            self.watch()


class Connection(HttpToolsProtocol):
    """One HTTP/1.1 connection."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._book: ConnectionBook = options["server_state"]
        self.logger = self.access_logger = self._book.silent
        self.access_log = False
        self._bounds = self._book.bounds
        self._refusal: LanewayError = PeerProtocolError("this is not HTTP/1.1", reason="NOT_HTTP")
        self._deadline: asyncio.TimerHandle | None = None
        self._in_head = True
        self._over = False
        self._seen_bytes = self._head_bytes = 0

    # ---- life -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it, and expect headers soon."""
        super().connection_made(transport)
        self._stall = _Stall(transport, self._bounds.stall_s)
        _keep_kernel_lean(transport)
        if len(self.connections) > self._bounds.connections:
            transport.abort()
            return
        self._within(self._bounds.head_s, self._slow_headers)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget its timers."""
        self._within(0.0, None)
        self._stall.stop()
        super().connection_lost(exc)
        self._book.left()

    def _within(self, pause_s: float, otherwise: Callable[[], None] | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if otherwise is None else self.loop.call_later(pause_s, otherwise)

    def _slow_headers(self) -> None:
        if self._seen_bytes:
            self._refuse("SLOW_HEADERS", f"the headers did not come within {self._bounds.head_s:g} s")
        else:
            self.transport.abort()

    def _slow_body(self) -> None:
        self.transport.abort()

    # ---- in -------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Feed the parser, within the limits of one request."""
        if self._over:
            return
        self._seen_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head and self._seen_bytes > self._bounds.head_bytes:
            self._refuse("HEADERS_TOO_LARGE", f"the headers are over {self._bounds.head_bytes} bytes")
        elif self._seen_bytes > self._bounds.message_bytes:
            self._refuse("TOO_LARGE", f"the request is over {self._bounds.message_bytes} bytes")

    def on_message_begin(self) -> None:
        """A request begins: its headers are due."""
        super().on_message_begin()
        scope: Any = self.scope
        scope["extensions"] = {ABORT: self.transport.abort}
        self._in_head, self._head_bytes = True, 0
        self._within(self._bounds.head_s, self._slow_headers)

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        super().on_url(url)
        if len(self.url) > self._bounds.url_bytes:
            self._refusal = PeerProtocolError(f"the URL is over {self._bounds.url_bytes} bytes", reason="URL_TOO_LONG")
            raise ValueError("URL too long")  # ends the parser, which ends in `send_400_response`

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header (or trailer)."""
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > self._bounds.head_bytes or len(self.headers) >= self._bounds.headers:
            self._refusal = PeerProtocolError(
                f"over {self._bounds.head_bytes} bytes or {self._bounds.headers} headers", reason="HEADERS_TOO_LARGE"
            )
            raise ValueError("headers too large")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The body is due."""
        self._in_head = False
        self._within(self._bounds.body_s, self._slow_body)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._within(0.0, None)
        self._seen_bytes, self._in_head = 0, True
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Hand over to the WebSocket protocol; an upgrade is a GET."""
        self._within(0.0, None)
        if self.scope["method"] != "GET":
            self._refuse("NOT_HTTP", "an upgrade to WebSocket is a GET")
            return
        if any(len(name) + len(value) > _UPGRADE_LINE_BYTES for name, value in self.headers):
            self._refuse("HEADERS_TOO_LARGE", f"a header of an upgrade is over {_UPGRADE_LINE_BYTES} bytes")
            return
        self._stall.stop()
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser refuses, in our own shape."""
        body = to_json(error_document(self._refusal))
        status = wire_status(self._refusal).http
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
            % (status, _PHRASES.get(status, b"Bad Request"), len(body), body)
        )
        self._linger()

    def _refuse(self, reason: str, message: str) -> None:
        """End the connection with an error, if no answer has begun that it would break into."""
        if self._over:
            return
        self._refusal = PeerProtocolError(message, reason=reason)
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or (self._in_head and cycle.response_complete):
            self.send_400_response("")
        elif cycle.response_complete:  # answered before its end
            self._linger()
        elif self._in_head or cycle.response_started:  # an answer would stand inside another one
            self.transport.abort()
        else:
            self.send_400_response("")
            cycle.disconnected = True
            cycle.message_event.set()

    def _linger(self) -> None:
        """End the connection: closed at once, with input unread, the kernel would throw the answer away."""
        self._over = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._within(_LINGER_S, self.transport.abort)

    # ---- out ------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """The peer does not keep up."""
        super().pause_writing()
        self._stall.watch()

    def on_response_complete(self) -> None:
        """The last byte of an answer must be read too."""
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._stall.watch()


class SocketConnection(WebSocketsSansIOProtocol):
    """One WebSocket connection."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._book: ConnectionBook = options["server_state"]
        self._bounds = self._book.bounds
        self._fragments = 0
        self.logger = self.conn.logger = self._book.silent
        self.conn.debug = False

    def connection_made(self, transport: Any) -> None:
        """Watch whether the peer reads."""
        super().connection_made(transport)
        self._stall = _Stall(transport, self._bounds.stall_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._stall.stop()
        super().connection_lost(exc)
        self._book.left()

    def handle_connect(self, event: Any) -> None:
        """Begin the upgrade."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            extensions: Any = self.scope["extensions"]
            extensions[ABORT] = self.transport.abort  # the application's task has not run yet

    def handle_cont(self, event: Any) -> None:
        """Take a fragment; a message has a bounded number of them."""
        self._fragments = 0 if event.fin else self._fragments + 1
        if self._fragments > self._bounds.fragments:
            self.conn.fail(1009, f"over {self._bounds.fragments} fragments in one message")
            self.handle_parser_exception()
            return
        super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer, unless the peer does not read: then a later ping gets its answer."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def pause_writing(self) -> None:
        """The peer does not keep up."""
        super().pause_writing()
        self._stall.watch()


def _keep_kernel_lean(transport: asyncio.Transport) -> None:
    """Let the kernel take little more than it can send; where that cannot be said, credit still bounds it."""
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    raw = transport.get_extra_info("socket")
    if option is None or raw is None or raw.family not in (socket.AF_INET, socket.AF_INET6):
        return
    try:
        raw.setsockopt(socket.IPPROTO_TCP, option, _UNSENT_BYTES)
    except OSError:  # not on this system
        return
