"""The HTTP edge as a bare ASGI application: from a scope to a route, for any server.

Law of this file: in this order and before a route sees anything: the request's form, host and
origin, path and method, room, credentials. Every error is our JSON; a bug in a route is logged here
and told as HANDLER_FAILED. No framework: a request costs one look-up.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from laneway.actors.ports import Principal
from laneway.engine.edge.auth import Authenticate, authenticated, no_auth
from laneway.engine.edge.exchange import ABORT, Exchange, Receive, Route, Scope, Send
from laneway.engine.edge.origins import Origins
from laneway.engine.edge.request import Request
from laneway.engine.edge.status import wire_status
from laneway.engine.edge.streams import Streams
from laneway.engine.edge.tickets import Tickets
from laneway.engine.edge.traffic import Traffic
from laneway.engine.edge.websocket import SocketRoute, WebSocket
from laneway.engine.limits import DEFAULT_LIMITS, Limits
from laneway.routing.errors import HandlerFailed, LanewayError, PeerProtocolError

__all__ = ["Asgi", "Endpoint", "SocketEndpoint"]

_log: Final = logging.getLogger(__name__)
_FULL_REFUSAL: Final = "websocket.http.response"


class Endpoint(NamedTuple):
    """One method of one path.

    Attributes:
        method: upper case; GET answers HEAD too.
        path: such as ``/v1/stream/{link}/grant``; a placeholder is one segment.
        public: served without credentials.
    """

    method: str
    path: str
    route: Route
    public: bool = False


class SocketEndpoint(NamedTuple):
    """One path that upgrades to WebSocket.

    Attributes:
        subprotocols: what is spoken here; a client must offer one of them.
    """

    path: str
    route: SocketRoute
    subprotocols: tuple[str, ...]


class Asgi:
    """An ASGI application; serve it, or mount it below any path of another one.

    Args:
        routes, sockets: what is served.
        authenticate: hook from request headers to principal; `no_auth` is for loopback.
        tickets: stand in for headers in URLs of GET requests and upgrades.
        origins: which pages and names may use it.
        streams: the book of live streams, shared by the routes.
        limits: of JSON documents. body_s: how long a request's body may take.
        traffic: counts bytes and refusals.
    """

    def __init__(
        self,
        routes: Iterable[Endpoint],
        sockets: Iterable[SocketEndpoint] = (),
        *,
        tickets: Tickets,
        origins: Origins,
        streams: Streams,
        authenticate: Authenticate = no_auth,
        limits: Limits = DEFAULT_LIMITS,
        body_s: float = 30.0,
        traffic: Traffic | None = None,
    ) -> None:
        self.streams = streams
        self._authenticate = authenticate
        self._tickets = tickets
        self._origins = origins
        self._limits = limits
        self._body_s = body_s
        self._traffic = traffic
        self._exact: dict[str, dict[str, Endpoint]] = {}
        self._patterns: list[tuple[tuple[str, ...], dict[str, Endpoint]]] = []
        self._sockets = {endpoint.path: endpoint for endpoint in sockets}
        for endpoint in routes:
            self._add(endpoint)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if self._traffic is not None and scope["type"] != "lifespan":
            receive, send = self._traffic.counted(receive, send)
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)

    def refused(self, error: LanewayError) -> None:
        """Count an error that a client was answered with; the server tells those that it refuses itself."""
        if self._traffic is not None:
            self._traffic.answered(error, wire_status(error).http)

    async def drain(self, grace_s: float) -> None:
        """Take no more streams, ask the live ones to leave, end them after `grace_s`."""
        await self.streams.drain(grace_s)

    # ---- requests -------------------------------------------------------------------------------

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request.unread(scope)
        exchange = Exchange(
            request,
            receive,
            send,
            limits=self._limits,
            body_s=self._body_s,
            abort=_abort(scope),
            refused=self.refused,
        )
        try:
            request.read(scope)
            exchange.add_headers(self._origins.shared(request))
            await self._answer(exchange)
        except LanewayError as error:
            await self._fail(exchange, error)
        except ConnectionError:  # the client left; whatever it began goes on
            return
        except Exception:
            _log.exception("%s %s failed", request.method, request.path)
            await self._fail(exchange, HandlerFailed("the engine failed on this request; see its log"))
        finally:
            await exchange.close()

    async def _answer(self, exchange: Exchange) -> None:
        request = exchange.request
        methods, params = self._find(request.path)
        if request.method == "OPTIONS" and "access-control-request-method" in request.headers:
            await exchange.respond(204, self._origins.preflight(request, methods))
            return
        self._origins.check(request)
        if not methods:
            raise PeerProtocolError(
                f"there is no {request.path[:200]!r} here; there are {', '.join(sorted(self._exact))}",
                reason="NO_ROUTE",
            )
        endpoint = methods.get("GET" if request.method == "HEAD" else request.method)
        if endpoint is None:
            exchange.add_headers({"allow": ", ".join(sorted(methods))})
            raise PeerProtocolError(f"{request.path[:200]} takes {', '.join(sorted(methods))}", reason="METHOD")
        request.params = params
        if not endpoint.public:
            exchange.principal = await self._principal(request)
        await endpoint.route(exchange)
        if not exchange.started:
            raise HandlerFailed("the engine did not answer this request; see its log")
        await exchange.finish()

    async def _fail(self, exchange: Exchange, error: LanewayError) -> None:
        try:
            if exchange.started:  # too late for a status: the peer sees a body that ends early
                exchange.abort()
            else:
                await exchange.fail(error)
        except ConnectionError:
            return

    async def _principal(self, request: Request) -> Principal:
        ticket = request.query.get("ticket")
        if ticket is not None and request.method in ("GET", "WEBSOCKET"):
            return self._tickets.redeem(ticket, request.path)
        return await authenticated(self._authenticate, request.headers)

    # ---- upgrades -------------------------------------------------------------------------------

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request.unread(scope)
        socket = WebSocket(request, receive, send, abort=_abort(scope))
        try:
            request.read(scope)
            self._origins.check(request)
            endpoint = self._sockets.get(request.path)
            if endpoint is None:
                raise PeerProtocolError(f"no WebSocket is served at {request.path[:200]!r}", reason="NO_ROUTE")
            chosen = next((name for name in request.subprotocols if name in endpoint.subprotocols), None)
            if chosen is None:
                known = ", ".join(endpoint.subprotocols)
                raise PeerProtocolError(f"offer one of the subprotocols {known}", reason="NO_SUBPROTOCOL")
        except LanewayError as error:
            self.refused(error)
            await socket.refuse(error, full=_FULL_REFUSAL in scope.get("extensions", {}))
            return
        await self._converse(socket, endpoint, chosen)

    async def _converse(self, socket: WebSocket, endpoint: SocketEndpoint, subprotocol: str) -> None:
        """Accept first: a page sees a close code, but not the status of a failed upgrade."""
        error: LanewayError | None = None
        try:
            await socket.accept(subprotocol)
            try:
                socket.principal = await self._principal(socket.request)
            except LanewayError as refusal:
                self.refused(refusal)
                raise
            await endpoint.route(socket)
        except LanewayError as failure:
            error = failure
        except ConnectionError:
            return
        except Exception:
            _log.exception("WebSocket %s failed", socket.request.path)
            error = HandlerFailed("the engine failed on this socket; see its log")
        await socket.close(error)

    # ---- routes ---------------------------------------------------------------------------------

    def _add(self, endpoint: Endpoint) -> None:
        if "{" not in endpoint.path:
            self._exact.setdefault(endpoint.path, {})[endpoint.method] = endpoint
            return
        segments = tuple(endpoint.path.split("/"))
        for known, methods in self._patterns:
            if known == segments:
                methods[endpoint.method] = endpoint
                return
        self._patterns.append((segments, {endpoint.method: endpoint}))

    def _find(self, path: str) -> tuple[Mapping[str, Endpoint], Mapping[str, str]]:
        """Return the methods of a path, none if there is no such path, and its placeholders' values."""
        found = self._exact.get(path)
        if found is not None:
            return found, {}
        given = path.split("/")
        for segments, methods in self._patterns:
            params = _matched(segments, given)
            if params is not None:
                return methods, params
        return {}, {}


def _matched(segments: tuple[str, ...], given: list[str]) -> dict[str, str] | None:
    if len(segments) != len(given):
        return None
    params = {}
    for wanted, got in zip(segments, given, strict=True):
        if wanted.startswith("{") and got:
            params[wanted[1:-1]] = got
        elif wanted != got:
            return None
    return params


def _abort(scope: Scope) -> Any:
    return (scope.get("extensions") or {}).get(ABORT)


async def _lifespan(receive: Receive, send: Send) -> None:
    """The engine is started and closed by its owner: nothing to do, but servers want to hear it."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
