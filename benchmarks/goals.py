"""The goals, each beside the figure of this run: reached, not reached, or not in this run.

Law of this file: a goal is a ratio in one run where there is a baseline to it, and an absolute only
where there is none. A figure that is missing is said to be missing; nothing is estimated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks import (
    appends,
    catalogue,
    documents,
    edge,
    forced,
    goodput,
    nats_bus,
    neighbours,
    on_ray,
    paths,
    pykka_actors,
    queues,
    ray_actors,
    regions,
    remote_engine,
    soak,
    token_streams,
    traced,
)
from benchmarks.measure import Row, ratio
from benchmarks.overload_rows import ENGINE
from benchmarks.overload_served import FULL_WINDOW, GRPC

__all__ = ["GOALS", "Goal", "Verdict", "verdicts"]


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal.

    Attributes:
        group, what: where it belongs, and its sentence.
        limit: the number to reach; at_most: from above.
        figure: the run's number, or None; unit: what follows it.
    """

    group: str
    what: str
    limit: float
    figure: Callable[[Sequence[Row]], float | None]
    at_most: bool = False
    unit: str = "x"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal and what this run says of it; `reached` is None if there is no figure."""

    goal: Goal
    figure: float | None

    @property
    def reached(self) -> bool | None:
        """Whether the figure is on the right side of the limit."""
        if self.figure is None:
            return None
        return self.figure <= self.goal.limit if self.goal.at_most else self.figure >= self.goal.limit

    @property
    def word(self) -> str:
        """What to say of it."""
        if self.reached is not None:
            return "reached" if self.reached else "NOT reached"
        return "not in this run"


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """Hold every goal against the rows of a run. O(goals x rows)."""
    return [Verdict(goal, goal.figure(rows)) for goal in GOALS]


def _of(workload: str, row: str, base: str, figure: str = "median") -> Callable[[Sequence[Row]], float | None]:
    """Return a row's figure over a base's."""
    return lambda rows: ratio(rows, workload, row, base, figure)


def _at(workload: str, row: str, figure: str = "median") -> Callable[[Sequence[Row]], float | None]:
    """Return a row's figure as it is."""

    def read(rows: Sequence[Row]) -> float | None:
        return next((each.figure(figure) for each in rows if (each.workload, each.row) == (workload, row)), None)

    return read


def _flat(row: str, load: str) -> Callable[[Sequence[Row]], float | None]:
    """Return a row's goodput at a load over its peak."""
    return lambda rows: goodput.flatness(rows, row, load)


_FRAMES: Final = paths.FRAMES.row
_WIRE: Final = remote_engine.FRAMES.row
_W1: Final = "W1 in process"
_W1_LOG: Final = "W1 with more on"
_W1_WIRE: Final = "W1 over gRPC"
_W2: Final = "W2 tool calls"
_W3: Final = "W3 token streams"
_W4: Final = "W4 overload"
_NEIGHBOURS: Final = "noisy neighbours"
_GOODPUT: Final = "goodput"
_QUEUE: Final = queues.PLAIN.row
_PRIORITY: Final = queues.PRIORITY.row

