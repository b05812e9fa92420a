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
from collections.abc import Callable
from typing import Any, Final

import httptools
from pydantic_core import to_json
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from laneway.engine.edge.bounds import Bounds, ConnectionBook, Stall, keep_kernel_lean
from laneway.engine.edge.exchange import ABORT, error_document
from laneway.engine.edge.status import wire_status
from laneway.routing.errors import LanewayError, Overloaded, PeerProtocolError

__all__ = ["Connection", "SocketConnection"]

_PHRASES: Final = {400: b"Bad Request", 408: b"Request Timeout", 413: b"Content Too Large", 414: b"URI Too Long"} | {
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}
_UPGRADING: Final = frozenset({b"connection", b"http2-settings", b"upgrade"})
_LINGER_S: Final = 1.0
"""How long the answer to a refused connection may take to be read."""
_UPGRADE_LINE_BYTES: Final = 8_100
"""websockets reads header lines of 8,192 bytes (http11.MAX_LINE_LENGTH), and fails without an answer above."""


class _Answering:
    """What one request's answer is written to: the connection, which knows how to end."""

    __slots__ = ("_end", "is_closing", "write")

    def __init__(self, transport: asyncio.Transport, end: Callable[[], None]) -> None:
        self.write, self.is_closing = transport.write, transport.is_closing
        self._end = end

    def close(self) -> None:
        self._end()


class Connection(HttpToolsProtocol):
    """One HTTP/1.1 connection."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._book: ConnectionBook = options["server_state"]
        self.logger = self.access_logger = self._book.silent
        self.access_log = False
        self._bounds: Bounds = self._book.bounds
        self._refusal: LanewayError = PeerProtocolError("this is not HTTP/1.1", reason="NOT_HTTP")
        self._deadline: asyncio.TimerHandle | None = None
        self._in_head = True
        self._over = False
        self._seen_bytes = self._head_bytes = 0
        self._cycles: list[RequestResponseCycle] = []

    @property
    def _waiting(self) -> list[RequestResponseCycle]:
        """The requests without a whole answer, in their order; uvicorn itself knows the last one only."""
        return [cycle for cycle in self._cycles if not cycle.response_complete]

    # ---- life -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it, and expect headers soon."""
        super().connection_made(transport)
        self._stall = Stall(transport, self._bounds.stall_s)
        keep_kernel_lean(transport, self._bounds.stall_s)
        if len(self.connections) > self._bounds.connections:
            self._book.refused(Overloaded(f"all {self._bounds.connections} connections are taken"))
            transport.abort()
            return
        self._within(self._bounds.head_s, self._slow_headers)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget its timers, and tell every request."""
        for cycle in self._waiting:
            cycle.disconnected = True
            cycle.message_event.set()
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
        self._unset_keepalive_if_required()
        self._feed(data)
        if self.transport.is_closing():
            return
        if self._in_head and self._seen_bytes > self._bounds.head_bytes:
            self._refuse("HEADERS_TOO_LARGE", f"the headers are over {self._bounds.head_bytes} bytes")
        elif self._seen_bytes > self._bounds.message_bytes:
            self._refuse("TOO_LARGE", f"the request is over {self._bounds.message_bytes} bytes")
        elif self._deadline is None and self._in_head and not self._waiting:
            self._within(self._bounds.head_s, self._slow_headers)  # blank lines: they end uvicorn's keep-alive

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("")
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            else:
                self._stay(data[upgrade.args[0] :])

    def _stay(self, rest: bytes) -> None:
        """Read the request again as if it had asked for no upgrade: the parser skips the body of one that did.

        curl --http2 and Java's HttpClient ask for h2c with each first request.
        """
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        lines += [b"%s: %s" % pair for pair in self.headers if pair[0] not in _UPGRADING]
        if any(name == b"connection" and b"close" in value.lower() for name, value in self.headers):
            lines.append(b"connection: close")
        self.parser = httptools.HttpRequestParser(self)
        self._feed(b"\r\n".join([*lines, b"", rest]))

    @property
    def _stays(self) -> bool:
        return self.parser.should_upgrade() and not self._should_upgrade()

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
        self._within(self._bounds.body_s, self._slow_body)
        if self.parser.get_method() == b"CONNECT":
            raise ValueError("no tunnels here")
        if self._stays:
            return
        before = self.cycle
        super().on_headers_complete()
        self._in_head = False
        if self.cycle is not before:
            transport: Any = _Answering(self.transport, self._end)
            self.cycle.transport = transport
            self._cycles = [*self._waiting, self.cycle]
            if len(self._cycles) > self._bounds.pipelined:
                raise ValueError("too many requests at once")

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._stays:
            return
        self._within(0.0, None)
        self._seen_bytes, self._in_head = 0, True
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Hand over to the WebSocket protocol; an upgrade is a GET, and the first thing that waits for an answer."""
        self._within(0.0, None)
        if self._waiting:
            self.transport.abort()
            return
        if self.scope["method"] != "GET":
            self._refuse("NOT_HTTP", "an upgrade to WebSocket is a GET")
            return
        if any(len(name) + len(value) > _UPGRADE_LINE_BYTES for name, value in self.headers):
            self._refuse("HEADERS_TOO_LARGE", f"a header of an upgrade is over {_UPGRADE_LINE_BYTES} bytes")
            return
        self._stall.stop()
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        """End the connection with the refusal, if no answer has begun that it would break into."""
        waiting = self._waiting
        if waiting and (self._in_head or len(waiting) > 1 or waiting[0].response_started):
            self.transport.abort()
            return
        if self._in_head or waiting:  # else: answered before its end
            self._tell_refusal()
        self._linger()
        for cycle in waiting:
            cycle.disconnected = True
            cycle.message_event.set()

    def _tell_refusal(self) -> None:
        """Answer in our own shape what the parser refuses."""
        self._book.refused(self._refusal)
        body = to_json(error_document(self._refusal))
        status = wire_status(self._refusal).http
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
            % (status, _PHRASES.get(status, b"Bad Request"), len(body), body)
        )

    def _refuse(self, reason: str, message: str) -> None:
        if not self._over:
            self._refusal = PeerProtocolError(message, reason=reason)
            self.send_400_response(message)

    def _end(self) -> None:
        """The last answer is written."""
        if self._in_head:
            self.transport.close()
        else:
            self._linger()

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
        self._stall = Stall(transport, self._bounds.stall_s)

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
