"""What tracing costs an event: off, one in a hundred, every one; in process and over gRPC.

W1 in frames of 64, exporting to a real OTLP/gRPC receiver in another process. The figure is processor
time of the process that the engine runs in, the exporter's thread included: after each round the
engine is left alone until its exporter has sent what it has.

Law of this file: what the receiver got must be what the client saw to be sampled: the same traces, no
more and no fewer, each with its way from the door to the handler. Else there is no figure.
"""

from __future__ import annotations

import asyncio
import math
import statistics
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from rich.table import Table

from benchmarks.link import SessionLink
from benchmarks.measure import Options, Row, Stopwatch
from benchmarks.paths import FRAME_EVENTS, add_pools
from benchmarks.process import server
from benchmarks.span_sink import Received, span_sink
from benchmarks.traced_engine import traced_config
from benchmarks.wire import Item, Wire
from benchmarks.workload import IN_FLIGHT, KINDS, SESSIONS, Job, jobs
from laneway import Engine
from laneway.engine.client_dial import Dial
from laneway.routing.classify import KindTable
from laneway.routing.envelope import BODY, TRACE, Envelope

__all__ = ["PATHS", "RATIOS", "WARM_EVENTS", "check", "run", "table"]

RATIOS: Final = {"off": 0.0, "1 %": 0.01, "100 %": 1.0}
_WORKLOAD: Final = "tracing"
_ROUND_SPANS: Final = 4_000
"""Spans of a round at most: about half of what the engine lets wait for a receiver."""
_SPANS_PER_TRACE: Final = 12
_EXPORTED_S: Final = 1.5
"""The exporter looks for spans every second."""
WARM_EVENTS: Final = 128
"""Sent before the clock starts: the exporter's connection is not an event's cost."""
_PATIENCE_S: Final = 60.0
_DOOR_TO_HANDLER: Final = ("receive", "queue", "handle")


class _End(Protocol):
    """A session's client."""

    async def send(self, batch: Sequence[Job]) -> None: ...

    async def receive(self) -> Sequence[Envelope]: ...


class _Embedded:
    """In the engine's process."""

    def __init__(self, link: SessionLink) -> None:
        self._link = link

    async def send(self, batch: Sequence[Job]) -> None:
        await self._link.send(list(batch))

    async def receive(self) -> Sequence[Envelope]:
        return await self._link.receive()


