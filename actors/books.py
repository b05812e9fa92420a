"""The books of accepted events: each is entered once, leaves once, and whoever waits for it is told.

Law of this file: accepted = handled + expired + cancelled + failed + dead + pending, after every call.
`pending` is counted from what is open, not computed from the others, so the sum is a real check.

A large text may be handled in parts: the event is over with its last part, and it failed if one did.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeAlias

from laneway.actors.ports import Outcome
from laneway.routing.envelope import AFTER, COUNTER, LANE, PRODUCER, SESSION, TENANT, TRACE, Envelope
from laneway.routing.lanes import LANE_COUNT
from laneway.routing.parts import part_of

__all__ = ["ENDINGS", "Books", "Key", "OnDone", "key_of"]

ENDINGS: Final = ("handled", "expired", "cancelled", "failed", "dead")
"""How an accepted event can end."""

OnDone: TypeAlias = Callable[[Envelope, Outcome], None]
Key: TypeAlias = tuple[str, str, str, int]


def key_of(env: Envelope) -> Key:
    """Return what identifies an event in this process: tenant, session, producer, counter."""
    return (env[TENANT], env[SESSION], env[PRODUCER], env[COUNTER])


class Books:
    """Accepted events that are not over, and how the others ended. All operations O(1).

    Args:
        on_error: told of an `on_done` callback that raised; the event is booked all the same.
        on_traced: told how each event with a trace ended, before anybody else.

    Attributes:
        accepted: events accepted, per lane. ended: how they ended, per lane.
    """

    __slots__ = ("_broken", "_on_error", "_on_traced", "_open", "_quiet", "accepted", "ended")

    def __init__(self, on_error: Callable[[Exception], None], on_traced: OnDone = lambda env, outcome: None) -> None:
        self.accepted = [0] * LANE_COUNT
        self.ended = [dict.fromkeys(ENDINGS, 0) for _ in range(LANE_COUNT)]
        self._on_error = on_error
        self._on_traced = on_traced
        self._open: dict[Key, tuple[Envelope, OnDone | None]] = {}
        self._broken: dict[Key, Outcome] = {}
        self._quiet = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, key: object) -> bool:
        return key in self._open

    def enter(self, key: Key, env: Envelope, on_done: OnDone | None) -> None:
        """Accept an event; the caller has made sure that its key is not open."""
        self.accepted[env[LANE]] += 1
        self._open[key] = (env, on_done)

    def close(self, env: Envelope, outcome: Outcome) -> bool:
        """Book how an event ended and tell who waits; False if it is not open (any more)."""
        key = (env[TENANT], env[SESSION], env[PRODUCER], env[COUNTER])
        part = part_of(env) if env[AFTER] else None
        if part is not None and part[0] < part[1]:
            if outcome.status != "handled" and key in self._open:
                self._broken.setdefault(key, outcome)
            return False
        if self._broken:
            broken = self._broken.pop(key, None)
            outcome = broken if broken is not None and part is not None else outcome
        entry = self._open.pop(key, None)
        if entry is None:
            return False
        self.ended[entry[0][LANE]][outcome.status] += 1
        if env[TRACE]:
            self._on_traced(env, outcome)
        if not self._open:
            self._quiet.set()
        if entry[1] is not None:
            try:
                entry[1](env, outcome)
            except Exception as error:
                self._on_error(error)
        return True

    def open(self) -> list[Envelope]:
        """Return the events that are not over, oldest first. O(open)."""
        return [env for env, _ in self._open.values()]

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
