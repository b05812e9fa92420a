"""An open-loop load on a schedule, one tally per lane: how W4 is driven, whoever is overloaded.

Law of this file: every event offered ends as done or refused, critical ones as done; one that is
neither is lost, and a run that lost one has no figure. An event's latency counts from its time on the
schedule to its result at the client, whenever it was really sent.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import struct
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from benchmarks.measure import Options, Row, Stopwatch, percentile
from laneway.routing.lanes import LANE_NAMES, Lane

__all__ = [
    "BODY_BYTES",
    "HANDLE_S",
    "LOADS",
    "WORKERS",
    "Due",
    "Offer",
    "Open",
    "Subject",
    "Tally",
    "measure",
    "measure_here",
    "run_once",
    "seen",
]

HANDLE_S: Final = 0.004
WORKERS: Final = 8
NOMINAL_PER_S: Final = 2_000
BODY_BYTES: Final = 278
LOADS: Final[Mapping[str, float]] = {"alone": 0.03, "1x": 1.0, "2x": 2.0, "3x": 3.0, "4x": 4.0}
"""Name -> share of the nominal rate; alone = 60 critical events a second and nothing else."""

_CRITICAL_EVERY: Final = 100
_TENTHS: Final = (Lane.HIGH,) * 3 + (Lane.NORMAL,) * 5 + (Lane.LOW,) * 2
_TICK_S: Final = 0.001
_SETTLE_S: Final = 60.0
_BODY: Final = struct.Struct(">Bd")


class Due(NamedTuple):
    """One event to offer: its number in the run, its lane, and the time it is scheduled for."""

    number: int
    lane: int
    due: float

    def body(self) -> bytes:
        """Return what travels: lane and time, filled up to the size of W1's events."""
        return _BODY.pack(self.lane, self.due).ljust(BODY_BYTES, b"x")


def seen(body: bytes) -> tuple[int, float]:
    """Return lane and scheduled time of a body that came back."""
    lane, due = _BODY.unpack_from(body)
    return lane, due


@dataclass(slots=True)
class Tally:
    """What came of one run, by lane: seconds from the scheduled time, and how many were refused."""

    late_s: tuple[list[float], ...] = field(default_factory=lambda: tuple([] for _ in Lane))
    refused: list[int] = field(default_factory=lambda: [0 for _ in Lane])
    notes: dict[str, float] = field(default_factory=dict)

    def done(self, lane: int, due: float) -> None:
        """An event's result is here."""
        self.late_s[lane].append(time.monotonic() - due)

    def refuse(self, lane: int) -> None:
        """An event was turned away, and said so."""
        self.refused[lane] += 1

    @property
    def settled(self) -> int:
        """Events answered one way or the other."""
        return sum(map(len, self.late_s)) + sum(self.refused)


Offer = Callable[[Sequence[Due]], Awaitable[None]]
"""Puts in what is due now; an empty batch says that the schedule is over and only answers are awaited."""

Open = Callable[[Tally, Stopwatch], AbstractAsyncContextManager[Offer]]
"""Makes a row ready for one run; other processes are named to the stopwatch."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Who is overloaded: a row of W4.

    Attributes:
        slots: what can run at once, in words.
    """

    row: str
    open: Open
    slots: str = f"{WORKERS}"


def measure(subjects: Iterable[Subject], options: Options, status: Callable[[str], None]) -> list[Row]:
    """Run every row at every load, `overload_repeats` times; one row of figures each.

    Repetitions go round all rows, so that what else happens on the machine meets all of them. Raises
    RuntimeError if an event was lost.
    """
    runs = _Runs("W4")
    for subject, load in _plan("W4", list(subjects), tuple(LOADS), options, status):
        runs.add(subject, load, asyncio.run(run_once(subject, load, options.seconds)))
    return runs.rows()


async def measure_here(
    workload: str,
    subjects: Iterable[Subject],
    loads: Sequence[str],
    options: Options,
    status: Callable[[str], None],
) -> list[Row]:
    """As `measure`, on the running loop and at some of the loads: for subjects that stay up between runs."""
    runs = _Runs(workload)
    for subject, load in _plan(workload, list(subjects), loads, options, status):
        runs.add(subject, load, await run_once(subject, load, options.seconds))
    return runs.rows()


