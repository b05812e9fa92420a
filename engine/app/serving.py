"""Opening edges in front of an engine.

Law of this file: the only place that knows both an edge and the engine. gRPC is loaded by opening
a gRPC edge, the web server by opening an HTTP one, neither by importing this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from laneway.actors.directory.entry import Joined
from laneway.actors.ports import Principal
from laneway.actors.sessions.arrivals import Speaker
from laneway.actors.spans import SpanValue
from laneway.engine.config import AuthConfig, Config
from laneway.engine.edge.agui import AguiPolicy, agui_endpoints
from laneway.engine.edge.answer import SingleAnswers
from laneway.engine.edge.asgi import Asgi, Endpoint, SocketEndpoint
from laneway.engine.edge.auth import Authenticate, JwtAuthenticator, JwtPolicy, no_auth
from laneway.engine.edge.entrance import Handshake, OpenByGet, OpenByPost, ToolList
from laneway.engine.edge.exposure import check_exposure, is_loopback
from laneway.engine.edge.hosting import Hosting
from laneway.engine.edge.jsonframes import JsonFrames
from laneway.engine.edge.origins import Origins
from laneway.engine.edge.posts import GrantPost, SendPost
from laneway.engine.edge.probes import Alive, Metrics, Ready
from laneway.engine.edge.sockets import SUBPROTOCOLS, SessionSocket
from laneway.engine.edge.sse import EventLinks, EventStreams
from laneway.engine.edge.stream import StreamPolicy
from laneway.engine.edge.streams import Streams
from laneway.engine.edge.tickets import Tickets
from laneway.engine.frames import Frames
from laneway.engine.tls import Tls
from laneway.routing.envelope import Envelope
from laneway.routing.errors import ConfigError, Draining, LanewayError, RuntimeUnavailable, StoreUnavailable
from laneway.routing.handshake import Hello

if TYPE_CHECKING:
    from laneway.engine.app.engine import Engine
    from laneway.engine.edge.grpc import GrpcEdge
    from laneway.engine.edge.http import HttpEdge

__all__ = ["Edge", "EngineGateway", "grpc_options", "http_options", "make_asgi", "open_grpc", "open_http"]


_SOON_MS: Final = 1000
_STREAM: Final = "/v1/stream"
_ROOM_BYTES: Final = 65_536
"""Above the largest frame: ours is the error that explains."""
_SIGNATURES: Final = ("EdDSA", "ES256", "RS256")


class Edge(Protocol):
    """What an engine asks of an edge when it closes."""

    async def drain(self, grace_s: float) -> None:
        """Let streams leave, end them after `grace_s`, stop."""
        ...


class EngineGateway:
    """The engine as an edge sees it (`edge.gateway.Gateway`)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def attach(self, hello: Hello, principal: Principal, origin: Mapping[str, SpanValue] = {}) -> Joined:
        """Open or resume a link."""
        return await self._engine.entry.attach(hello, principal, origin)

    async def ingest(self, session: str, speaker: Speaker, envelopes: Sequence[Envelope]) -> None:
        """Take events in beside a link."""
        await self._engine.entry.ingest(session, speaker, envelopes)

    async def call(self, name: str, header: Mapping[str, Any], items: Sequence[bytes], principal: Principal) -> Any:
        """Answer one unary question."""
        return await self._engine.calls(name, header, items, principal)


def grpc_options(config: Config) -> dict[str, Any]:
    """Return the options of `Engine.serve_grpc` that the configuration asks for.

    Raises ConfigError for keys that cannot be read or used.
    """
    edge = config.edge
    return {
        "host": f"[{edge.grpc.host}]" if ":" in edge.grpc.host else edge.grpc.host,
        "port": edge.grpc.port,
        "max_connection_age_s": edge.max_connection_age_s,
        **_common(config),
    }


def http_options(config: Config) -> dict[str, Any]:
    """Return the options of `Engine.serve_http` that the configuration asks for; as `grpc_options`."""
    edge = config.edge
    agui = AguiPolicy(edge.agents, edge.on_disconnect, stall_s=edge.stall_s)
    return {
        "host": edge.http.host,
        "port": edge.http.port,
        "origins": edge.origins,
        "agui": agui,
        **_common(config),
    }


def _common(config: Config) -> dict[str, Any]:
    edge, limits = config.edge, config.limits
    tls = None
    if edge.tls_cert is not None and edge.tls_key is not None:
        tls = Tls(edge.tls_cert, edge.tls_key, edge.tls_client_ca)
    return {
        "tls": tls,
        "insecure": edge.insecure,
        "max_streams": edge.max_streams,
        "max_streams_per_principal": edge.max_streams_per_principal,
        "stream": StreamPolicy(hello_s=edge.hello_s, stall_s=edge.stall_s, limits=limits.codec()),
        "authenticate": _authenticate(config.auth),
    }


def _authenticate(auth: AuthConfig) -> Authenticate:
    if auth.mode == "none":
        return no_auth
    try:
        keys: dict[str, str | bytes] = {kid: path.read_bytes() for kid, path in auth.public_keys.items()}
    except OSError as error:
        raise ConfigError(f"the JWT key {error.filename} cannot be read: {error.strerror}") from error
    if auth.secret is not None:
        keys[""] = auth.secret.get_secret_value()
    algorithms = auth.algorithms or (("HS256",) if auth.secret is not None else _SIGNATURES)
    return JwtAuthenticator(
        keys,
        JwtPolicy(
            auth.audience,
            auth.issuer,
            algorithms=algorithms,
            leeway_s=auth.leeway_s,
            max_lifetime_s=auth.max_lifetime_s,
            tenant_claim=auth.tenant_claim,
            scope_claim=auth.scope_claim,
        ),
    )


