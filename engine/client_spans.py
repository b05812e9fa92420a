"""The `send` span of an event on its sender's side, below whatever the application is doing just then.

Law of this file: nothing of OpenTelemetry is imported before somebody hands in a provider, and a
provider that fails costs the span, never the event. What the application does not record, it tells
the engine not to record either.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from laneway.routing.envelope import BODY, ENTITY, KIND, RUN, TRACE, Envelope, envelope_id, with_trace
from laneway.routing.errors import LanewayError
from laneway.routing.traceparent import parse, write

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider

__all__ = ["ClientSpans"]

_MAX_MESSAGE_CHARS: Final = 256


class ClientSpans:
    """Spans of one sender.

    Args:
        provider: the application's.
        session: where it sends to.
        rooted: begin a trace where the application has none going on; else such events go untraced.
    """

    def __init__(self, provider: TracerProvider, session: str, *, rooted: bool = True) -> None:
        self._tracer = provider.get_tracer("laneway")
        self._session = session
        self._rooted = rooted

    @contextmanager
    def sending(self, env: Envelope) -> Iterator[Envelope]:
        """Time the sending of an event; yields it with the span's traceparent.

        The span's parent is the event's own trace if it has one, else the current span. An error that
        leaves the block marks the span and goes on.
        """
        span = self._begin(env)
        if span is None:
            yield env
            return
        code = message = ""
        try:
            yield with_trace(env, _traceparent(span))
        except LanewayError as error:
            code, message = error.code, error.message
            raise
        except BaseException as error:
            code = message = type(error).__name__
            raise
        finally:
            _end(span, code, message)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the current span as call metadata, for what stands between here and the engine; or nothing."""
        from opentelemetry import trace as otel

        span = otel.get_current_span()
        return (("traceparent", _traceparent(span)),) if span.get_span_context().is_valid else ()

    def _begin(self, env: Envelope) -> Span | None:
        from opentelemetry import trace as otel
        from opentelemetry.trace import SpanKind

        above = _context(env[TRACE])
        if above is None and not self._rooted and not otel.get_current_span().get_span_context().is_valid:
            return None
        try:
            span = self._tracer.start_span("send", above, SpanKind.PRODUCER, self._about(env))
        except Exception:
            return None
        return span if span.get_span_context().is_valid else None

    def _about(self, env: Envelope) -> dict[str, Any]:
        attributes: dict[str, Any] = {
            "messaging.system": "laneway",
            "messaging.operation.type": "send",
            "messaging.message.id": envelope_id(env),
            "messaging.message.conversation_id": self._session,
            "messaging.message.body.size": len(env[BODY]),
            "laneway.kind": env[KIND],
            "laneway.session": self._session,
        }
        if env[RUN]:
            attributes["laneway.run"] = env[RUN]
        if env[ENTITY]:
            attributes["laneway.entity"] = env[ENTITY]
        return attributes


def _context(trace: str) -> Any:
    """The remote parent that a traceparent names, or None: the current span."""
    from opentelemetry import trace as otel
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

    parts = parse(trace)
    if parts is None:
        return None
    parent = SpanContext(int(parts.trace_id, 16), int(parts.span_id, 16), True, TraceFlags(parts.flags))
    return otel.set_span_in_context(NonRecordingSpan(parent))


def _traceparent(span: Span) -> str:
    own = span.get_span_context()
    return write(own.trace_id, own.span_id, own.trace_flags)


def _end(span: Span, code: str, message: str) -> None:
    from opentelemetry.trace import Status, StatusCode

    try:
        if code:
            span.set_attribute("error.type", code)
            span.set_status(Status(StatusCode.ERROR, message[:_MAX_MESSAGE_CHARS]))
        span.end()
    except Exception:
        return
