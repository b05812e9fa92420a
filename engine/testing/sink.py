"""An OTLP/gRPC receiver that keeps what it is sent, for tests that look at what was exported.

Law of this file: it speaks the collector's own protocol, so any exporter can be pointed at it; it
waits by condition and deadline; what it keeps is bounded in bytes, and beyond that it refuses.

::

    async with Sink() as sink:
        ...  # something that exports to sink.url
        spans = await sink.spans(lambda spans: len(spans) >= 3)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, TypeVar

import grpc.aio
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace

from laneway.engine.testing.otlp import MetricPoint, SpanRecord, points_of, spans_of
from laneway.routing.errors import DeadlineExceeded

__all__ = ["Sink"]

_MAX_BYTES: Final = 67_108_864
_WITHIN_S: Final = 15.0
_SHOWN: Final = 20
_T = TypeVar("_T")


class Sink:
    """An OTLP receiver on 127.0.0.1.

    Args:
        port: 0 = any free one.
        max_bytes: of requests kept; more are refused for good, without retries, and counted.

    Attributes:
        port: where it listens, once entered.
        requests: exports of any kind received. refused: exports beyond `max_bytes`.
        log_records: records of logs received; they are counted, not kept.
    """

    def __init__(self, port: int = 0, *, max_bytes: int = _MAX_BYTES) -> None:
        self.port = port
        self.requests = 0
        self.refused = 0
        self.log_records = 0
        self._max_bytes = max_bytes
        self._bytes = 0
        self._spans: list[SpanRecord] = []
        self._points: list[MetricPoint] = []
        self._server: grpc.aio.Server | None = None
        self._news = asyncio.Condition()

    async def __aenter__(self) -> Sink:
        server = self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers(
            (
                self._service(trace, "Trace", lambda request: self._spans.extend(spans_of(request))),
                self._service(metrics, "Metrics", lambda request: self._points.extend(points_of(request))),
                self._service(logs, "Logs", self._count),
            )
        )
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        await server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            await self._server.stop(None)

    @property
    def url(self) -> str:
        """What an exporter is given."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def received(self) -> Sequence[SpanRecord]:
        """All spans so far, in the order they came."""
        return tuple(self._spans)

    async def spans(
        self, until: Callable[[Sequence[SpanRecord]], bool] = bool, *, within_s: float = _WITHIN_S
    ) -> list[SpanRecord]:
        """Wait until what was received satisfies `until`, and return it.

        Raises DeadlineExceeded after `within_s`; the message names what was received.
        """
        return await self._wait(self._spans, until, within_s, lambda span: span.name)

    async def metrics(
        self, until: Callable[[Sequence[MetricPoint]], bool] = bool, *, within_s: float = _WITHIN_S
    ) -> list[MetricPoint]:
        """Likewise for the points of metrics; a later point of one metric comes later."""
        return await self._wait(self._points, until, within_s, lambda point: point.name)

    def clear(self) -> None:
        """Forget what was received."""
        self._spans.clear()
        self._points.clear()
        self._bytes = 0

    async def _wait(
        self, kept: list[_T], until: Callable[[Sequence[_T]], bool], within_s: float, name: Callable[[_T], str]
    ) -> list[_T]:
        try:
            async with asyncio.timeout(within_s), self._news:
                await self._news.wait_for(lambda: until(kept))
        except TimeoutError as error:
            names = [name(each) for each in kept]
            raise DeadlineExceeded(
                f"what was waited for did not come within {within_s:g} s; {self.requests} exports brought "
                f"{len(names)} records, the last: {', '.join(names[-_SHOWN:]) or 'none'}"
            ) from error
        return list(kept)

    def _service(self, messages: Any, signal: str, keep: Callable[[Any], None]) -> Any:
        """Return the handler of one collector service: `Export` and nothing else."""
        answer = getattr(messages, f"Export{signal}ServiceResponse")

        async def export(request: Any, context: Any) -> Any:
            self.requests += 1
            self._bytes += request.ByteSize()
            if self._bytes > self._max_bytes:
                self._bytes -= request.ByteSize()
                self.refused += 1
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"this sink keeps {self._max_bytes} bytes")
            keep(request)
            async with self._news:
                self._news.notify_all()
            return answer()

        handler = grpc.unary_unary_rpc_method_handler(
            export,
            request_deserializer=getattr(messages, f"Export{signal}ServiceRequest").FromString,
            response_serializer=answer.SerializeToString,
        )
        name = f"opentelemetry.proto.collector.{signal.lower()}.v1.{signal}Service"
        return grpc.method_handlers_generic_handler(name, {"Export": handler})

    def _count(self, request: Any) -> None:
        self.log_records += sum(len(s.log_records) for group in request.resource_logs for s in group.scope_logs)
