"""Opening edges in front of an engine.

Law of this file: the only place that knows both an edge and the engine; importing it loads gRPC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from laneway.actors.attachment import Attachment
from laneway.actors.ports import Principal
from laneway.engine.edge.auth import no_auth
from laneway.engine.edge.grpc import GrpcEdge, GrpcPolicy
from laneway.routing.handshake import Hello

if TYPE_CHECKING:
    from laneway.engine.app.engine import Engine

__all__ = ["EngineGateway", "open_grpc"]


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
