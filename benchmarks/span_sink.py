"""A receiver of spans in a process of its own, and the question what it was sent.

Law of this file: the receiver is the product's own test sink; what is asked for is counted there, so that
asking costs the measured process one small message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from benchmarks.process import server
from laneway.engine.testing.otlp import SpanRecord

__all__ = ["Received", "SpanSink", "serving", "span_sink"]

_SERVICE: Final = "bench.Sink"
_KEEPS_BYTES: Final = 1 << 30
_ASK_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Received:
    """What a receiver was sent.

    Attributes:
        traces: trace id -> how many spans. names: first word of a span's name -> how many.
    """

    traces: Mapping[str, int]
    names: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class SpanSink:
    """A live receiver: its process, the URL to export to, and where to ask."""

    pid: int
    url: str
    asked_at: str

    async def received(self) -> Received:
        """Return what it was sent so far."""
        import grpc.aio

        async with grpc.aio.insecure_channel(self.asked_at) as channel:
            answer = await channel.unary_unary(f"/{_SERVICE}/Received")(b"", timeout=_ASK_S)
        return Received(*msgpack.unpackb(answer))


@asynccontextmanager
async def span_sink() -> AsyncIterator[SpanSink]:
    """Run a receiver in another process."""
    async with server("spans") as program:
        url, asked_at = program.address.split()
        yield SpanSink(program.pid, url, asked_at)


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """The receiver's process."""
    import grpc.aio

    from laneway.engine.testing.sink import Sink

    async with Sink(max_bytes=_KEEPS_BYTES) as sink:

        async def tell(request: bytes, context: Any) -> bytes:
            return _told(sink.received)

        asked = grpc.aio.server()
        handler = {"Received": grpc.unary_unary_rpc_method_handler(tell)}
        asked.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handler),))
        port = asked.add_insecure_port("127.0.0.1:0")
        await asked.start()
        try:
            yield f"{sink.url} 127.0.0.1:{port}"
        finally:
            await asked.stop(None)


def _told(spans: Sequence[SpanRecord]) -> bytes:
    packed: bytes = msgpack.packb([Counter(span.trace for span in spans), Counter(span.base for span in spans)])
    return packed
