"""W1: every row accounts for every event, and a loss anywhere leaves no figure. No times."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from benchmarks import dispatch, workload
from benchmarks.channels import Opened, Way, check, closed_loop, open_loop
from benchmarks.counts import Lost
from benchmarks.measure import Options, Stopwatch, repeated
from tests.outside import require

COUNT = workload.IN_FLIGHT + 300


class Loopback:
    """A channel whose results go through `spoil` first."""

    def __init__(self, spoil: Callable[[list[bytes]], list[bytes]]) -> None:
        self._waiting: asyncio.Queue[list[bytes]] = asyncio.Queue()
        self._spoil = spoil

    async def send(self, batch: Sequence[workload.Job]) -> None:
        self._waiting.put_nowait([job.body for job in batch])

    async def receive(self) -> list[bytes]:
        return self._spoil(await self._waiting.get())


def _way(spoil: Callable[[list[bytes]], list[bytes]], counts: Mapping[str, int] | None = None) -> Way:
    async def counted() -> Mapping[str, int]:
        return counts or {}

    @asynccontextmanager
    async def open_(watch: Stopwatch) -> AsyncIterator[Opened]:
        yield Opened([Loopback(spoil)], counted)

    return Way("loopback", open_, frame=64)


def test_the_workload_is_the_described_one() -> None:
    """Always the same events, 278 bytes each, in the stated shares, each with its number."""
    work = workload.jobs(2_000)
    assert work == workload.jobs(2_000)
    assert {len(job.body) for job in work} == {workload.BODY_BYTES}
    assert 0.55 < sum(job.kind == "W_TEXT" for job in work) / len(work) < 0.65
    assert {job.kind for job in work} == {kind for kinds in workload.POOLS.values() for kind in kinds}
    assert [workload.number_of(job.body) for job in work] == list(range(2_000))


@pytest.mark.slow
@pytest.mark.parametrize("way", dispatch.WAYS, ids=lambda way: way.row)
def test_each_row_brings_every_event_back(way: Way) -> None:
    """More events than may be in flight, then a little open loop: all come back, and stages counted them."""
    if way.row == "nats":
        require("nats-server", package="nats-server")
    row = dispatch.measure(way, Options(events=COUNT, repeats=1, seconds=0.05))
    assert (row.workload, row.row, row.extra["count"]) == ("W1", way.row, COUNT)
    assert row.median > 0
    assert (row.figure("half_p99_ms") is not None) == way.open_loop
    assert (row.figure("common_p99_ms") is not None) == way.open_loop


def test_a_lost_event_leaves_no_figure() -> None:
    """One result that never comes ends the row with how many came."""
    lossy = _way(lambda bodies: [body for body in bodies if workload.number_of(body) != 7])
    with pytest.raises(Lost, match="99 of 100 events came back"):
        repeated("W1", lossy.row, dispatch.through(lossy, workload.jobs(1_000), 0.2), 1_000, 1)


def test_what_comes_twice_or_changed_leaves_no_figure() -> None:
    """Every event's own bytes, once each."""
    work = workload.jobs(64)
    for spoil in (lambda bodies: bodies[:-1] + bodies[:1], lambda bodies: [body[:-1] + b"?" for body in bodies]):
        way = _way(spoil)
        with pytest.raises(Lost, match="not what was sent"):
            check(way, work, asyncio.run(closed_loop(way, [Loopback(spoil)], work)))


def test_the_open_loop_loses_nothing_either() -> None:
    """It has the same check."""
    lossy = _way(lambda bodies: bodies[1:])
    with pytest.raises(Lost, match="of 64 events came back"):
        asyncio.run(open_loop(lossy, [Loopback(lambda bodies: bodies[1:])], workload.jobs(64), 10_000, 0.2))


def test_a_stage_that_counts_otherwise_leaves_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """All results came, but the engine's own books name another number."""
    monkeypatch.setattr("benchmarks.counts._SETTLE_S", 0.0)
    way = _way(list, {"admitted": 10, "handled": 9})
    with pytest.raises(Lost, match=r"10 events were sent, but the stages counted .*'handled': 9"):
        asyncio.run(dispatch.through(way, workload.jobs(100))(Stopwatch()))


def test_frames_are_full_while_there_is_enough() -> None:
    """A row of frames never sends a smaller one before its last."""
    sizes = []

    class Sized(Loopback):
        async def send(self, batch: Sequence[workload.Job]) -> None:
            sizes.append(len(batch))
            await super().send(batch)

    way = _way(list)
    assert len(asyncio.run(closed_loop(way, [Sized(list)], workload.jobs(2_000)))) == 2_000
    assert set(sizes[:-1]) == {64}
    assert sizes[-1] == 2_000 % 64
