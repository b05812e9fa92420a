"""A frame: events of one producer in one session, so that what they have in common is looked at once.

Law of this file: a frame says nothing that its events do not: it holds them in order, and columns read
from them once. Whoever cannot decide over a frame as a whole decides over its events one by one, and the
answers are the same.

Clients send frames of up to 64 events; columns are read and compared at 5 to 25 ns an event, a line of
Python for each event costs ten times that.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter, lt
from typing import Final

from laneway.routing.envelope import AFTER, BODY, COUNTER, KIND, LANE, PRODUCER, SESSION, TENANT, TRACE, Envelope

__all__ = ["FEWEST", "Frame", "ascending", "frame_of"]

FEWEST: Final = 4
"""Events from which on columns cost less than a line for each event (measured)."""
_OVERHEAD_BYTES: Final = 200
"""Of an event beside its body; see `envelope.cost_bytes`."""

_AFTER, _BODY, _COUNTER, _KIND, _LANE = map(itemgetter, (AFTER, BODY, COUNTER, KIND, LANE))
_PRODUCER, _SESSION, _TENANT, _TRACE = map(itemgetter, (PRODUCER, SESSION, TENANT, TRACE))


class Frame:
    """Several events of one producer in one session, their counters ascending, none of which names another.

    Attributes:
        envs: the events, in order; not to be changed.
        tenant, session, producer: whose they are.
        counters, kinds, lanes: columns, one entry an event.
    """

    __slots__ = ("counters", "envs", "kinds", "lanes", "producer", "session", "tenant")

    def __init__(self, envs: list[Envelope], counters: list[int]) -> None:
        first = envs[0]
        self.envs = envs
        self.counters = counters
        self.tenant, self.session, self.producer = first[TENANT], first[SESSION], first[PRODUCER]
        self.kinds = list(map(_KIND, envs))
        self.lanes = list(map(_LANE, envs))

    def __len__(self) -> int:
        return len(self.envs)

    @property
    def cost_bytes(self) -> int:
        """What its events weigh together; see `envelope.cost_bytes`. O(events)."""
        return _OVERHEAD_BYTES * len(self.envs) + sum(map(len, map(_BODY, self.envs)))

    @property
    def largest_bytes(self) -> int:
        """The size of its largest body. O(events)."""
        return max(map(len, map(_BODY, self.envs)))

    @property
    def traced(self) -> Sequence[Envelope]:
        """Its sampled events; mostly none. O(events)."""
        return [env for env in self.envs if env[TRACE]] if any(map(_TRACE, self.envs)) else ()


def frame_of(envs: Sequence[Envelope]) -> Frame | None:
    """Return events as a frame; None if they are few, or not of one producer in one session in order. O(events)."""
    count = len(envs)
    if count < FEWEST:
        return None
    first, counters = envs[0], list(map(_COUNTER, envs))
    if (
        list(map(_SESSION, envs)).count(first[SESSION]) != count
        or list(map(_PRODUCER, envs)).count(first[PRODUCER]) != count
        or list(map(_TENANT, envs)).count(first[TENANT]) != count
        or any(map(_AFTER, envs))
        or not ascending(counters)
    ):
        return None
    return Frame(list(envs), counters)


def ascending(counters: Sequence[int]) -> bool:
    """True if each is above the one before it. O(counters), least if they have no holes."""
    first = counters[0]
    return counters == list(range(first, first + len(counters))) or all(map(lt, counters, counters[1:]))
