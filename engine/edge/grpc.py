"""The gRPC edge: `laneway.v1.Edge` on one port, with health and reflection.

Law of this file: generic handlers on raw bytes (a protobuf object per frame would cost a third of
the throughput), credentials before anything else, typed errors in front of every status, and no
listening beyond loopback without TLS and authentication. All load decisions are the engine's:
the transport's own are switched off where they are random.

Options (measured with grpcio 1.85): `max_pending_requests` is raised because its default refuses
bursts above ~1,000 calls at random; `so_reuseport=0`, since otherwise a second server takes the
same port in silence; compression is off, which also refuses compression bombs; the key that
permits client pings is `min_ping_interval_without_data_ms` (the one with `recv` in it is ignored).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from laneway.actors.ports import Clock, Principal
from laneway.engine.codec import pack_body
from laneway.engine.edge.auth import Authenticate, authenticated, no_auth
from laneway.engine.edge.exposure import check_exposure
from laneway.engine.edge.gateway import Gateway
from laneway.engine.edge.status import rich_status, wire_status
from laneway.engine.edge.stream import SessionStream, StreamPolicy
from laneway.engine.edge.streams import Streams
from laneway.engine.edge.traffic import Traffic
from laneway.engine.frames import Frame, Frames, decode_call, encode_call
from laneway.engine.proto.laneway.v1 import edge_pb2 as _schema
from laneway.engine.proto.message import CALL, SERVICE, SESSION, unwrap, wrap
from laneway.engine.tls import Tls, verify_tls13
from laneway.routing.classify import KindTable
from laneway.routing.envelope import Envelope
from laneway.routing.errors import ConfigError, HandlerFailed, LanewayError, PeerProtocolError

__all__ = ["GrpcEdge", "GrpcPolicy"]

_STATUS_DETAILS: Final = "grpc-status-details-bin"
_ORIGIN: Final = {
    "laneway.transport": "grpc",
    "rpc.system.name": "grpc",
    "rpc.method": f"{SERVICE}/{SESSION}",
}
_STOP_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class GrpcPolicy:
    """Where and within which bounds the edge serves.

    Attributes:
        host, port: where to listen; port 0 = any free one.
        tls: identity, or None for plain text.
        insecure: allow a public address without TLS or without authentication.
        max_streams: streams at once; max_streams_per_principal: likewise, of one (tenant, subject).
        max_streams_per_connection: above it HTTP/2 makes calls wait in the client.
        max_connection_age_s: connections are renewed after it (clients resume); 0 = never.
        stream: bounds of each stream.
    """

    host: str = "127.0.0.1"
    port: int = 0
    tls: Tls | None = None
    insecure: bool = False
    max_streams: int = 20_000
    max_streams_per_principal: int = 20_000
    max_streams_per_connection: int = 10_000
    max_connection_age_s: float = 0.0
    stream: StreamPolicy = field(default_factory=StreamPolicy)

    def options(self) -> list[tuple[str, int]]:
        """Return the server options."""
        message_bytes = self.stream.limits.frame_bytes + 65_536  # a little above: ours is the error that explains
        options = [
            ("grpc.so_reuseport", 0),
            ("grpc.server.max_pending_requests", 100_000),
            ("grpc.server.max_pending_requests_hard_limit", 200_000),
            ("grpc.max_receive_message_length", message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_concurrent_streams", self.max_streams_per_connection),
            ("grpc.compression_enabled_algorithms_bitset", 1),  # identity only
            ("grpc.max_metadata_size", 16_384),
            ("grpc.absolute_max_metadata_size", 32_768),
            ("grpc.server_handshake_timeout_ms", 5_000),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.max_connection_idle_ms", 300_000),
        ]
        if self.max_connection_age_s:
            options.append(("grpc.max_connection_age_ms", int(self.max_connection_age_s * 1000)))
            options.append(("grpc.max_connection_age_grace_ms", int(self.stream.expiry_grace_s * 1000)))
        return options


class _GrpcWire:
    """The frames of one gRPC stream."""

    __slots__ = ("_context", "_frames", "_traffic")

    def __init__(self, context: Any, frames: Frames, traffic: Traffic) -> None:
        self._context = context
        self._frames = frames
        self._traffic = traffic

    async def read(self) -> Frame | None:
        try:
            message = await self._context.read()
        except grpc.aio.BaseError:  # the call is over
            return None
        if message is grpc.aio.EOF:
            return None
        self._traffic.received_bytes += len(message)
        return self._frames.decode(unwrap(message))

    async def write(self, header: Mapping[str, Any], envelopes: Sequence[Envelope]) -> None:
        frame = wrap(self._frames.encode(header, envelopes))
        try:
            await self._context.write(frame)
            self._traffic.sent_bytes += len(frame)
        except grpc.aio.BaseError as error:
            raise ConnectionError("the stream is gone") from error


class GrpcEdge:
    """A gRPC server in front of a gateway. One per process: grpc.aio wants a single event loop.

    Args:
        gateway: the engine.
        kinds: its kind table.
        clock: monotonic time of the engine.
        authenticate: hook from metadata to principal; `no_auth` is for loopback.
        traffic: counts connections and bytes.
        wall: UNIX seconds. jitter: uniform in [0, 1).
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        kinds: KindTable,
        clock: Clock,
        policy: GrpcPolicy | None = None,
        authenticate: Authenticate = no_auth,
        traffic: Traffic | None = None,
        wall: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._gateway = gateway
        self._clock = clock
        self._policy = policy = policy or GrpcPolicy()
        self._frames = Frames(kinds, clock.now, policy.stream.limits)
        self._authenticate = authenticate
        self._wall = wall
        self._server: grpc.aio.Server | None = None
        self._health = health.aio.HealthServicer()
        self._traffic = traffic or Traffic("grpc", clock)
        self._streams = Streams(policy.max_streams, policy.max_streams_per_principal, jitter, self._traffic)
        self._reading: set[asyncio.Task[None]] = set()
        self._port = 0

    @property
    def port(self) -> int:
        """The port it listens on, 0 before the start."""
        return self._port

    @property
    def streams(self) -> int:
        """Live streams."""
        return len(self._streams)

    async def start(self) -> int:
        """Listen and return the port.

        Raises ConfigError: a public address without TLS and authentication, a port that is taken,
        unusable TLS files, or a grpc that accepts TLS 1.2.
        """
        policy = self._policy
        check_exposure(policy.host, policy.tls, self._authenticate, insecure=policy.insecure)
        server = grpc.aio.server(options=policy.options())
        self._register(server)
        address = f"{policy.host}:{policy.port}"
        try:
            if policy.tls is None:
                self._port = server.add_insecure_port(address)
            else:
                self._port = server.add_secure_port(address, policy.tls.credentials())
        except RuntimeError as error:
            raise ConfigError(f"cannot listen on {address}: {error}; is another engine running there?") from error
        await server.start()
        self._server = server
        if policy.tls is not None:
            try:
                await verify_tls13(policy.host, self._port)
            except ConfigError:
                await self.close()
                raise
        await self._health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        return self._port

    async def drain(self, grace_s: float) -> None:
        """Stop taking streams, ask the live ones to leave, and stop when they have or after `grace_s`."""
        if self._server is None:
            return
        self._streams.draining = True
        await self._health.enter_graceful_shutdown()
        await self._streams.drain(grace_s)
        await self._stop(_STOP_S)  # not at once: the last streams' statuses are still on their way

    async def close(self) -> None:
        """Stop now; idempotent. Streams end with UNAVAILABLE, which clients resume from."""
        await self._stop(0.0)

    async def _stop(self, grace_s: float) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        await server.stop(grace_s)
        await server.wait_for_termination()
        if self._reading:
            await asyncio.wait(self._reading, timeout=_STOP_S)

    # ---- set-up -----------------------------------------------------------------------------

    def _register(self, server: grpc.aio.Server) -> None:
        handlers = {
            SESSION: grpc.stream_stream_rpc_method_handler(self._session),
            CALL: grpc.unary_unary_rpc_method_handler(self._call),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        # the names come from the generated descriptor, so that reflection has it loaded
        service = _schema.DESCRIPTOR.services_by_name["Edge"].full_name
        reflection.enable_server_reflection((service, health.SERVICE_NAME, reflection.SERVICE_NAME), server)

    # ---- calls ------------------------------------------------------------------------------

    async def _session(self, _requests: object, context: Any) -> None:
        try:
            principal = await authenticated(self._authenticate, _metadata(context))
        except LanewayError as error:
            self._traffic.refused(error)
            _fail(context, error)
            return
        stream = self._stream(context, principal)
        try:
            with self._streams.hold(stream, principal) as connection:
                try:
                    reason = await stream.serve()
                    connection.established = stream.established
                    connection.over(reason, goodbye=stream.goodbye)
                finally:
                    self._await_later(stream.reader)
        except LanewayError as error:
            reason = error
        if reason is not None:
            _fail(context, reason)

    def _stream(self, context: Any, principal: Principal) -> SessionStream:
        lifetime_s = float("inf") if principal.expires_at is None else principal.expires_at - self._wall()
        return SessionStream(
            _GrpcWire(context, self._frames, self._traffic),
            self._gateway,
            principal,
            clock=self._clock,
            policy=self._policy.stream,
            expires_at=self._clock.now() + lifetime_s,
            origin=_ORIGIN,
        )

    def _await_later(self, reader: asyncio.Task[None] | None) -> None:
        """A read ends with its call, after the handler: `close` waits for it."""
        if reader is not None and not reader.done():
            self._reading.add(reader)
            reader.add_done_callback(self._reading.discard)

    async def _call(self, request: bytes, context: Any) -> bytes:
        try:
            principal = await authenticated(self._authenticate, _metadata(context))
            header, items = decode_call(unwrap(request), self._policy.stream.limits)
            name = header.get("call")
            if not isinstance(name, str):
                raise PeerProtocolError("a call's header must name it: {'call': 'tools'}", reason="BAD_TYPE")
            result = await self._gateway.call(name, header, items, principal)
            return wrap(encode_call({}, [pack_body({"result": result})]))
        except LanewayError as error:
            _fail(context, error)
        except Exception:
            _fail(context, HandlerFailed("the engine failed on this call; see its log"))
            raise
        return b""


def _metadata(context: Any) -> dict[str, str]:
    """Return the call's text metadata; a repeated key keeps its first value."""
    found: dict[str, str] = {}
    for key, value in context.invocation_metadata() or ():
        if isinstance(value, str):
            found.setdefault(key, value)
    return found


def _fail(context: Any, error: LanewayError) -> None:
    """End the call with the error's status and rich details, by returning: aborts do not drain (grpc#37239)."""
    context.set_trailing_metadata(((_STATUS_DETAILS, rich_status(error).SerializeToString()),))
    context.set_details(error.message)
    context.set_code(grpc.StatusCode[wire_status(error).grpc])