async def open_grpc(engine: Engine, options: Mapping[str, Any]) -> GrpcEdge:
    """Start a gRPC edge; `options` are fields of GrpcPolicy and `authenticate`."""
    from laneway.engine.edge.grpc import GrpcEdge, GrpcPolicy

    fields = dict(options)
    authenticate = fields.pop("authenticate", no_auth)
    edge = GrpcEdge(
        EngineGateway(engine),
        kinds=engine.kinds,
        clock=engine.clock,
        policy=GrpcPolicy(**fields),
        authenticate=authenticate,
        traffic=engine.telemetry.traffic["grpc"],
    )
    await edge.start()
    return edge


async def open_http(
    engine: Engine,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: Tls | None = None,
    insecure: bool = False,
    authenticate: Authenticate = no_auth,
    stream: StreamPolicy | None = None,
    **options: Any,
) -> HttpEdge:
    """Start an HTTP edge; `options` are those of `make_asgi`. Raises ConfigError."""
    check_exposure(host, tls, authenticate, insecure=insecure)
    from laneway.engine.edge.http import HttpEdge, HttpPolicy

    app = make_asgi(engine, authenticate=authenticate, local=is_loopback(host), stream=stream, **options)
    message_bytes = (stream or StreamPolicy()).limits.frame_bytes + _ROOM_BYTES
    edge = HttpEdge(app, HttpPolicy(host, port, tls, message_bytes))
    await edge.start()
    return edge


def make_asgi(
    engine: Engine,
    *,
    authenticate: Authenticate = no_auth,
    local: bool | None = None,
    origins: Sequence[str] = (),
    max_streams: int = 20_000,
    max_streams_per_principal: int = 20_000,
    stream: StreamPolicy | None = None,
    agui: AguiPolicy | None = None,
) -> Asgi:
    """Return the ASGI application of an engine.

    Args:
        local: serve this machine only, and its names; default: if nobody is authenticated.
        origins: of web pages that may use it, beside its own.
        max_streams, max_streams_per_principal, stream: as for gRPC, and counted apart from it.
        agui: how AG-UI runs are served.
    """
    policy = stream or StreamPolicy()
    traffic = engine.telemetry.traffic["http"]
    streams = Streams(max_streams, max_streams_per_principal, traffic=traffic)
    tickets = Tickets(engine.clock)
    gateway = EngineGateway(engine)
    frames = JsonFrames(engine.kinds, engine.clock, policy.limits)
    packed = Frames(engine.kinds, engine.clock.now, policy.limits)
    hosting = Hosting(gateway, engine.clock, streams, policy)
    return Asgi(
        [
            *_session_routes(engine, hosting, frames, tickets, policy),
            *_service_routes(engine, gateway, streams),
            *agui_endpoints(gateway, streams, agui or AguiPolicy()),
        ],
        [SocketEndpoint(_STREAM, SessionSocket(hosting, packed, frames), SUBPROTOCOLS)],
        tickets=tickets,
        origins=Origins(origins, local=authenticate is no_auth if local is None else local),
        streams=streams,
        authenticate=authenticate,
        limits=policy.limits,
        traffic=traffic,
    )


def _session_routes(
    engine: Engine, hosting: Hosting, frames: JsonFrames, tickets: Tickets, policy: StreamPolicy
) -> list[Endpoint]:
    links = EventLinks()
    events = EventStreams(hosting, frames, links)
    answers = SingleAnswers(hosting, frames)
    plans = engine.config.session_policy().link
    return [
        Endpoint("GET", _STREAM, OpenByGet(events)),
        Endpoint("POST", _STREAM, OpenByPost(events, answers, frames)),
        Endpoint("POST", f"{_STREAM}/{{link}}/grant", GrantPost(links)),
        Endpoint("POST", f"{_STREAM}/{{link}}/send", SendPost(hosting.gateway, frames, links)),
        Endpoint("POST", "/v1/handshake", Handshake(plans, policy.limits, tickets, frozenset({_STREAM}))),
    ]


def _service_routes(engine: Engine, gateway: EngineGateway, streams: Streams) -> list[Endpoint]:
    return [
        Endpoint("GET", "/v1/tools", ToolList(gateway)),
        Endpoint("GET", "/healthz", Alive(), public=True),
        Endpoint(
            "GET", "/readyz", Ready(streams, lambda: _trouble(engine), lambda: engine.overload.level), public=True
        ),
        Endpoint("GET", "/metrics", Metrics(engine.metrics)),
    ]


def _trouble(engine: Engine) -> LanewayError | None:
    """Return why a client sent here now would not be served, or None. O(sessions awake)."""
    state = engine.state
    if engine.cluster is not None and (trouble := engine.cluster.trouble) is not None:
        return trouble
    if state == "recovering":
        return RuntimeUnavailable("what a former process left is being taken up", retry_after_ms=_SOON_MS)
    if state != "running":
        return Draining(f"this engine is {state}", retry_after_ms=_SOON_MS)
    if not all(home.healthy for home in engine.directory.homes()):
        return StoreUnavailable("the log cannot be written", retry_after_ms=_SOON_MS)
    return None
