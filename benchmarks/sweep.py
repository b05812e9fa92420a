"""An open-loop load on a schedule, and what came of each event: how rows are overloaded, whoever they are.

Law of this file: every event offered ends as done, refused or expired; one that does not is lost, and
one that ends twice is a fault: either way the run has no figure. An event's latency counts from its
time on the schedule to its result at the client, whenever it was really sent.
"""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, NamedTuple

from benchmarks.measure import Stopwatch
from benchmarks.workload import SESSIONS
from laneway.routing.lanes import LANE_NAMES, Lane

__all__ = [
    "BODY_BYTES",
    "CROWD",
    "HANDLE_S",
    "NOMINAL_PER_S",
    "WORKERS",
    "Beside",
    "Due",
    "Load",
    "Offer",
    "Open",
    "Speaker",
    "Subject",
    "Tally",
    "by_speaker",
    "now_s",
    "offered",
    "seen",
]

HANDLE_S: Final = 0.004
WORKERS: Final = 8
NOMINAL_PER_S: Final = 2_000
BODY_BYTES: Final = 278

_TICK_S: Final = 0.001
_SETTLE_S: Final = 60.0
_BODY: Final = struct.Struct(">IBHd")


class Due(NamedTuple):
    """One event to offer.

    Attributes:
        number: in the run. lane: as the event's kind says. due: the time it is scheduled for.
        who: index of its speaker in the crowd.
        until: the monotonic time after which nobody wants the result; infinity = any time will do.
    """

    number: int
    lane: int
    due: float
    who: int
    until: float = math.inf

    def body(self) -> bytes:
        """Return what travels: number, lane, speaker and time, filled up to the size of W1's events."""
        return _BODY.pack(self.number, self.lane, self.who, self.due).ljust(BODY_BYTES, b"x")


def seen(body: bytes) -> Due:
    """Return the event that a body which came back is of; its `until` does not travel."""
    number, lane, who, due = _BODY.unpack_from(body)
    return Due(number, lane, due, who)


class Speaker(NamedTuple):
    """Whose events: a tenant, and a session of it."""

    tenant: str
    session: str


CROWD: Final = tuple(Speaker("t", f"s{number}") for number in range(SESSIONS))
"""The sessions of W4, all of one tenant."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is offered.

    Attributes:
        name: in the tables. rate_per_s, seconds: how fast, and for how long.
        lane, who: of event number k; nobody (below 0) leaves its time on the schedule empty.
        crowd: who speaks. patience_s: how long a result is wanted; a critical event's for ever.
    """

    name: str
    rate_per_s: float
    seconds: float
    lane: Callable[[int], int]
    who: Callable[[int], int]
    crowd: Sequence[Speaker] = CROWD
    patience_s: float = math.inf

    def events(self) -> list[Due]:
        """Return the events in their order, due in seconds from the beginning."""
        numbers = range(max(1, round(self.rate_per_s * self.seconds)))
        return [
            Due(number, self.lane(number), number / self.rate_per_s, who)
            for number in numbers
            if (who := self.who(number)) >= 0
        ]


