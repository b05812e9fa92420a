"""The books of accepted events: each is entered once, leaves once, and whoever waits for it is told.

Law of this file: accepted = handled + expired + dropped + cancelled + failed + dead + pending, after every call.
`pending` is counted from what is open, not computed from the others, so the sum is a real check.

A large text may be handled in parts: the event is over with its last part, and it failed if one did.

Events end in lists, as handlers end together; whoever waits for several of a list is told once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Final, TypeAlias, TypeVar

from laneway.actors.meters import by_lane
from laneway.actors.ports import Observe, Outcome
from laneway.routing.envelope import ACCEPTED, LANE, PRODUCER, SESSION, TENANT, TRACE, Envelope, Key, key_of
from laneway.routing.frame import FEWEST, Frame
from laneway.routing.lanes import LANE_COUNT
from laneway.routing.parts import part_of

__all__ = ["ENDINGS", "Books", "Ended", "OnDone"]

ENDINGS: Final = ("handled", "expired", "dropped", "cancelled", "failed", "dead")
"""How an accepted event can end."""

Ended: TypeAlias = tuple[Envelope, Outcome]
OnDone: TypeAlias = Callable[[Sequence[Ended]], None]
"""Told how events ended, each of them exactly once, several at a time. Hashable; the same object for
events that may be told together."""

_T = TypeVar("_T")
_ACCEPTED, _LANE, _STATUS, _TRACE = map(itemgetter, (ACCEPTED, LANE, 0, TRACE))


class _Line:
    """What one producer has open in one session, and who is told of it."""

    __slots__ = ("events", "on_done", "others")

    def __init__(self, on_done: OnDone | None) -> None:
        self.events: dict[int, Envelope] = {}
        self.on_done = on_done
        self.others: dict[int, OnDone | None] = {}
        """Counter -> who else is told of this event than of the line's others."""


