"""The way of a sampled event from the door to its handler, told as spans: shape, queue, route, handle.

Law of this file: only events with a trace come here, so whoever calls asks `if env[TRACE]` first and
all others pay nothing. A journey is over when its event is, whatever ends it, and the stage it had
reached is marked with that cause: no span stays open and none is lost.

`queue` is a span of its own, because waiting is what people look for. A large text is one journey: it
is shaped into parts and queued once; each part that a handler takes by itself has its own `handle`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from laneway.actors.ports import Clock, Outcome
from laneway.actors.spans import SILENT, Span, SpanValue, Tracer
from laneway.routing.classify import KindTable
from laneway.routing.dispatch import DispatchPolicy
from laneway.routing.envelope import BODY, KIND, LANE, RUN, SESSION, TRACE, Envelope, Key, envelope_id, key_of
from laneway.routing.errors import LanewayError
from laneway.routing.lanes import Lane
from laneway.routing.parts import cut

__all__ = ["Journeys", "parts_in"]

_SHAPE: Final = "shape"
_PARKED: Final = "parked"
_QUEUE: Final = "queue"
_ROUTE: Final = "route"
_HANDLE: Final = "handle"


class _Journey:
    """One event on its way: the stage it is at, and since when."""

    __slots__ = ("asked", "decided", "env", "pool", "since", "stage")

    def __init__(self, env: Envelope, asked: int, since: float, decided: float) -> None:
        self.env = env
        self.asked = asked
        self.since = since
        self.decided = decided
        self.stage = _SHAPE
        self.pool = ""


class Journeys:
    """Sampled events of one dispatcher that are not over. Every call O(1), or O(batch).

    Args:
        tracer: records the spans; without one every call is without effect.
        parts: into how many parts an event is cut; see `parts_in`.
    """

    def __init__(self, tracer: Tracer | None, clock: Clock, parts: Callable[[Envelope], int] = lambda env: 1) -> None:
        self._tracer = tracer
        self._clock = clock
        self._parts = parts
        self._open: dict[Key, _Journey] = {}

    def __len__(self) -> int:
        return len(self._open)

    # -- shape ----------------------------------------------------------------------------------

    def refused(self, env: Envelope, since: float, error: LanewayError) -> None:
        """The event was turned away by a decision that began at `since`."""
        if self._tracer is not None:
            lanes = _lanes(env[LANE], env[LANE])
            self._tracer.begin(_SHAPE, env[TRACE], start=since, attributes=lanes).end(error.code, error.message)

    def admitted(self, env: Envelope, asked: int, since: float) -> None:
        """The event was admitted, maybe to a lower lane than it asked for."""
        if self._tracer is not None:
            self._open[key_of(env)] = _Journey(env, asked, since, self._clock.now())

    def enqueued(self, env: Envelope, pool: str) -> None:
        """The event is in the queues of a pool; without a pool it waits for the one that it names."""
        journey = self._open.get(key_of(env))
        if journey is None:
            return
        if pool:
            self._queued(journey)
        else:
            journey.stage = _PARKED

    def resumed(self, envs: Sequence[Envelope]) -> None:
        """Events that waited for others are in the queues now."""
        for env in envs:
            journey = self._open.get(key_of(env))
            if journey is not None and journey.stage is _PARKED:
                self._queued(journey)

    def _queued(self, journey: _Journey) -> None:
        now, parts = self._clock.now(), self._parts(journey.env)
        self._shaped(journey, now if parts > 1 or journey.stage is _PARKED else journey.decided, parts)
        journey.stage, journey.since = _QUEUE, now

    def _shaped(self, journey: _Journey, end: float, parts: int = 1, outcome: Outcome | None = None) -> None:
        attributes = _lanes(journey.asked, journey.env[LANE])
        if journey.stage is _PARKED:
            attributes["laneway.after"] = True
        if parts > 1:
            attributes["laneway.parts"] = parts
        self._tell(_SHAPE, journey, end, attributes, outcome)

    # -- queue, route, handle -------------------------------------------------------------------

    def taken(self, env: Envelope, pool: str) -> None:
        """A pool took the event out of its queues."""
        journey = self._open.get(key_of(env))
        if journey is not None and journey.stage is _PARKED:  # it went on within this very take
            self._queued(journey)
        if journey is not None and journey.stage is _QUEUE:
            now = self._clock.now()
            self._waited(journey, now)
            journey.stage, journey.since, journey.pool = _ROUTE, now, pool

    def sent(self, pool: str, env: Envelope, cell: str) -> None:
        """The event is on its way to a cell on another host, which begins its `handle`."""
        journey = self._open.get(key_of(env))
        if journey is not None and journey.stage is _ROUTE:
            self._routed(journey, pool, cell, self._clock.now())

    def _routed(self, journey: _Journey, pool: str, cell: str, now: float) -> None:
        self._tell(f"{_ROUTE} {pool}", journey, now, {"laneway.pool": pool, "laneway.cell": cell})
        journey.stage = _HANDLE

    def returned(self, env: Envelope) -> None:
        """The event was taken, and waits in the queues again."""
        journey = self._open.get(key_of(env))
        if journey is not None:
            journey.stage, journey.since = _QUEUE, self._clock.now()

    def _waited(self, journey: _Journey, now: float, outcome: Outcome | None = None) -> None:
        lane = Lane(journey.env[LANE]).name.lower()
        self._tell(f"{_QUEUE} {lane}", journey, now, {"laneway.lane": lane}, outcome)

    def handled(self, pool: str, cell: str, envs: Sequence[Envelope]) -> Span:
        """A handler starts on events, at least one of them sampled; returns the span of its turn.

        Several events make one span: below the first sampled one, with links to the others.
        """
        sampled = [env for env in envs if env[TRACE]]
        if self._tracer is None:
            return SILENT
        now = self._clock.now()
        for env in sampled:
            journey = self._open.get(key_of(env))
            if journey is not None and journey.stage is _ROUTE:
                self._routed(journey, pool, cell, now)
        attributes = {**_about(sampled[0]), "laneway.pool": pool, "laneway.cell": cell}
        if len(envs) > 1:
            attributes["messaging.batch.message_count"] = len(envs)
        links = [env[TRACE] for env in sampled[1:]]
        return self._tracer.begin(
            f"{_HANDLE} {pool}", sampled[0][TRACE], kind="consumer", start=now, links=links, attributes=attributes
        )

    # -- over -----------------------------------------------------------------------------------

    def released(self, env: Envelope) -> None:
        """An admitted event will not be queued: whoever gave it back tells why."""
        journey = self._open.pop(key_of(env), None)
        if journey is not None:
            self._shaped(journey, journey.decided)

    def ended(self, env: Envelope, outcome: Outcome) -> None:
        """The event is over; if no handler began, the stage that it had reached ends with the cause."""
        journey = self._open.pop(key_of(env), None)
        if journey is None or journey.stage is _HANDLE:
            return
        now = self._clock.now()
        if journey.stage is _QUEUE:
            self._waited(journey, now, outcome)
        elif journey.stage is _ROUTE:
            self._tell(f"{_ROUTE} {journey.pool}", journey, now, {"laneway.pool": journey.pool}, outcome)
        else:
            self._shaped(journey, now, outcome=outcome)

    def _tell(
        self,
        name: str,
        journey: _Journey,
        end: float,
        attributes: dict[str, SpanValue],
        outcome: Outcome | None = None,
    ) -> None:
        assert self._tracer is not None, "without a tracer no journey begins"
        span = self._tracer.begin(name, journey.env[TRACE], start=journey.since, attributes=attributes)
        if outcome is None or outcome.status == "handled":
            span.end(at=end)
        else:
            span.end(outcome.code, outcome.message, at=end)


def parts_in(policy: DispatchPolicy, kinds: KindTable) -> Callable[[Envelope], int]:
    """Return what tells into how many parts a dispatcher of this policy cuts an event. O(body) for large text."""

    def parts(env: Envelope) -> int:
        if len(env[BODY]) <= policy.part_bytes:
            return 1
        kind = kinds.get(env[KIND])
        text = env[KIND] in policy.text_kinds or (kind is not None and kind.text)
        return len(cut(env, policy.part_bytes)) if text else 1

    return parts


def _lanes(asked: int, given: int) -> dict[str, SpanValue]:
    attributes: dict[str, SpanValue] = {"laneway.lane": Lane(given).name.lower()}
    if asked != given:
        attributes["laneway.lane_asked"] = Lane(asked).name.lower()
        attributes["laneway.demoted"] = given > asked
    return attributes


def _about(env: Envelope) -> dict[str, SpanValue]:
    """What a handler's span says about its event; never the body."""
    attributes: dict[str, SpanValue] = {
        "messaging.system": "laneway",
        "messaging.operation.type": "process",
        "messaging.message.id": envelope_id(env),
        "messaging.message.conversation_id": env[SESSION],
        "messaging.message.body.size": len(env[BODY]),
        "laneway.kind": env[KIND],
        "laneway.lane": Lane(env[LANE]).name.lower(),
        "laneway.session": env[SESSION],
    }
    if env[RUN]:
        attributes["laneway.run"] = env[RUN]
    return attributes
