"""A frame: events of one producer in one session, so that what they have in common is looked at once.

Law of this file: a frame says nothing that its events do not: it holds them in order, and columns read
from them once. Whoever cannot decide over a frame as a whole decides over its events one by one, and the
answers are the same.

Clients send frames of up to 64 events; columns are read and compared at 5 to 25 ns an event, a line of
Python for each event costs ten times that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


class Frame(list[Envelope]):
    """Several events of one producer in one session, their counters ascending, none of which names another.

    A list that is not to be changed. Whoever makes one has seen to all that; `frame_of` looks.

    Args:
        envs: the events, in order; at least one.
        counters, kinds: columns, one entry an event, if they have been read.

    Attributes:
        tenant, session, producer: whose they are.
        counters, kinds, lanes: columns.
    """

    __slots__ = ("counters", "kinds", "lanes", "producer", "session", "tenant")

    def __init__(
        self, envs: Iterable[Envelope], counters: list[int] | None = None, kinds: list[str] | None = None
    ) -> None:
        super().__init__(envs)
        first = self[0]
        self.tenant, self.session, self.producer = first[TENANT], first[SESSION], first[PRODUCER]
        self.counters = list(map(_COUNTER, self)) if counters is None else counters
        self.kinds = list(map(_KIND, self)) if kinds is None else kinds
        self.lanes = list(map(_LANE, self))

    @property
    def cost_bytes(self) -> int:
        """What its events weigh together; see `envelope.cost_bytes`. O(events)."""
        return _OVERHEAD_BYTES * len(self) + sum(map(len, map(_BODY, self)))

    @property
    def largest_bytes(self) -> int:
        """The size of its largest body. O(events)."""
        return max(map(len, map(_BODY, self)))

    @property
    def traced(self) -> Sequence[Envelope]:
        """Its sampled events; mostly none. O(events)."""
        return [env for env in self if env[TRACE]] if any(map(_TRACE, self)) else ()


def frame_of(envs: Sequence[Envelope]) -> Frame | None:
    """Return events as a frame; None if they are few, or not of one producer in one session in order. O(events).

    A frame is returned as it is.
    """
    if type(envs) is Frame:
        return envs
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
    return Frame(envs, counters)


def ascending(counters: Sequence[int]) -> bool:
    """True if each is above the one before it. O(counters), least if they have no holes."""
    first = counters[0]
    return counters == list(range(first, first + len(counters))) or all(map(lt, counters, counters[1:]))
