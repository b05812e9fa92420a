"""W1 to W4 with pools in other processes: laneway on Ray beside Ray's own async actors, in the same local Ray.

The engine is this process, with sessions and store in memory; every pool is on a host that Ray
placed. W4 is also run with two dispatchers: two engines of one cluster with half of the sessions each,
neither of which knows what the other has queued for the one host that both share.

Law of this file: hosts and actors stay up while their rows are repeated, so that work is measured and
not starts; each repetition has sessions of its own, and counts from where it began.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from benchmarks import dispatch, token_streams, tool_calls
from benchmarks.channels import Channel, Opened, Way
from benchmarks.counts import Counts, engine_counts
from benchmarks.measure import Options, Row, Stopwatch, repeated_here
from benchmarks.overload import measure_here
from benchmarks.overload_rows import CONFIG, PRIORITY, SLOTS, offering
from benchmarks.overload_rows import KINDS as WORK_KINDS
from benchmarks.overload_rows import add_pool as add_work
from benchmarks.paths import FRAME_EVENTS, add_pools, called, linked
from benchmarks.ray_actors import ELSEWHERE, cluster, processes, ray_actors, two_nodes
from benchmarks.sweep import Offer, Subject, Tally
from benchmarks.token_streams import GAP_S, Ask, asking
from benchmarks.tool import wait
from benchmarks.tool_calls import Opened as OpenedCalls
from benchmarks.tool_calls import calls_to
from benchmarks.workload import KINDS, POOLS, jobs, open_config
from laneway import Config, Engine
from laneway.engine.sections import RuntimeConfig

__all__ = [
    "BURST",
    "LANEWAY",
    "PACED",
    "TWO_FRONTS",
    "W1",
    "W1_APART",
    "W2",
    "W4",
    "apart",
    "compare",
    "dispatching",
    "events_of",
    "run",
]

W1: Final = "Ray W1"
W1_APART: Final = "Ray W1, two nodes"
W2: Final = "Ray W2"
BURST: Final = "Ray W3 burst"
PACED: Final = "Ray W3 paced"
W4: Final = "Ray W4"
LANEWAY: Final = "laneway on Ray"
CALLS: Final = "laneway on Ray, one call each"
TWO_FRONTS: Final = "laneway on Ray, two dispatchers"

_LOADS: Final = ("alone", "1x", "3x")
_MODEL: Final = "benchmarks.token_source:TokenModel"
_MOST_REPEATS: Final = 3
_MOST_EVENTS: Final = 10_000
_MOST_OVERLOAD_S: Final = 2.0
"""What Ray needs eight minutes for at full size; both rows get the same."""


def run(options: Options, status: Callable[[str], None]) -> list[Row]:
    """Start a local Ray and measure every row on it. Raises Lost, or RuntimeError, if an event is missing."""
    options = _smaller(options)
    status("Ray starts")
    with cluster():
        rows = asyncio.run(compare(options, status))
    status("Ray of two nodes starts")
    with two_nodes():
        return rows + asyncio.run(apart(options, status))


def _smaller(options: Options) -> Options:
    return replace(
        options,
        events=min(options.events, _MOST_EVENTS),
        repeats=min(options.repeats, _MOST_REPEATS),
        overload_repeats=min(options.overload_repeats, _MOST_REPEATS),
        seconds=min(options.seconds, _MOST_OVERLOAD_S),
    )


async def compare(options: Options, status: Callable[[str], None]) -> list[Row]:
    """Measure every row in the Ray that this process is connected to."""
    bench = _Bench(options, status)
    async with ray_actors() as actors:
        await bench.events(actors.events)
        await bench.calls(actors.events.row, actors.calls)
        await bench.streams(actors.events.row, actors.streams)
        await bench.overloaded(PRIORITY, actors.overloaded)
    async with dispatching() as engine:
        await bench.events(events_of(engine, LANEWAY, linked, FRAME_EVENTS))
        await bench.events(events_of(engine, CALLS, called))
    async with _working() as engine:
        await bench.calls(LANEWAY, _calls(engine))
        await bench.streams(LANEWAY, _streams(engine))
        await bench.overloaded(_overloaded(LANEWAY, engine))
        async with _working() as other:
            await bench.overloaded(_overloaded(TWO_FRONTS, engine, other))
    return sorted(bench.rows, key=lambda row: (W1, W2, BURST, PACED, W4).index(row.workload))


async def apart(options: Options, status: Callable[[str], None]) -> list[Row]:
    """Measure W1 with handlers on the other node of the two-node Ray that this process is connected to."""
    bench = _Bench(options, status, W1_APART)
    async with ray_actors({ELSEWHERE: 0.1}) as actors:
        await bench.events(actors.events)
    async with dispatching("bench-apart", {ELSEWHERE: 0.1}) as engine:
        await bench.events(events_of(engine, LANEWAY, linked, FRAME_EVENTS))
    return bench.rows


class _Bench:
    """Measures rows, and keeps them."""

    def __init__(self, options: Options, status: Callable[[str], None], events: str = W1) -> None:
        self.rows: list[Row] = []
        self._events = events
        self._options = options
        self._status = status

    async def events(self, way: Way) -> None:
        self._status(f"{self._events} {way.row}")
        work = jobs(self._options.events)
        row = await repeated_here(self._events, way.row, dispatch.through(way, work), len(work), self._options.repeats)
        self.rows.append(await dispatch.late(way, row, self._options, self._status))

    async def calls(self, name: str, opener: tool_calls.Opener) -> None:
        self._status(f"{W2} {name}")
        count = self._options.calls
        stage = tool_calls.through(name, opener, self._options)
        self.rows.append(await repeated_here(W2, name, stage, count, self._options.repeats, "calls/s"))

    async def streams(self, name: str, opener: token_streams.Opener) -> None:
        options = self._options
        for workload, each, gap_s in ((BURST, options.burst_tokens, 0.0), (PACED, options.paced_tokens, GAP_S)):
            self._status(f"{workload} {name}")
            stage = token_streams.through(name, opener, options.streams, each, gap_s)
            count = options.streams * each
            self.rows.append(await repeated_here(workload, name, stage, count, options.repeats, "tokens/s"))

    async def overloaded(self, *subjects: Subject) -> None:
        self.rows += await measure_here(W4, subjects, _LOADS, self._options, self._status)


# ---- laneway ------------------------------------------------------------------------------------

_Sessions = Callable[[Engine, str], AbstractAsyncContextManager[Sequence[Channel]]]


def _on_ray(config: Config, name: str, resources: Mapping[str, Any] | None = None, **placement: Any) -> Config:
    runtime = RuntimeConfig(
        kind="ray",
        cluster=name,
        durability="volatile",
        placement=placement,
        resources=dict(resources or {}),
        lost_s=30.0,  # who is slow under such a load is not dead
        ready_s=120.0,
    )
    return config.model_copy(update={"runtime": runtime})


@asynccontextmanager
async def dispatching(
    name: str = "bench-dispatch", resources: Mapping[str, float] | None = None
) -> AsyncIterator[Engine]:
    """An engine with W1's three pools, a host each that asks Ray for `resources`."""
    asked = {pool: dict(resources) for pool in POOLS} if resources else {}
    config = _on_ray(open_config(), name, asked, nlp="driver", tools="driver")
    engine = Engine(config, kinds=KINDS)
    add_pools(engine)
    async with engine:
        yield engine


