"""A client that says whatever it likes: frames by hand over a real gRPC stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from laneway.engine.client_errors import error_of_call
from laneway.engine.codec import unpack_body
from laneway.engine.edge.grpc import GrpcEdge, GrpcPolicy
from laneway.engine.frames import Frame, decode_call, encode_call
from laneway.engine.proto.message import CALL_METHOD, SESSION_METHOD, unwrap, wrap
from laneway.routing.envelope import Envelope
from laneway.routing.errors import LanewayError
from tests.engine.edge.double import FRAMES, KINDS, Engine

WITHIN_S = 60.0


@asynccontextmanager
async def edge(engine: Engine | None = None, **options: Any) -> AsyncIterator[tuple[GrpcEdge, Engine, str]]:
    """A running edge on a free loopback port; `options` go to GrpcEdge."""
    engine = engine or Engine()
    options.setdefault("policy", GrpcPolicy())
    server = GrpcEdge(engine, kinds=KINDS, clock=engine.clock, **options)
    port = await server.start()
    try:
        yield server, engine, f"127.0.0.1:{port}"
    finally:
        await server.close()
        await engine.close()


class RawSession:
    """One stream."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def send(self, header: dict[str, Any], envelopes: Sequence[Envelope] = ()) -> None:
        await self.send_frame(FRAMES.encode(header, envelopes))

    async def send_frame(self, frame: bytes) -> None:
        await self.call.write(wrap(frame))

    async def hello(self, session: str = "s1", client: str = "c1", **more: Any) -> dict[str, Any]:
        """Introduce ourselves and return the welcome."""
        await self.send({"hello": {"v": [1], "client": client, "session": session, **more}})
        header, _ = await self.next()
        return dict(header["welcome"])

    async def next(self) -> Frame:
        """The next frame; raises the typed error the call ended with, or EOFError."""
        async with asyncio.timeout(WITHIN_S):
            try:
                message = await self.call.read()
            except grpc.aio.AioRpcError as error:
                raise error_of_call(error) from error
        if message is grpc.aio.EOF:
            raise EOFError
        return FRAMES.decode(unwrap(message))

    async def until(self, key: str) -> dict[str, Any]:
        """The header of the next frame that has `key`."""
        while True:
            header, _ = await self.next()
            if key in header:
                return header

    async def end(self) -> tuple[dict[str, Any] | None, LanewayError]:
        """Read to the end; returns the fatal notice and the call's error."""
        told = None
        while True:
            try:
                header, _ = await self.next()
            except LanewayError as error:
                return told, error
            if header.get("notice", {}).get("fatal"):
                told = header["notice"]


@asynccontextmanager
async def raw(target: str, token: str = "", credentials: Any = None) -> AsyncIterator[RawSession]:
    """A raw stream; ends with a cancel."""
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    async with channel(target, credentials) as opened:
        call = opened.stream_stream(SESSION_METHOD)(metadata=metadata)
        try:
            yield RawSession(call)
        finally:
            call.cancel()


def channel(target: str, credentials: Any = None) -> Any:
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_metadata_size", 8_388_608),
        ("grpc.absolute_max_metadata_size", 8_388_608),
    ]
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=options)
    return grpc.aio.secure_channel(target, credentials, options=options)


async def ask(target: str, header: dict[str, Any], items: Sequence[bytes] = (), token: str = "") -> dict[str, Any]:
    """One unary call, its answer as a map with `result`; raises the typed error."""
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    async with channel(target) as opened, asyncio.timeout(WITHIN_S):
        try:
            answer = await opened.unary_unary(CALL_METHOD)(wrap(encode_call(header, list(items))), metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise error_of_call(error) from error
    (result,) = decode_call(unwrap(answer))[1]
    return unpack_body(result)
