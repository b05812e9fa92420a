"""The books of accepted events: each is entered once, leaves once, and whoever waits for it is told.

Law of this file: accepted = handled + expired + dropped + cancelled + failed + dead + pending, after every call.
`pending` is counted from what is open, not computed from the others, so the sum is a real check.

A large text may be handled in parts: the event is over with its last part, and it failed if one did.

Events end in lists, as handlers end together; whoever waits for several of a list is told once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

from laneway.actors.meters import by_lane
from laneway.actors.ports import Observe, Outcome
from laneway.routing.envelope import COUNTER, PRODUCER, SESSION, TENANT, Envelope
from laneway.routing.lanes import LANE_COUNT
from laneway.routing.parts import part_of

__all__ = ["ENDINGS", "Books", "Ended", "Key", "OnDone", "key_of"]

ENDINGS: Final = ("handled", "expired", "dropped", "cancelled", "failed", "dead")
"""How an accepted event can end."""

Ended: TypeAlias = tuple[Envelope, Outcome]
OnDone: TypeAlias = Callable[[Sequence[Ended]], None]
"""Told how events ended, each of them exactly once, several at a time. Hashable; the same object for
events that may be told together."""
Key: TypeAlias = tuple[str, str, str, int]


def key_of(env: Envelope) -> Key:
    """Return what identifies an event in this process: tenant, session, producer, counter."""
    return (env[TENANT], env[SESSION], env[PRODUCER], env[COUNTER])


class Books:
    """Accepted events that are not over, and how the others ended. All operations O(1).

    Args:
        on_error: told of an `on_done` callback that raised; the events are booked all the same.
        on_traced: told how each event with a trace ended, before anybody else.
        took: per lane, told of the seconds from an event's acceptance to its end.

    Attributes:
        accepted: events accepted, per lane. ended: how they ended, per lane.
    """

    __slots__ = ("_broken", "_on_error", "_on_traced", "_quiet", "_took", "accepted", "ended", "opened")

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
        self.opened: dict[Key, tuple[Envelope, OnDone | None]] = {}
        """What is not over, for look-ups; entered and closed here only."""
        self._broken: dict[Key, Outcome] = {}
        self._quiet = asyncio.Event()

    def __len__(self) -> int:
        return len(self.opened)

    def __contains__(self, key: object) -> bool:
        return key in self.opened

    def enter(self, envs: Iterable[Envelope], on_done: OnDone | None) -> None:
        """Accept events; the caller has made sure that their keys are not open."""
        opened, accepted = self.opened, self.accepted
        for env in envs:
            accepted[env[7]] += 1
            opened[(env[3], env[4], env[0], env[1])] = (env, on_done)

    def close(self, ended: Iterable[Ended], now: float) -> int:
        """Book how events ended, then tell who waits; returns how many were open (until now). O(ended)."""
        opened, books, took = self.opened, self.ended, self._took
        told: dict[OnDone, list[Ended]] = {}
        before: OnDone | None = None
        group: list[Ended] = []
        closed = 0
        for pair in ended:
            env, outcome = pair
            key = (env[3], env[4], env[0], env[1])
            if env[10] or self._broken:
                whole = self._whole(key, env, outcome)
                if whole is None:
                    continue
                outcome = whole
                pair = (env, whole)
            entry = opened.pop(key, None)
            if entry is None:
                continue
            closed += 1
            lane, on_done = env[7], entry[1]
            books[lane][outcome.status] += 1
            took[lane](now - env[12])
            if env[9]:
                self._on_traced(env, outcome)
            if on_done is not None:
                if on_done is not before:
                    before, group = on_done, told.setdefault(on_done, [])
                group.append(pair)
        if not opened:
            self._quiet.set()
        for on_done, pairs in told.items():
            try:
                on_done(pairs)
            except Exception as error:
                self._on_error(error)
        return closed

    def _whole(self, key: Key, env: Envelope, outcome: Outcome) -> Outcome | None:
        """Return how the whole event ended; None for a part of it that is not the last."""
        part = part_of(env)
        if part is not None and part[0] < part[1]:
            if outcome.status != "handled" and key in self.opened:
                self._broken.setdefault(key, outcome)
            return None
        broken = self._broken.pop(key, None)
        return broken if broken is not None and part is not None else outcome

    def open(self) -> list[Envelope]:
        """Return the events that are not over, oldest first. O(open)."""
        return [env for env, _ in self.opened.values()]

    async def quiet(self, timeout_s: float) -> bool:
        """Wait until nothing is open, at most `timeout_s` seconds; returns whether it came to that."""
        self._quiet.clear()
        try:
            async with asyncio.timeout(timeout_s):
                while self.opened:
                    await self._quiet.wait()
                    self._quiet.clear()
        except TimeoutError:
            return False
        return True
