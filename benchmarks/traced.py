"""The engine with one event in a hundred traced and sent to a real OTLP receiver on this machine.

Law of this file: the receiver is a process of its own that reads what it is given; a run in which it
was sent nothing is no figure. The limit of traces per second is lifted, so that it is 1 % of all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from benchmarks.channels import Opened, Way
from benchmarks.counts import Lost
from benchmarks.measure import Stopwatch
from benchmarks.paths import FRAME_EVENTS, engine_frames
from benchmarks.process import server
from benchmarks.workload import open_config
from laneway.engine.sections import TelemetryConfig

__all__ = ["SAMPLED", "serving"]

_TRACES: Final = "opentelemetry.proto.collector.trace.v1.TraceService"
_METRICS: Final = "opentelemetry.proto.collector.metrics.v1.MetricsService"
_COUNT: Final = "bench.Receiver"
_RATIO: Final = 0.01
_SURE: Final = 10
"""So many traces expected, and none at all has a chance of e^-10."""
_ASK_S: Final = 10.0


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """The receiver's process."""
    import grpc.aio
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    spans = 0

    async def export(request: bytes, context: Any) -> bytes:
        nonlocal spans
        for resource in ExportTraceServiceRequest.FromString(request).resource_spans:
            spans += sum(len(scope.spans) for scope in resource.scope_spans)
        return b""

    async def ignore(request: bytes, context: Any) -> bytes:
        return b""

    async def count(request: bytes, context: Any) -> bytes:
        return b"%d" % spans

    receiver = grpc.aio.server()
    for service, name, method in ((_TRACES, "Export", export), (_METRICS, "Export", ignore), (_COUNT, "Spans", count)):
        handler = {name: grpc.unary_unary_rpc_method_handler(method)}
        receiver.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handler)])
    port = receiver.add_insecure_port("127.0.0.1:0")
    await receiver.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await receiver.stop(1.0)


@asynccontextmanager
async def _open(watch: Stopwatch) -> AsyncIterator[Opened]:
    async with server("otlp") as receiver:
        watch.watch("receiver", receiver.pid)
        telemetry = TelemetryConfig(
            otlp=f"http://{receiver.address}", sample_ratio=_RATIO, traces_per_s=1_000_000, export_s=1.0
        )
        config = open_config().model_copy(update={"telemetry": telemetry})
        async with engine_frames(SAMPLED.row, config).open(watch) as opened:
            yield opened
            expected = (await opened.counts())["admitted"] * _RATIO
        spans = await _received(receiver.address)
        if not spans and expected >= _SURE:
            raise Lost(f"{SAMPLED.row}: the receiver was sent no span")
        watch.note(spans=spans)


async def _received(address: str) -> int:
    import grpc.aio

    async with grpc.aio.insecure_channel(address) as channel:
        ask = channel.unary_unary(f"/{_COUNT}/Spans")
        async with asyncio.timeout(_ASK_S):
            return int(await ask(b""))


SAMPLED: Final = Way("laneway engine, frames, 1 % traced", _open, frame=FRAME_EVENTS)