def _plan(
    workload: str, subjects: Sequence[Subject], loads: Sequence[str], options: Options, status: Callable[[str], None]
) -> Iterator[tuple[Subject, str]]:
    for number in range(options.overload_repeats):
        for subject in subjects:
            for load in loads:
                status(f"{workload} {subject.row} at {load}, {number + 1} of {options.overload_repeats}")
                yield subject, load


class _Runs:
    """The figures of all repetitions, by row and load."""

    def __init__(self, workload: str) -> None:
        self._workload = workload
        self._found: dict[tuple[str, str, str], list[Mapping[str, float]]] = {}

    def add(self, subject: Subject, load: str, figures: Mapping[str, float]) -> None:
        self._found.setdefault((subject.row, load, subject.slots), []).append(figures)

    def rows(self) -> list[Row]:
        return [_row(self._workload, *what, found) for what, found in self._found.items()]


def _row(workload: str, row: str, load: str, slots: str, found: Sequence[Mapping[str, float]]) -> Row:
    """The median of each figure; NaN where a lane had nothing done."""
    figures = {name: statistics.median(each[name] for each in found) for name in found[0]}
    p99_ms = tuple(each["critical_p99_ms"] for each in found)
    extra: dict[str, Any] = {"load": load, "slots": slots, **figures}
    median, cpu_us = statistics.median(p99_ms), figures["engine_cpu_us"]
    return Row(workload, f"{row} @{load}", "critical p99 ms", p99_ms, median, cpu_us, extra)


async def run_once(subject: Subject, load: str, seconds: float) -> dict[str, float]:
    """One run of one row at one load; its figures. Raises RuntimeError if an event was lost."""
    alone = load == "alone"
    rate_per_s = LOADS[load] * NOMINAL_PER_S
    lanes = [_lane(number, alone=alone) for number in range(max(1, round(rate_per_s * seconds)))]
    tally, watch = Tally(), Stopwatch()
    async with subject.open(tally, watch) as offer:
        with watch:
            await _schedule(lanes, rate_per_s, offer)
            await _settled(tally, len(lanes))
    _account(subject, load, tally, lanes)
    return _figures(tally, watch, lanes)


def _lane(number: int, *, alone: bool) -> int:
    return Lane.CRITICAL if alone or number % _CRITICAL_EVERY == 0 else _TENTHS[number % len(_TENTHS)]


async def _schedule(lanes: Sequence[int], rate_per_s: float, offer: Offer) -> None:
    """Offer each event at its time; late ones at once."""
    begun, number = time.monotonic(), 0
    while number < len(lanes):
        early = begun + number / rate_per_s - time.monotonic()
        if early > 0:
            await asyncio.sleep(max(early, _TICK_S))
            continue
        upto = min(len(lanes), math.floor((time.monotonic() - begun) * rate_per_s) + 1)
        await offer([Due(each, lanes[each], begun + each / rate_per_s) for each in range(number, upto)])
        number = upto
        await asyncio.sleep(0)
    await offer(())


async def _settled(tally: Tally, count: int) -> None:
    """Wait until every event is answered; one that never is shows in the accounts."""
    until = time.monotonic() + _SETTLE_S
    while tally.settled < count and time.monotonic() < until:  # noqa: ASYNC110 - several kinds of answer
        await asyncio.sleep(_TICK_S)


def _account(subject: Subject, load: str, tally: Tally, lanes: Sequence[int]) -> None:
    """Raise RuntimeError unless every event was answered, and every critical one done."""
    for lane in Lane:
        offered, done, refused = lanes.count(lane), len(tally.late_s[lane]), tally.refused[lane]
        if done + refused != offered or (lane is Lane.CRITICAL and refused):
            raise RuntimeError(
                f"W4 {subject.row} @{load}: {LANE_NAMES[lane]}: of {offered} events {done} were done, {refused} refused"
            )


def _figures(tally: Tally, watch: Stopwatch, lanes: Sequence[int]) -> dict[str, float]:
    figures: dict[str, float] = {"offered": len(lanes), "lost": 0}
    for lane in Lane:
        name, late_s = LANE_NAMES[lane], tally.late_s[lane]
        figures[f"{name}_p50_ms"] = percentile(late_s, 0.5) * 1e3
        figures[f"{name}_p99_ms"] = percentile(late_s, 0.99) * 1e3
        figures[f"{name}_done"] = len(late_s)
        figures[f"{name}_refused"] = tally.refused[lane]
    engine_s = watch.others_s.get("engine", watch.cpu_s)
    return {**figures, "engine_cpu_us": engine_s / len(lanes) * 1e6, **tally.notes}
