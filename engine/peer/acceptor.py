"""The accepting half: a gRPC server that joins two streams to one connection.

Law of this file: no byte of a stream is read before its metadata has been admitted, and a connection is
up only when both of its streams are. A stream whose other half does not come is refused after
`connect_s`. A handler ends by returning, never by abort (which does not drain, grpc#37239).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

import grpc
import grpc.aio

from laneway.engine.peer.handshake import (
    DATA_METHOD,
    REASON_KEY,
    SERVICE,
    URGENT_METHOD,
    Gate,
    Hello,
    text_metadata,
)
from laneway.engine.peer.policy import PeerPolicy
from laneway.engine.peer.wires import AcceptedWire, Wire
from laneway.engine.tls import Tls, verify_tls13
from laneway.routing.errors import (
    AdmissionError,
    ConfigError,
    Draining,
    LanewayError,
    Overloaded,
    RuntimeUnavailable,
    Unauthenticated,
)

__all__ = ["Acceptor", "bracketed"]

_log: Final = logging.getLogger(__name__)

_MAX_HALVES: Final = 1_024
"""Connections of which one stream has come; hosts that know the secret make no more at once."""


class _Half:
    """A connection that is coming up."""

    __slots__ = ("answered", "up", "wires")

    def __init__(self) -> None:
        self.wires: dict[str, AcceptedWire] = {}
        self.answered = 0
        self.up: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Acceptor:
    """Serves `laneway.v1.Peer` on one port.

    Args:
        gate: decides who gets in.
        accepted: called with each connection's hello and its urgent and data streams.
        tls: whose certificates count, and our own; None for plain text.

    Attributes:
        refusing: set to take no more connections; those that are up go on.
    """

    def __init__(
        self,
        gate: Gate,
        policy: PeerPolicy,
        accepted: Callable[[Hello, Wire, Wire], None],
        tls: Tls | None = None,
    ) -> None:
        self._gate = gate
        self._policy = policy
        self._accepted = accepted
        self._tls = tls
        self._halves: dict[Hello, _Half] = {}
        self._server: grpc.aio.Server | None = None
        self.refusing = False

    async def start(self, host: str) -> int:
        """Listen on any free port of `host` and return it.

        Raises ConfigError: it cannot listen there, unusable TLS files, or a grpc that accepts TLS 1.2.
        """
        server = grpc.aio.server(options=self._policy.server_options())
        handlers = {
            URGENT_METHOD: grpc.stream_stream_rpc_method_handler(self._urgent),
            DATA_METHOD: grpc.stream_stream_rpc_method_handler(self._data),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        address = f"{bracketed(host)}:0"
        try:
            if self._tls is None:
                port: int = server.add_insecure_port(address)
            else:
                port = server.add_secure_port(address, self._tls.credentials())
        except RuntimeError as error:
            raise ConfigError(
                f"hosts cannot listen on {address} ({error}); is it an address of this machine?"
            ) from error
        await server.start()
        self._server = server
        if self._tls is not None:
            try:
                await verify_tls13(host, port, self._tls)
            except ConfigError:
                await self.close()
                raise
        return port

    async def close(self) -> None:
        """Stop listening and end every stream; idempotent."""
        server, self._server = self._server, None
        if server is not None:
            # not at once: the other sides get to close their connections without a complaint in their log
            await server.stop(self._policy.linger_s)
            await server.wait_for_termination()

    async def _urgent(self, _requests: object, context: Any) -> None:
        await self._serve(context, URGENT_METHOD)

    async def _data(self, _requests: object, context: Any) -> None:
        await self._serve(context, DATA_METHOD)

    async def _serve(self, context: Any, method: str) -> None:
        try:
            hello = self._gate.admit(text_metadata(context.invocation_metadata()))
            wire = AcceptedWire(context)
            half = self._half(hello, method, wire)
        except LanewayError as error:
            _refuse(context, error)
            return
        try:
            await self._bring_up(hello, half, context)
            await wire.over.wait()
        except LanewayError as error:
            _refuse(context, error)
        except grpc.aio.BaseError as error:
            _log.debug("host %s left while it connected: %r", hello.name, error)
        finally:
            # also when the call is cancelled: that is how grpc tells that the other side is gone
            self._give_up(hello, half)

    def _half(self, hello: Hello, method: str, wire: AcceptedWire) -> _Half:
        if hello not in self._halves and self.refusing:
            raise Draining("this host shuts down")
        if hello not in self._halves and len(self._halves) >= _MAX_HALVES:
            raise Overloaded(f"{_MAX_HALVES} connections are coming up already; dial again later")
        half = self._halves.setdefault(hello, _Half())
        if method in half.wires:
            raise RuntimeUnavailable(f"connection {hello.connection} has its {method} stream already", reason="TWICE")
        half.wires[method] = wire
        return half

    async def _bring_up(self, hello: Hello, half: _Half, context: Any) -> None:
        """Answer, and wait until both streams have been answered. Raises LanewayError."""
        await context.send_initial_metadata(self._gate.answer())
        half.answered += 1
        if half.answered == len((URGENT_METHOD, DATA_METHOD)):
            self._halves.pop(hello, None)
            self._accepted(hello, half.wires[URGENT_METHOD], half.wires[DATA_METHOD])
            half.up.set_result(None)
        done, _ = await asyncio.wait({half.up}, timeout=self._policy.connect_s)
        if not done:
            raise RuntimeUnavailable(
                f"the other stream of connection {hello.connection} did not come within {self._policy.connect_s:g} s",
                reason="HALF",
            )
        half.up.result()

    def _give_up(self, hello: Hello, half: _Half) -> None:
        """Let the other half fail too, unless the connection is up."""
        if self._halves.get(hello) is half:
            del self._halves[hello]
        if not half.up.done():
            half.up.set_exception(RuntimeUnavailable("the other stream of the connection is gone", reason="HALF"))
            half.up.exception()  # it may be that nobody waits


def bracketed(host: str) -> str:
    """Return a host as it stands before a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _refuse(context: Any, error: LanewayError) -> None:
    """End the call with the error's status, by returning."""
    if isinstance(error, Unauthenticated):
        code = grpc.StatusCode.UNAUTHENTICATED
    elif isinstance(error, AdmissionError):
        code = grpc.StatusCode.UNAVAILABLE
    else:
        code = grpc.StatusCode.FAILED_PRECONDITION
    context.set_trailing_metadata(((REASON_KEY, error.reason),))
    context.set_details(error.message)
    context.set_code(code)