class Books:
    """Accepted events that are not over, and how the others ended. All operations O(1), or O(events).

    Args:
        on_error: told of an `on_done` callback that raised; the events are booked all the same.
        on_traced: told how each event with a trace ended, before anybody else.
        took: per lane, told of the seconds from an event's acceptance to its end.

    Attributes:
        accepted: events accepted, per lane. ended: how they ended, per lane.
    """

    __slots__ = ("_broken", "_on_error", "_on_traced", "_open", "_quiet", "_took", "accepted", "ended", "lines")

    def __init__(
        self,
        on_error: Callable[[Exception], None],
        on_traced: Callable[[Envelope, Outcome], None] = lambda env, outcome: None,
        took: Sequence[Observe] | None = None,
    ) -> None:
        self.accepted = [0] * LANE_COUNT
        self.ended = [dict.fromkeys(ENDINGS, 0) for _ in range(LANE_COUNT)]
        self._on_error = on_error
        self._on_traced = on_traced
        self._took = by_lane(None, "event.time") if took is None else took
        self.lines: dict[tuple[str, str, str], _Line] = {}
        """(tenant, session, producer) -> what it has open, for look-ups; who has nothing is not there."""
        self._open = 0
        self._broken: dict[Key, Outcome] = {}
        self._quiet = asyncio.Event()

    def __len__(self) -> int:
        return self._open

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, tuple):
            return False
        line = self.lines.get(key[:3])
        return line is not None and key[3] in line.events

    def meets(self, frame: Frame) -> bool:
        """True if one of these events is open. O(events)."""
        line = self.lines.get((frame.tenant, frame.session, frame.producer))
        return line is not None and not line.events.keys().isdisjoint(frame.counters)

    def enter(self, envs: Iterable[Envelope], on_done: OnDone | None) -> None:
        """Accept events; the caller has made sure that their keys are not open."""
        for env in envs:
            line = self._line(env[TENANT], env[SESSION], env[PRODUCER], on_done)
            line.events[env[1]] = env
            if line.on_done is not on_done:
                line.others[env[1]] = on_done
            self.accepted[env[7]] += 1
            self._open += 1

    def enter_frame(self, frame: Frame, on_done: OnDone | None) -> None:
        """As `enter`, for a frame."""
        line, lanes = self._line(frame.tenant, frame.session, frame.producer, on_done), frame.lanes
        line.events.update(zip(frame.counters, frame))  # noqa: B905 as many
        if line.on_done is not on_done:
            line.others.update(dict.fromkeys(frame.counters, on_done))
        for lane in set(lanes):
            self.accepted[lane] += lanes.count(lane)
        self._open += len(lanes)

    def _line(self, tenant: str, session: str, producer: str, on_done: OnDone | None) -> _Line:
        key = (tenant, session, producer)
        line = self.lines.get(key)
        if line is None:
            line = self.lines[key] = _Line(on_done)
        return line

    def close(self, ended: Sequence[Ended], now: float) -> int:
        """Book how events ended, then tell who waits; returns how many were open (until now). O(ended)."""
        if len(ended) == 1:
            return self._close_one(ended[0], now)
        told, closed = self._taken_out(ended), 0
        for pairs in told.values():
            closed += len(pairs)
            self._book(pairs, now)
        self._open -= closed
        if not self._open:
            self._quiet.set()
        for on_done, pairs in told.items():
            if on_done is not None and pairs:
                self._tell(on_done, pairs)
        return closed

    def _close_one(self, pair: Ended, now: float) -> int:
        """As `close`; what ends by itself needs no lists."""
        env, outcome = pair
        if env[10] or self._broken:
            whole = self._whole(env, outcome)
            if whole is None:
                return 0
            pair = env, outcome = env, whole
        key = (env[3], env[4], env[0])
        line = self.lines.get(key)
        if line is None or env[1] not in line.events:
            return 0
        del line.events[env[1]]
        on_done = line.others.pop(env[1], line.on_done) if line.others else line.on_done
        if not line.events:
            del self.lines[key]
        self.ended[env[7]][outcome[0]] += 1
        self._took[env[7]](now - env[12])
        if env[9]:
            self._on_traced(env, outcome)
        self._open -= 1
        if not self._open:
            self._quiet.set()
        if on_done is not None:
            self._tell(on_done, [pair])
        return 1

    def _tell(self, on_done: OnDone, pairs: Sequence[Ended]) -> None:
        try:
            on_done(pairs)
        except Exception as error:
            self._on_error(error)

    def _taken_out(self, ended: Sequence[Ended]) -> dict[OnDone | None, list[Ended]]:
        """Take out what is open; returns it by whom to tell. O(ended), least for what is one line's in a row."""
        broken = self._broken
        told: dict[OnDone | None, list[Ended]] = {}
        events: dict[int, Envelope] = {}
        others: dict[int, OnDone | None] = {}
        group: list[Ended] = []
        key: tuple[str, str, str] | None = None
        for pair in ended:
            env = pair[0]
            if broken or events.get(env[1]) is not env:  # another line, or not as it was entered: a part, or joined
                if env[10] or broken:
                    whole = self._whole(env, pair[1])
                    if whole is None:
                        continue
                    pair = (env, whole)
                if key is not None and not events:
                    del self.lines[key]
                key = (env[3], env[4], env[0])
                line = self.lines.get(key)
                if line is None or env[1] not in line.events:
                    key, events = None, {}
                    continue
                events, others, group = line.events, line.others, told.setdefault(line.on_done, [])
            del events[env[1]]
            if others and env[1] in others:
                told.setdefault(others.pop(env[1]), []).append(pair)
            else:
                group.append(pair)
        if key is not None and not events:
            del self.lines[key]
        return told

    def _book(self, pairs: Sequence[Ended], now: float) -> None:
        """Count and measure what has ended. Events of one frame were accepted at one time, and mostly end alike."""
        if len(pairs) < FEWEST:
            for env, outcome in pairs:
                self.ended[env[7]][outcome[0]] += 1
                self._took[env[7]](now - env[12])
        else:
            envs, outcomes = zip(*pairs)  # noqa: B905 pairs
            lanes, accepted = list(map(_LANE, envs)), list(map(_ACCEPTED, envs))
            for lane, status, times in _counted(lanes, list(map(_STATUS, outcomes))):
                self.ended[lane][status] += times
            for lane, at, times in _counted(lanes, accepted):
                self._took[lane](now - at, times)
            if not any(map(_TRACE, envs)):
                return
        for env, outcome in pairs:
            if env[9]:
                self._on_traced(env, outcome)

    def _whole(self, env: Envelope, outcome: Outcome) -> Outcome | None:
        """Return how the whole event ended; None for a part of it that is not the last."""
        key, part = key_of(env), part_of(env)
        if part is not None and part[0] < part[1]:
            if outcome.status != "handled" and key in self:
                self._broken.setdefault(key, outcome)
            return None
        broken = self._broken.pop(key, None)
        return broken if broken is not None and part is not None else outcome

    def open(self) -> list[Envelope]:
        """Return the events that are not over, oldest first of each producer. O(open)."""
        return [env for line in self.lines.values() for env in line.events.values()]

    async def quiet(self, timeout_s: float) -> bool:
        """Wait until nothing is open, at most `timeout_s` seconds; returns whether it came to that."""
        self._quiet.clear()
        try:
            async with asyncio.timeout(timeout_s):
                while self._open:
                    await self._quiet.wait()
                    self._quiet.clear()
        except TimeoutError:
            return False
        return True


def _counted(lanes: list[int], values: list[_T]) -> Iterator[tuple[int, _T, int]]:
    """Yield how often each lane is there with each value; cheap where the value is one and the same."""
    first = values[0]
    if values.count(first) == len(values):
        for lane in set(lanes):
            yield lane, first, lanes.count(lane)
    else:
        for (lane, value), times in Counter(zip(lanes, values)).items():  # noqa: B905 as many
            yield lane, value, times