@asynccontextmanager
async def _working() -> AsyncIterator[Engine]:
    """An engine with the pools of the other workloads; a second one shares the first one's hosts."""
    engine = Engine(_on_ray(CONFIG, "bench-work"), kinds=WORK_KINDS)
    engine.tools.add(wait)
    engine.nlp.use(_MODEL)
    add_work(engine)
    async with engine:
        yield engine


def _fresh() -> str:
    """A part of a name that no other repetition has."""
    return secrets.token_hex(4)


def _watch(watch: Stopwatch, *engines: Engine) -> None:
    """Count the hosts by themselves, and all else that Ray has started."""
    members = {member.pid for engine in engines if engine.cluster for member in engine.cluster.hosts}
    hosts = members - {os.getpid()}
    watch.watch("hosts", *hosts)
    watch.watch("Ray", *(set(processes()) - hosts))


async def _counted(engine: Engine, *, sessions: bool) -> Counts:
    """Return what counts from here on."""
    before = await engine_counts(engine, sessions=sessions)

    async def counts() -> Mapping[str, int]:
        now = await engine_counts(engine, sessions=sessions)
        return {stage: count - before[stage] for stage, count in now.items()}

    return counts


def events_of(engine: Engine, row: str, sessions: _Sessions, frame: int = 0) -> Way:
    """Return W1 through an engine that stays up, in sessions of its own at each opening."""

    @asynccontextmanager
    async def open_(watch: Stopwatch) -> AsyncIterator[Opened]:
        _watch(watch, engine)
        async with sessions(engine, f"events{_fresh()}-") as channels:
            yield Opened(channels, await _counted(engine, sessions=True))

    return Way(row, open_, frame)


def _calls(engine: Engine) -> tool_calls.Opener:
    @asynccontextmanager
    async def open_(watch: Stopwatch) -> AsyncIterator[OpenedCalls]:
        _watch(watch, engine)
        async with calls_to(engine, f"calls{_fresh()}-") as call:
            yield OpenedCalls(call, await _counted(engine, sessions=False))

    return open_


def _streams(engine: Engine) -> token_streams.Opener:
    @asynccontextmanager
    async def open_(watch: Stopwatch, streams: int) -> AsyncIterator[Ask]:
        _watch(watch, engine)
        async with asking(engine, f"streams{_fresh()}-", streams) as ask:
            yield ask

    return open_


def _overloaded(row: str, *engines: Engine) -> Subject:
    @asynccontextmanager
    async def open_(tally: Tally, watch: Stopwatch) -> AsyncIterator[Offer]:
        _watch(watch, *engines)
        async with offering(engines, tally, f"work{_fresh()}-") as offer:
            yield offer

    return Subject(row, open_, SLOTS)