GOALS: Final[Sequence[Goal]] = (
    *(
        goal
        for row, frames, forced_row in (
            (paths.LISTS.row, "frames of 64, handlers of lists", forced.FORCED_LISTS.row),
            (_FRAMES, "frames of 64, handlers of single events", forced.FORCED.row),
        )
        for goal in (
            Goal(_W1, f"engine, {frames}, against a bare asyncio.Queue", 0.75, _of("W1", row, _QUEUE)),
            Goal(_W1, f"engine, {frames}, against a bare asyncio.PriorityQueue", 1.0, _of("W1", row, _PRIORITY)),
            Goal(_W1, f"engine, {frames}, against pykka", 2.5, _of("W1", row, pykka_actors.EVENTS.row)),
            Goal(_W1, f"engine, {frames}, CPU per event", 0.9, _at("W1", row, "cpu_us"), at_most=True, unit="us"),
            Goal(
                _W1,
                f"fair queueing forced on every event, {frames.partition(', ')[2]}, against a bare asyncio.Queue",
                0.5,
                _of("W1", forced_row, _QUEUE),
            ),
        )
    ),
    *(
        Goal(
            _W1_LOG,
            f"sqlite store{what}, against bare batched sqlite appends",
            0.5,
            _of("W1", row, appends.APPENDS.row),
        )
        for row, what in ((paths.SQLITE_LISTS.row, ", handlers of lists"), (paths.SQLITE.row, ""))
    ),
    Goal(_W1_LOG, "1 % sampled tracing, against none", 0.9, _of("W1", traced.SAMPLED.row, _FRAMES)),
    Goal(
        _W1_WIRE,
        "client, gRPC, engine and back, frames of 64, against nats",
        4.0,
        _of("W1", _WIRE, nats_bus.EVENTS.row),
    ),
    Goal(
        _W1_WIRE,
        "CPU of the engine's process per event",
        2.5,
        _at("W1", _WIRE, "engine_cpu_us"),
        at_most=True,
        unit="us",
    ),
    Goal(
        "on Ray",
        "W1, pools in other processes, against Ray async actors",
        25.0,
        _of(on_ray.W1, on_ray.LANEWAY, ray_actors.NAME),
    ),
    Goal(
        "on Ray",
        "W1, pools on another node, against Ray async actors there",
        25.0,
        _of(on_ray.W1_APART, on_ray.LANEWAY, ray_actors.NAME),
    ),
    Goal(
        "on Ray",
        "W4 at 3x, two dispatchers: critical p99, of a bare PriorityQueue",
        1.0,
        _of(on_ray.W4, f"{on_ray.TWO_FRONTS} @3x", "asyncio.PriorityQueue @3x"),
        at_most=True,
    ),
    Goal(
        "on Ray",
        "W4 at 3x, two dispatchers: critical p99, of its own unloaded",
        1.2,
        _of(on_ray.W4, f"{on_ray.TWO_FRONTS} @3x", f"{on_ray.TWO_FRONTS} @alone"),
        at_most=True,
    ),
    Goal(_W2, "in process, against bare asyncio", 0.9, _of("W2", "laneway", "asyncio")),
    Goal(_W2, "over gRPC, against nats", 1.0, _of("W2", "laneway over gRPC", "nats")),
    Goal(_W2, "ledger on sqlite, in process, against bare asyncio", 0.5, _of("W2", "laneway, sqlite", "asyncio")),
    Goal(_W2, "ledger on sqlite, over gRPC, against nats", 0.5, _of("W2", "laneway over gRPC, sqlite", "nats")),
    Goal(_W3, "burst, in process, against nats", 1.5, _of(token_streams.BURST, "laneway", "nats")),
    Goal(
        _W3,
        "burst, in process, first token p99 against bare asyncio",
        1.3,
        _of(token_streams.BURST, "laneway", "asyncio.Queue", "first_p99_ms"),
        at_most=True,
    ),
    Goal(
        _W3,
        "burst, over gRPC, against one gRPC message a token",
        2.0,
        _of(token_streams.BURST, "laneway over gRPC", "raw grpc.aio, one message a token"),
    ),
    *(
        goal
        for row in ("laneway", "laneway over gRPC")
        for goal in (
            Goal(
                _W3,
                f"5,000 tokens/s paced, {row}: tokens/s against bare asyncio",
                0.98,
                _of(token_streams.PACED, row, "asyncio.Queue"),
            ),
            Goal(
                _W3,
                f"5,000 tokens/s paced, {row}: lag p99 beyond the window",
                15.0,
                _at(token_streams.PACED, row, "beyond_window_p99_ms"),
                at_most=True,
                unit="ms",
            ),
        )
    ),
    *(
        goal
        for row in (ENGINE.row, GRPC.row, FULL_WINDOW.row)
        for load in ("3x", "10x")
        for goal in (
            Goal(
                _W4,
                f"{load}, {row}: critical p99, of a bare PriorityQueue",
                1.0,
                _of("W4", f"{row} @{load}", f"{_PRIORITY} @{load}"),
                at_most=True,
            ),
            Goal(
                _W4,
                f"{load}, {row}: critical p99, of its own unloaded",
                1.2,
                _of("W4", f"{row} @{load}", f"{row} @alone"),
                at_most=True,
            ),
        )
    ),
    *(
        goal
        for row in (ENGINE.row, GRPC.row)
        for by in ("sessions", "tenants")
        for goal in (
            Goal(
                _NEIGHBOURS,
                f"{row}, light {by}: p99 beside one at 10x its share, of the same without",
                2.0,
                _of(neighbours.WORKLOAD, f"{row}, {by} @10x", f"{row}, {by} @without", "light_p99_ms"),
                at_most=True,
            ),
            Goal(
                _NEIGHBOURS,
                f"{row}, light {by}: events refused beside one at 10x",
                0.0,
                _at(neighbours.WORKLOAD, f"{row}, {by} @10x", "light_refused"),
                at_most=True,
                unit="",
            ),
        )
    ),
    *(
        Goal(_GOODPUT, f"{load}, {case.row}: of its peak", 0.9, _flat(case.row, load))
        for case in goodput.CASES
        if case.tells
        for load in ("4x", "10x")
    ),
    *(
        Goal(
            _W4,
            f"{load}, {row}: longest time without a result of low",
            1_000.0,
            _at("W4", f"{row} @{load}", "low_pause_ms"),
            at_most=True,
            unit="ms",
        )
        for row in (ENGINE.row, GRPC.row)
        for load in ("2x", "4x", "10x")
    ),
    *(
        Goal(
            _GOODPUT,
            f"{load}, {case.row}: longest time without a result of low",
            1_000.0,
            _at(goodput.WORKLOAD, f"{case.row} @{load}", "low_pause_ms"),
            at_most=True,
            unit="ms",
        )
        for case in goodput.CASES
        if case.tells and case.attempts == 1
        for load in ("2x", "4x", "10x")
    ),
    Goal(
        "soak",
        "60 s of everything: memory's growth, in 64 KiB, includes zero, and no more is held at rest",
        1.0,
        _at(soak.WORKLOAD, soak.ENGINE, "settled"),
    ),
    Goal(
        "soak",
        "60 s of everything: gauges that did not return",
        0.0,
        _at(soak.WORKLOAD, soak.ENGINE, "left"),
        at_most=True,
        unit="",
    ),
    Goal("edge", "2,000 users all served on at most 50 TCP connections", 1.0, _at("edge", edge.USERS, "success")),
    Goal(
        "edge",
        "tool catalogue, mean at 6,000 requests/s",
        1.5,
        _at("edge", catalogue.LANEWAY, "mean_ms"),
        at_most=True,
        unit="ms",
    ),
    Goal(
        "edge",
        "memory of each of 10,000 open sessions",
        40.0,
        _at("edge", edge.SESSIONS, "each_kb"),
        at_most=True,
        unit="KB",
    ),
    Goal(
        "state",
        "edits at the cell, batches of 64, against bare pycrdt apply",
        0.7,
        _of("state", documents.CELL, documents.BARE),
    ),
    Goal(
        "state",
        "4,000 updates/s to 10 subscribers, p99",
        60.0,
        _at("state", documents.SPREAD, "p99_ms"),
        at_most=True,
        unit="ms",
    ),
    Goal(
        "state",
        "two regions 80 ms apart agree, p99, after",
        89.0,
        _at("state", regions.REGIONS, "p99_ms"),
        at_most=True,
        unit="ms",
    ),
    Goal("start", "import laneway", 60.0, _at("start", "import laneway"), at_most=True, unit="ms"),
    Goal("start", "first event, embedded", 100.0, _at("start", "first event, embedded"), at_most=True, unit="ms"),
)