class _Served:
    """Behind gRPC."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def send(self, batch: Sequence[Job]) -> None:
        await self._wire.send([Item(job.kind, job.lane, job.body) for job in batch])

    async def receive(self) -> Sequence[Envelope]:
        frame = await self._wire.receive()
        if frame is None:
            raise RuntimeError("the engine ended the stream")
        await self._wire.answer()
        return [received.envelope for received in frame[1]]


@asynccontextmanager
async def _embedded(watch: Stopwatch, url: str, ratio: float) -> AsyncIterator[Sequence[_End]]:
    async with Engine(traced_config(url, ratio), kinds=KINDS) as engine:
        add_pools(engine)
        links = [await SessionLink.open(engine, f"s{number}") for number in range(SESSIONS)]
        yield [_Embedded(link) for link in links]
        for link in links:
            await link.close()


@asynccontextmanager
async def _served(watch: Stopwatch, url: str, ratio: float) -> AsyncIterator[Sequence[_End]]:
    async with AsyncExitStack() as stack:
        program = await stack.enter_async_context(server("traced", str(ratio), *([url] if url else [])))
        channel = await stack.enter_async_context(Dial(program.address).channel())
        watch.watch("engine", program.pid)
        wires = [Wire(channel, f"s{number}", KindTable(KINDS)) for number in range(SESSIONS)]
        for wire in wires:
            await wire.hello()
        yield [_Served(wire) for wire in wires]
        for wire in wires:
            await wire.close()


Opens = Callable[[Stopwatch, str, float], AbstractAsyncContextManager[Sequence[_End]]]
PATHS: Final[dict[str, Opens]] = {"in process": _embedded, "over gRPC": _served}


@dataclass(slots=True)
class _Seen:
    """What came back to the clients: how many events, and the trace ids in those that were sampled."""

    events: int
    traces: list[str]


def run(options: Options, status: Callable[[str], None]) -> list[Row]:
    """Measure each path at each ratio. Raises RuntimeError if spans and sampling disagree."""
    rows = []
    for path in PATHS:
        for name in RATIOS:
            values, extras = [], []
            for number in range(options.overload_repeats):
                status(f"tracing {path}, {name}, {number + 1} of {options.overload_repeats}")
                cpu_us, extra = asyncio.run(_once(path, RATIOS[name], _events(options, RATIOS[name])))
                values.append(cpu_us)
                extras.append(extra)
            extra = {each: statistics.median(found[each] for found in extras) for each in extras[0]}
            median = statistics.median(values)
            rows.append(Row(_WORKLOAD, f"{path}, {name}", "us CPU/event", tuple(values), median, median, extra))
    return rows


def _events(options: Options, ratio: float) -> int:
    """Fewer where every event leaves a dozen spans: three rounds."""
    return min(options.events, 3 * _round(ratio))


def _round(ratio: float) -> int:
    """Events of one round, so that the spans that wait for the exporter fit."""
    return 20_000 if not ratio else min(20_000, int(_ROUND_SPANS / _SPANS_PER_TRACE / ratio))


async def _once(path: str, ratio: float, count: int) -> tuple[float, dict[str, float]]:
    async with span_sink() as sink:
        watch, work, seen = Stopwatch(), jobs(count), _Seen(0, [])
        async with PATHS[path](watch, sink.url if ratio else "", ratio) as ends, asyncio.timeout(_PATIENCE_S):
            await _round_trip(ends, jobs(WARM_EVENTS), seen)
            with watch:
                for start in range(0, count, _round(ratio)):
                    await _round_trip(ends, work[start : start + _round(ratio)], seen)
                    await asyncio.sleep(_EXPORTED_S if ratio else 0.0)
        received = await sink.received()  # the engine has closed, and sent what was left
    check(f"tracing {path}", ratio, count + WARM_EVENTS, seen.events, seen.traces, received)
    cpu_s = watch.others_s.get("engine", watch.cpu_s)
    spans = sum(received.traces.values())
    return cpu_s / count * 1e6, {
        "count": count,
        "sampled": len(seen.traces),
        "spans": spans,
        "spans_per_trace": spans / len(received.traces) if received.traces else 0.0,
    }


async def _round_trip(ends: Sequence[_End], work: Sequence[Job], seen: _Seen) -> None:
    shares = [work[number :: len(ends)] for number in range(len(ends))]
    await asyncio.gather(*(_feed(end, share, seen) for end, share in zip(ends, shares, strict=True)))


async def _feed(end: _End, share: Sequence[Job], seen: _Seen) -> None:
    window = IN_FLIGHT // SESSIONS
    sent = returned = 0
    while returned < len(share):
        batch = share[sent : min(sent + FRAME_EVENTS, returned + window)]
        if batch:
            await end.send(batch)
            sent += len(batch)
        if sent - returned >= window or sent == len(share):
            came = await end.receive()
            returned += sum(len(env[BODY]) > 0 for env in came)
            seen.traces += [env[TRACE].split("-")[1] for env in came if env[TRACE]]
    seen.events += returned


def check(what: str, ratio: float, count: int, events: int, traces: Sequence[str], received: Received) -> None:
    """Raise RuntimeError unless every event came back, sampling kept its ratio, and each sampled one has its spans."""
    spread = 6 * math.sqrt(count * ratio * (1 - ratio))
    if events != count:
        raise RuntimeError(f"{what}: {events} of {count} events came back")
    if abs(len(traces) - count * ratio) > spread:
        raise RuntimeError(f"{what}: {len(traces)} of {count} events were sampled at a ratio of {ratio:g}")
    if set(traces) != set(received.traces) or len(set(traces)) != len(traces):
        raise RuntimeError(
            f"{what}: {len(traces)} events were sampled, and the receiver has spans of {len(received.traces)} traces, "
            f"{len(set(traces) & set(received.traces))} of them the same"
        )
    for name in _DOOR_TO_HANDLER:
        if received.names.get(name, 0) < len(traces):
            raise RuntimeError(f"{what}: {received.names.get(name, 0)} spans {name!r} of {len(traces)} sampled events")


def table(rows: Sequence[Row]) -> Table:
    """Return the rows for people."""
    made = Table(title="Tracing: processor us per event of the process that the engine runs in; OTLP/gRPC receiver")
    for heading in ("path, sampled", "us/event", "lowest", "highest", "x off", "traces", "spans a trace"):
        made.add_column(heading, justify="left" if heading == "path, sampled" else "right", no_wrap=True)
    off = 0.0
    for row in rows:
        off = row.cpu_us if row.row.endswith("off") else off
        made.add_row(
            row.row,
            f"{row.cpu_us:.1f}",
            f"{min(row.values):.1f}",
            f"{max(row.values):.1f}",
            f"{row.cpu_us / off:.2f}" if off else "",
            f"{row.extra['sampled']:,.0f}",
            f"{row.extra['spans_per_trace']:.1f}",
        )
    return made
