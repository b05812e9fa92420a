"""Driving any way there and back: closed loop for throughput, open loop for latency.

Law of this file: it knows no peer. Every row is driven by the same two loops with the same events, the
same limit in flight and the same check: each event's bytes come back exactly once.

Open loop: an event has its time on the schedule, and its latency counts from there, whenever it was
really sent. The schedule is kept by `asyncio.sleep`, whose grain (about 1 ms) is in every row's figures.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from benchmarks.counts import Counts, Lost, no_stages
from benchmarks.measure import Stopwatch
from benchmarks.workload import IN_FLIGHT, Job, number_of

__all__ = ["Channel", "Opened", "Way", "check", "closed_loop", "open_loop"]

_SPIN_S: Final = 0.0002
"""Below it the schedule yields instead of sleeping: a timer would come too late."""


class Channel(Protocol):
    """One connection or session, there and back."""

    async def send(self, batch: Sequence[Job]) -> None:
        """Put events in."""
        ...

    async def receive(self) -> Sequence[bytes]:
        """Wait for news and return the bodies that came back, perhaps none."""
        ...


@dataclass(frozen=True, slots=True)
class Opened:
    """A way that is ready: its channels, and what its stages count."""

    channels: Sequence[Channel]
    counts: Counts = no_stages


@dataclass(frozen=True, slots=True)
class Way:
    """One row of W1.

    Attributes:
        row: its name.
        open: makes it ready; names other processes to the stopwatch.
        frame: events a frame holds while there are so many; 0 = what there is room for.
        open_loop: latency is measured too.
    """

    row: str
    open: Callable[[Stopwatch], AbstractAsyncContextManager[Opened]]
    frame: int = 0
    open_loop: bool = True


async def closed_loop(
    way: Way, channels: Sequence[Channel], work: Sequence[Job], patience_s: float = 60.0
) -> list[bytes]:
    """Send all of `work`, `IN_FLIGHT` at most at a time; returns what came back, to be checked.

    Raises Lost if less came back within `patience_s`.
    """
    back: list[bytes] = []
    shares = _shares(work, len(channels))
    try:
        async with asyncio.timeout(patience_s):
            await asyncio.gather(
                *(
                    _feed(channel, share, IN_FLIGHT // len(channels), way.frame, back)
                    for channel, share in zip(channels, shares, strict=True)
                )
            )
    except TimeoutError:
        raise Lost(f"{way.row}: {len(back)} of {len(work)} events came back within {patience_s:g} s") from None
    return back


async def _feed(channel: Channel, share: Sequence[Job], window: int, frame: int, back: list[bytes]) -> None:
    count, most = len(share), frame or window
    sent = returned = 0
    while returned < count:
        room = min(window - (sent - returned), count - sent)
        while room >= frame or sent + room == count:
            batch = share[sent : sent + min(room, most)]
            if not batch:
                break
            await channel.send(batch)
            sent += len(batch)
            room -= len(batch)
        came = await channel.receive()
        returned += len(came)
        back += came


async def open_loop(
    way: Way, channels: Sequence[Channel], work: Sequence[Job], rate_per_s: float, patience_s: float = 60.0
) -> list[float]:
    """Send `work` at a steady rate; returns each event's seconds from its scheduled time to its return.

    `work` is `jobs(n)`: event number k has its time at k / rate. Raises Lost like `closed_loop`.
    """
    back: list[tuple[float, Sequence[bytes]]] = []
    begun = time.monotonic() + 0.01
    try:
        async with asyncio.timeout(patience_s), asyncio.TaskGroup() as group:
            for channel, share in zip(channels, _shares(work, len(channels)), strict=True):
                group.create_task(_collect(channel, len(share), back))
            await _schedule(channels, work, begun, rate_per_s, way.frame)
    except TimeoutError:
        came = sum(len(bodies) for _, bodies in back)
        raise Lost(f"{way.row}: {came} of {len(work)} events came back within {patience_s:g} s") from None
    check(way, work, [body for _, bodies in back for body in bodies])
    return [at - begun - number_of(body) / rate_per_s for at, bodies in back for body in bodies]


async def _schedule(
    channels: Sequence[Channel], work: Sequence[Job], begun: float, rate_per_s: float, frame: int
) -> None:
    """Send what is due; late events at once, in one batch per channel."""
    sent, ways = 0, len(channels)
    while sent < len(work):
        early = begun + sent / rate_per_s - time.monotonic()
        if early > 0:
            await asyncio.sleep(early if early > _SPIN_S else 0)
            continue
        due = min(len(work), int((time.monotonic() - begun) * rate_per_s) + 1, sent + ways * (frame or IN_FLIGHT))
        for first in range(sent, min(due, sent + ways)):
            await channels[first % ways].send(work[first:due:ways])
        sent = due
        await asyncio.sleep(0)


async def _collect(channel: Channel, count: int, back: list[tuple[float, Sequence[bytes]]]) -> None:
    while count > 0:
        bodies = await channel.receive()
        count -= len(bodies)
        back.append((time.monotonic(), bodies))


def _shares(work: Sequence[Job], ways: int) -> list[Sequence[Job]]:
    return [work[number::ways] for number in range(ways)]


def check(way: Way, work: Sequence[Job], back: list[bytes]) -> None:
    """Raise Lost if what came back is not what was sent. Sorts both, so that its time is nobody's figure."""
    if sorted(back) != sorted(job.body for job in work):
        raise Lost(f"{way.row}: what came back is not what was sent ({len(back)} events, {len(work)} sent)")
