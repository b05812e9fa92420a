"""What a session's home writes on the events that it takes in: whose they are, and when they came.

Law of this file: the producer is the client's id and the tenant the principal's, whatever the envelope
said. What starts a run and names none gets a run of its own, by which it can be asked for again.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from operator import itemgetter
from typing import Final

from laneway.actors.dispatch.starts import RUN_STARTING
from laneway.routing.envelope import AFTER, COUNTER, KIND, Envelope
from laneway.routing.frame import Frame, ascending

__all__ = ["framed", "stamped"]

_AFTER: Final = itemgetter(AFTER)
_COUNTER: Final = itemgetter(COUNTER)
_KIND: Final = itemgetter(KIND)


def stamped(envelopes: Sequence[Envelope], client: str, tenant: str, session: str, now: float) -> list[Envelope]:
    """Return a client's events as its session's, accepted now. O(events)."""
    return [
        (
            client,
            counter,
            kind,
            tenant,
            session,
            run if run or kind not in RUN_STARTING else f"{client}-{counter}",
            entity,
            lane,
            deadline,
            trace,
            after,
            body,
            now,
        )
        for _, counter, kind, _, _, run, entity, lane, deadline, trace, after, body, _ in envelopes
    ]


def framed(
    envelopes: Sequence[Envelope], client: str, tenant: str, session: str, now: float, plain: Set[str], newest: int
) -> Frame | None:
    """As `stamped`, as a frame; None if they must be looked at one by one. O(events).

    All of a frame are of `plain` kinds, new (above `newest`) and in order; none starts a run or names another.
    """
    kinds, counters = list(map(_KIND, envelopes)), list(map(_COUNTER, envelopes))
    every = set(kinds)
    if (
        counters[0] <= newest
        or not every <= plain
        or not every.isdisjoint(RUN_STARTING)
        or any(map(_AFTER, envelopes))
        or not ascending(counters)
    ):
        return None
    return Frame(stamped(envelopes, client, tenant, session, now), counters, kinds)
