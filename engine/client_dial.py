"""How a client reaches its engine: address, trust and credentials.

Law of this file: a channel is one connection, made afresh for each attempt (grpc.aio leaks when
streams are opened again on a broken channel, https://github.com/grpc/grpc/issues/38499), and a
token is asked for each time, so that it is fresh.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from laneway.engine.client_errors import error_of_call
from laneway.engine.client_spans import ClientSpans
from laneway.engine.codec import unpack_body
from laneway.engine.frames import decode_call, encode_call
from laneway.engine.proto.message import CALL_METHOD, unwrap, wrap
from laneway.routing.errors import PeerProtocolError, RuntimeUnavailable

__all__ = ["CHANNEL_OPTIONS", "Dial", "Token", "Trust"]

Token: TypeAlias = str | Callable[[], str | Awaitable[str]]
"""A JWT, or a function that gives a fresh one for each connection."""

CHANNEL_OPTIONS: Final = (
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 24_576),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", 4_194_304),
    ("grpc.max_metadata_size", 16_384),
)
"""The first two keep the transport from running megabytes ahead of a reader that stopped
(measured: 5.7 MB without, 17.7 KB with 16 KiB; a frame of 64 usual events has 18 KB and should fit: one that
does not waits half way for its reader, ADR 19); equal channels do not share a connection, and none retries by
itself."""


@dataclass(frozen=True, slots=True)
class Trust:
    """TLS of the client side; all PEM bytes.

    Attributes:
        roots: which servers to trust; None = the system's.
        cert, key: our own identity for mTLS.
    """

    roots: bytes | None = None
    cert: bytes | None = None
    key: bytes | None = None


@dataclass(frozen=True, slots=True)
class Dial:
    """One engine's address and how we prove who we are.

    Attributes:
        target: ``host:port``. tls: None = plain text. spans: the application's tracing, or None.
    """

    target: str
    token: Token | None = None
    tls: Trust | None = None
    spans: ClientSpans | None = None

    @property
    def renews(self) -> bool:
        """True if each connection can have fresh credentials."""
        return callable(self.token)

    def channel(self) -> Any:
        """Return a new grpc.aio channel, to be used as a context manager."""
        import grpc.aio

        if self.tls is None:
            return grpc.aio.insecure_channel(self.target, options=CHANNEL_OPTIONS)
        trust = grpc.ssl_channel_credentials(self.tls.roots, self.tls.key, self.tls.cert)
        return grpc.aio.secure_channel(self.target, trust, options=CHANNEL_OPTIONS)

    async def ask(self, name: str, header: Mapping[str, Any], items: Sequence[bytes], timeout_s: float) -> Any:
        """Put one unary question, over a connection of its own. Raises the engine's error, or RuntimeUnavailable."""
        import grpc.aio

        async with self.channel() as channel:
            request = wrap(encode_call({**header, "call": name}, list(items)))
            try:
                answer = await channel.unary_unary(CALL_METHOD)(
                    request, metadata=await self.metadata(), timeout=timeout_s
                )
            except grpc.aio.AioRpcError as error:
                raise error_of_call(error) from error
        _, found = decode_call(unwrap(answer))
        if len(found) != 1:
            raise PeerProtocolError(f"the answer to {name!r} has {len(found)} items, not one", reason="BAD_SHAPE")
        return unpack_body(found[0]).get("result")

    async def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return trace and credentials. Raises RuntimeUnavailable if the token function fails."""
        traced = self.spans.metadata() if self.spans is not None else ()
        return traced if self.token is None else (*traced, ("authorization", f"Bearer {await self._fresh()}"))

    async def _fresh(self) -> str:
        if self.token is None or isinstance(self.token, str):
            return self.token or ""
        try:
            token = self.token()
            if inspect.isawaitable(token):
                token = await token
        except Exception as error:
            raise RuntimeUnavailable(f"no token could be had: {error!r}", reason="TOKEN") from error
        return str(token)