class Tally:
    """What came of one run.

    Attributes:
        crowd: who speaks in it.
        done: (event, when its result was here). refused, expired: the events that were turned away with
            a reason, or taken and then given up, and their clients told.
        notes: further figures, by name with unit.
        begun: the monotonic time of event 0.
    """

    def __init__(self, crowd: Sequence[Speaker] = CROWD) -> None:
        self.crowd = crowd
        self.done: list[tuple[Due, float]] = []
        self.refused: list[Due] = []
        self.expired: list[Due] = []
        self.notes: dict[str, float] = {}
        self.begun = 0.0

    def sent(self, events: Sequence[Due]) -> Sequence[Due]:
        """Events of the schedule are due; return those to offer, the others have been refused."""
        return events

    def look(self) -> None:
        """The schedule is over, and answers are awaited; called often."""

    def finish(self, event: Due) -> None:
        """An event's result is here."""
        self.done.append((event, now_s()))

    def accept(self, event: Due) -> None:
        """An event was taken: its result, or that it was given up, will follow."""

    def refuse(self, event: Due, retry_after_ms: int | None = None, reason: str = "") -> None:
        """An event was turned away, for a reason in one word, and told when to come again, if ever."""
        self.refused.append(event)

    def expire(self, event: Due) -> None:
        """An event was taken, and given up because its time was over or it waited too long."""
        self.expired.append(event)

    @property
    def settled(self) -> int:
        """Events answered one way or the other."""
        return len(self.done) + len(self.refused) + len(self.expired)

    def late_s(self, wanted: Callable[[Due], bool]) -> list[float]:
        """Return how long the results of some events took, in seconds from their time on the schedule."""
        return [at - event.due for event, at in self.done if wanted(event)]

    def account(self, name: str, events: Sequence[Due]) -> None:
        """Raise RuntimeError unless every event ended once, and every critical one was done."""
        ended = [event.number for event, _ in self.done] + [each.number for each in (*self.refused, *self.expired)]
        lost, twice = len(events) - len(set(ended)), len(ended) - len(set(ended))
        gone = sum(not each.lane for each in (*self.refused, *self.expired))
        if not lost and not twice and not gone:
            return
        told = []
        for lane in Lane:
            ways = [sum(each.lane == lane for each in found) for found in (self.refused, self.expired)]
            done = sum(event.lane == lane for event, _ in self.done)
            count = sum(event.lane == lane for event in events)
            told.append(f"{LANE_NAMES[lane]}: of {count} events {done} were done, {ways[0]} refused, {ways[1]} expired")
        raise RuntimeError(f"{name}: {lost} events lost, {twice} answered twice; " + "; ".join(told))


def by_speaker(events: Iterable[Due]) -> dict[int, list[Due]]:
    """Return whose events these are, each one's in their order: what a client sends in one frame."""
    own: dict[int, list[Due]] = {}
    for due in events:
        own.setdefault(due.who, []).append(due)
    return own


def now_s() -> float:
    """Return the running loop's time: the machine's monotonic clock, or a simulation's."""
    return asyncio.get_running_loop().time()


Offer = Callable[[Sequence[Due]], Awaitable[None]]
"""Puts in what is due now; an empty batch says that the schedule is over and only answers are awaited."""

Open = Callable[[Tally, Stopwatch], AbstractAsyncContextManager[Offer]]
"""Makes a row ready for one run with the tally's crowd; other processes are named to the stopwatch."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Who is overloaded: a row.

    Attributes:
        slots: what can run at once, in words.
    """

    row: str
    open: Open
    slots: str = f"{WORKERS}"


Beside = Callable[[Offer], Awaitable[None]]
"""What clients do beside the schedule, until it is cancelled: offer again what was refused, say."""


async def _nothing(offer: Offer) -> None:
    """Clients that take a refusal for an answer."""


async def offered(subject: Subject, load: Load, tally: Tally, beside: Beside = _nothing) -> Stopwatch:
    """Offer a load once and wait for what becomes of it. Raises RuntimeError if an event was lost."""
    events, watch = load.events(), Stopwatch()
    async with subject.open(tally, watch) as offer, asyncio.TaskGroup() as group:
        clients = group.create_task(_run(beside, offer))
        with watch:
            await _schedule(events, load.patience_s, tally, offer)
            await _settled(tally, len(events))
        clients.cancel()
    tally.account(f"{subject.row} @{load.name}", events)
    return watch


async def _run(beside: Beside, offer: Offer) -> None:
    await beside(offer)


async def _schedule(events: Sequence[Due], patience_s: float, tally: Tally, offer: Offer) -> None:
    """Offer each event at its time; late ones at once."""
    begun = tally.begun = now_s()
    at = 0
    while at < len(events):
        elapsed = now_s() - begun
        if events[at].due > elapsed:
            await asyncio.sleep(max(events[at].due - elapsed, _TICK_S))
            continue
        batch = []
        while at < len(events) and events[at].due <= elapsed:
            due = begun + events[at].due
            until = due + patience_s if events[at].lane != Lane.CRITICAL else math.inf
            batch.append(events[at]._replace(due=due, until=until))
            at += 1
        if allowed := tally.sent(batch):
            await offer(allowed)
        await asyncio.sleep(0)
    await offer(())


async def _settled(tally: Tally, count: int) -> None:
    """Wait until every event is answered; one that never is shows in the accounts."""
    until = now_s() + _SETTLE_S
    while tally.settled < count and now_s() < until:
        await asyncio.sleep(_TICK_S)
        tally.look()
