"""The receive span of each sampled event: from its arrival to the engine's word on it.

Law of this file: sampling is decided here and nowhere else, once per event, and the envelope carries
the decision: with a trace it is recorded everywhere, without one nowhere. Every span that begins here
is ended by the answer, by the refusal, or with the home.

Without a tracer an event keeps the traceparent it came with, for its handler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from laneway.actors.ports import Clock, Entry, Principal
from laneway.actors.spans import Span, SpanValue, Tracer
from laneway.routing.envelope import BODY, ENTITY, KIND, RUN, SESSION, TENANT, TRACE, Envelope, envelope_id, with_trace
from laneway.routing.errors import LanewayError

__all__ = ["Arrivals", "Speaker"]


class Speaker(Protocol):
    """Who sends events in, and where the answers go: a link's speaker, or code in this process."""

    @property
    def client(self) -> str:
        """Its id: the producer of its events."""
        ...

    @property
    def principal(self) -> Principal:
        """Who it is."""
        ...

    @property
    def origin(self) -> Mapping[str, SpanValue]:
        """Attributes that tell through what its events come (`laneway.transport`, `rpc.method`)."""
        ...

    def tell(self, **fields: object) -> None:
        """Take header content: ok, refused, notice."""
        ...


class Arrivals:
    """Sampled events of one session that are not answered. All calls O(1).

    Args:
        tracer: decides and records; without one every call is without effect.
    """

    def __init__(self, tracer: Tracer | None, clock: Clock) -> None:
        self._tracer = tracer
        self._clock = clock
        self._open: dict[str, tuple[Span, float]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def take(self, env: Envelope, now: float, speaker: Speaker) -> Envelope:
        """Decide whether an event is traced; return it with the trace that it has from here on."""
        if self._tracer is None:
            return env
        if self._open and envelope_id(env) in self._open:  # it came again before its answer: one arrival, one span
            return with_trace(env, "")
        span = self._tracer.receive(env[TRACE], now)
        if span is None:
            return with_trace(env, "") if env[TRACE] else env
        span.note(
            **{
                **speaker.origin,
                "messaging.system": "laneway",
                "messaging.operation.type": "receive",
                "messaging.message.id": envelope_id(env),
                "messaging.message.conversation_id": env[SESSION],
                "messaging.message.body.size": len(env[BODY]),
                "laneway.kind": env[KIND],
                "laneway.session": env[SESSION],
                "laneway.tenant": env[TENANT],
            }
        )
        if env[RUN]:
            span.note(laneway__run=env[RUN])
        if env[ENTITY]:
            span.note(laneway__entity=env[ENTITY])
        self._open[envelope_id(env)] = (span, now)
        return with_trace(env, span.traceparent)

    def written(self, env: Envelope, records: Sequence[Entry], events: int = 1) -> None:
        """The records of an accepted event, and of those it came with, are in the journal."""
        entry = self._open.get(envelope_id(env))
        if entry is not None and self._tracer is not None:
            attributes: dict[str, SpanValue] = {
                "laneway.direction": "in",
                "laneway.events": events,
                "laneway.bytes": sum(len(record.blob) for record in records),
            }
            now = self._clock.now()
            self._tracer.record("commit", entry[0].traceparent, entry[1], now, attributes=attributes)

    def answered(self, env: Envelope, grade: str) -> None:
        """The sender gets an OK of this grade."""
        entry = self._open.pop(envelope_id(env), None)
        if entry is not None:
            entry[0].note(laneway__grade=grade)
            entry[0].end()

    def refused(self, env: Envelope, error: LanewayError) -> None:
        """The sender gets a refusal."""
        entry = self._open.pop(envelope_id(env), None)
        if entry is not None:
            entry[0].end(error.code, error.message)

    def abandon(self) -> None:
        """The home ends: what is not answered now never will be from here."""
        for span, _ in self._open.values():
            span.end("UNANSWERED", "the session ended here before the event was written; its sender sends it again")
        self._open.clear()
