"""Commit and deliver of what runs emit: one span for a stretch of events, not one for each token.

Law of this file: a stretch is (link, trace, run) and becomes one span when its run ends, when the link
does, or when nothing has come for a while; a span says how much went and how long the worst waited.
What belongs to no run is told at once. Nothing here is an open span: a stretch is numbers until it is
over, and the number of stretches is bounded.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Final

from laneway.actors.ports import Clock
from laneway.actors.spans import SpanValue, Tracer
from laneway.routing.envelope import ACCEPTED, BODY, ENTITY, KIND, RUN, TRACE, Envelope
from laneway.routing.traceparent import trace_id

__all__ = ["Stretches"]

_MAX_OPEN: Final = 1_024
"""Stretches of one session at once; the one that has been quiet longest is told first."""
_QUIET_S: Final = 10.0
"""Runs of users' own kinds have no last event: silence ends them."""
_ENDS: Final = frozenset({"RUN_FINISHED", "RUN_ERROR"})

_Key = tuple[Hashable, str, str]


class _Stretch:
    """What went so far."""

    __slots__ = ("bytes", "events", "first_s", "groups", "last", "longest_s", "parent", "paused_s", "start")

    def __init__(self, env: Envelope, now: float) -> None:
        self.parent = env[TRACE]
        self.start = env[ACCEPTED]
        self.first_s = now - env[ACCEPTED]
        self.last = now
        self.events = self.bytes = self.groups = 0
        self.longest_s = self.paused_s = 0.0


class Stretches:
    """What the sampled events of one session's runs took on their way out. O(1) per sampled event.

    Args:
        session: for the spans.
    """

    def __init__(self, tracer: Tracer, clock: Clock, session: str) -> None:
        self._tracer = tracer
        self._clock = clock
        self._session = session
        self._open: OrderedDict[_Key, _Stretch] = OrderedDict()
        self._added: deque[float] = deque()
        self._about: dict[Hashable, Mapping[str, SpanValue]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def paused(self, env: Envelope, waited_s: float) -> None:
        """The producer of a sampled event waited for credit; told with the commit of its run."""
        if env[RUN]:
            stretch = self._stretch((None, trace_id(env[TRACE]), env[RUN]), env, self._clock.now())
            stretch.paused_s += waited_s

    def added(self) -> None:
        """A sampled event was handed to the committer."""
        self._added.append(self._clock.now())

    def committed(self, envs: Sequence[Envelope]) -> None:
        """The next so many sampled events that were added are in the store, in one group."""
        now = self._clock.now()
        added = [self._added.popleft() for _ in envs]
        self._add(None, envs, now, now - added[0])

    def delivered(self, link: Hashable, about: Mapping[str, SpanValue], frames: Iterable[Sequence[Envelope]]) -> None:
        """Frames of a link were written.

        Args:
            about: attributes that tell which link it is.
        """
        now = self._clock.now()
        self._about[link] = about
        for envs in frames:
            self._add(link, envs, now, 0.0)

    def leave(self, link: Hashable) -> None:
        """A link is over: tell what it has written of runs that go on."""
        for key in [key for key in self._open if key[0] is link]:
            self._tell(key)
        self._about.pop(link, None)

    def sweep(self) -> None:
        """Tell what has been quiet for 10 s."""
        quiet = self._clock.now() - _QUIET_S
        while self._open and next(iter(self._open.values())).last <= quiet:
            self._tell(next(iter(self._open)))

    def close(self) -> None:
        """The session ends: tell everything."""
        while self._open:
            self._tell(next(iter(self._open)))

    def _add(self, link: Hashable, envs: Sequence[Envelope], now: float, waited_s: float) -> None:
        touched: dict[_Key, _Stretch] = {}
        over: list[_Key] = []
        for env in envs:
            if not env[TRACE]:
                continue
            key = (link, trace_id(env[TRACE]), env[RUN])
            stretch = touched.get(key) or self._stretch(key, env, now)
            if key not in touched:
                touched[key] = stretch
                stretch.groups += 1
                stretch.longest_s = max(stretch.longest_s, waited_s)
                stretch.last = now
            stretch.events += 1
            stretch.bytes += len(env[BODY])
            if not env[RUN]:
                self._tell(key)
                del touched[key]
            elif _ends(env):
                over.append(key)
        for key in over:
            self._tell(key)

    def _stretch(self, key: _Key, env: Envelope, now: float) -> _Stretch:
        stretch = self._open.get(key)
        if stretch is None:
            if len(self._open) >= _MAX_OPEN:
                self._tell(next(iter(self._open)))
            self.sweep()
            stretch = self._open[key] = _Stretch(env, now)
        else:
            self._open.move_to_end(key)
        return stretch

    def _tell(self, key: _Key) -> None:
        stretch = self._open.pop(key, None)
        if stretch is None or not stretch.events:
            return
        link, _, run = key
        attributes: dict[str, SpanValue] = {
            "laneway.session": self._session,
            "laneway.events": stretch.events,
            "laneway.bytes": stretch.bytes,
        }
        if run:
            attributes["laneway.run"] = run
        if link is None:
            attributes |= {
                "laneway.direction": "out",
                "laneway.groups": stretch.groups,
                "laneway.longest_wait_s": stretch.longest_s,
                "laneway.paused_s": stretch.paused_s,
            }
            self._tracer.record("commit", stretch.parent, stretch.start, stretch.last, attributes=attributes)
            return
        attributes |= {
            "messaging.system": "laneway",
            **self._about.get(link, {}),
            "laneway.frames": stretch.groups,
            "laneway.first_event_s": stretch.first_s,
        }
        self._tracer.record(
            "deliver", stretch.parent, stretch.start, stretch.last, kind="producer", attributes=attributes
        )


def _ends(env: Envelope) -> bool:
    """True for the last event of a run, and of a tool call that a client made (its own run, of the call's id)."""
    return env[KIND] in _ENDS or (env[KIND] == "TOOL_CALL_RESULT" and env[RUN] == env[ENTITY])
