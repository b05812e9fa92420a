"""Opening edges in front of an engine.

Law of this file: the only place that knows both an edge and the engine; importing it loads gRPC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from laneway.actors.attachment import Attachment
from laneway.actors.ports import Principal
from laneway.engine.config import AuthConfig, Config
from laneway.engine.edge.auth import Authenticate, JwtAuthenticator, JwtPolicy, no_auth
from laneway.engine.edge.grpc import GrpcEdge, GrpcPolicy
from laneway.engine.edge.stream import StreamPolicy
from laneway.engine.edge.tls import Tls
from laneway.routing.errors import ConfigError
from laneway.routing.handshake import Hello

if TYPE_CHECKING:
    from laneway.engine.app.engine import Engine

__all__ = ["EngineGateway", "grpc_options", "open_grpc"]


_SIGNATURES: Final = ("EdDSA", "ES256", "RS256")


class EngineGateway:
    """The engine as an edge sees it (`edge.gateway.Gateway`)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def attach(self, hello: Hello, principal: Principal) -> Attachment:
        """Open or resume a link."""
        return await self._engine.directory.attach(hello, principal)

    async def call(
        self, name: str, header: Mapping[str, Any], items: Sequence[bytes], principal: Principal
    ) -> tuple[Mapping[str, Any], Sequence[bytes]]:
        """Answer one unary question."""
        return await self._engine.calls(name, header, items, principal)


def grpc_options(config: Config) -> dict[str, Any]:
    """Return the options of `Engine.serve_grpc` that the configuration asks for.

    Raises ConfigError for keys that cannot be read or used.
    """
    edge, limits = config.edge, config.limits
    tls = None
    if edge.tls_cert is not None and edge.tls_key is not None:
        tls = Tls(edge.tls_cert, edge.tls_key, edge.tls_client_ca)
    return {
        "host": f"[{edge.grpc.host}]" if ":" in edge.grpc.host else edge.grpc.host,
        "port": edge.grpc.port,
        "tls": tls,
        "insecure": edge.insecure,
        "max_streams": edge.max_streams,
        "max_streams_per_principal": edge.max_streams_per_principal,
        "max_connection_age_s": edge.max_connection_age_s,
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
    fields = dict(options)
    authenticate = fields.pop("authenticate", no_auth)
    edge = GrpcEdge(
        EngineGateway(engine),
        kinds=engine.kinds,
        clock=engine.clock,
        policy=GrpcPolicy(**fields),
        authenticate=authenticate,
    )
    await edge.start()
    return edge
