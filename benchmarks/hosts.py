"""Hosts: messages between two processes over the peer protocol, beside a bare gRPC stream.

Law of this file: the other process sends back what it gets, or counts it and tells how far it is; a
message that does not come back leaves no figure. The bare stream carries one event per gRPC message and
decodes nothing. Processor time of the urgent row is that of the data beside it too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from benchmarks.measure import Options, Row, Stage, Stopwatch, percentile, repeated
from benchmarks.process import server
from laneway.actors.hosts.peers import CANCEL, DELIVER, EMIT, EMITTED, Message, Peer
from laneway.engine.app.clock import SystemClock
from laneway.engine.peer.plane import Plane
from laneway.engine.peer.policy import PeerPolicy
from laneway.routing.errors import LanewayError
from laneway.routing.membership import FRONT, POOL, Member

__all__ = ["ROWS", "run", "serving"]

BODY: Final = bytes(300)
_WINDOW: Final = 64
_BURST_WINDOW: Final = 8_192
_ACK_EVERY: Final = 512
_METHOD: Final = "/bench.Hosts/Echo"
_PATIENT: Final = PeerPolicy(lost_s=30)


def _plane(role: str, receiver: Any) -> Plane:
    return Plane(
        role, "1", receiver, secret="of the benchmark", clock=SystemClock(), version="1", role=role, policy=_PATIENT
    )


class _Echo:
    """DELIVER is counted and acknowledged now and then; everything else comes back on its stream."""

    def __init__(self) -> None:
        self._count = 0

    def connected(self, peer: Peer) -> None:
        self._count = 0

    def received(self, peer: Peer, message: Message) -> None:
        if message[0] != DELIVER:
            peer.send(message, urgent=message[0] == CANCEL)
            return
        self._count += 1
        if self._count % _ACK_EVERY == 0:
            peer.send((EMITTED, self._count), urgent=True)

    def lost(self, peer: Peer, error: LanewayError) -> None:
        self._count = 0


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """The other process: a pool host, and a bare gRPC server. Yields both addresses."""
    import grpc.aio

    async def echo(_requests: object, context: Any) -> None:
        while (message := await context.read()) is not grpc.aio.EOF:
            await context.write(message)

    _, service, name = _METHOD.split("/")
    bare = grpc.aio.server()
    handlers = {name: grpc.stream_stream_rpc_method_handler(echo)}
    bare.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = bare.add_insecure_port("127.0.0.1:0")
    await bare.start()
    plane = _plane(POOL, _Echo())
    try:
        yield f"{await plane.start('127.0.0.1')} 127.0.0.1:{port}"
    finally:
        await plane.close()
        await bare.stop(1.0)


class _Front:
    """This process's end: counts what comes back."""

    def __init__(self) -> None:
        self.news = asyncio.Event()
        self.peer: Peer | None = None
        self.back = self.acknowledged = 0

    def connected(self, peer: Peer) -> None:
        self.peer = peer
        self.news.set()

    def received(self, peer: Peer, message: Message) -> None:
        if message[0] == EMITTED:
            self.acknowledged = message[1]
        else:
            self.back += 1
        self.news.set()

    def lost(self, peer: Peer, error: LanewayError) -> None:
        raise RuntimeError(f"the connection was lost: {error}")

    async def until(self, true: Callable[[], bool]) -> None:
        while not true():
            self.news.clear()
            await self.news.wait()


@asynccontextmanager
async def _connected(watch: Stopwatch) -> AsyncIterator[tuple[_Front, Peer]]:
    async with server("hosts") as program:
        watch.watch("server", program.pid)
        front = _Front()
        plane = _plane(FRONT, front)
        await plane.start("127.0.0.1")
        plane.follow([Member(POOL, "1", POOL, program.address.split()[0])])
        await front.until(lambda: front.peer is not None)
        assert front.peer is not None
        yield front, front.peer
        front.lost = lambda peer, error: None  # type: ignore[method-assign]
        await plane.close()


def _echoed(count: int, window: int) -> Stage:
    """So many in flight, there and back; with one in flight the round trip is noted."""

    async def stage(watch: Stopwatch) -> int:
        async with _connected(watch) as (front, peer):
            verb = CANCEL if window == 1 else EMIT
            trips_s: list[float] = []
            with watch:
                for sent in range(count):
                    begun = time.perf_counter()
                    peer.send((verb, sent, BODY), urgent=verb == CANCEL)
                    await front.until(lambda: sent + 1 - front.back < window)  # noqa: B023 - awaited here
                    trips_s.append(time.perf_counter() - begun)
                await front.until(lambda: front.back == count)
            _note(watch, trips_s if window == 1 else [])
            return front.back

    return stage


def _one_way(count: int) -> Stage:
    async def stage(watch: Stopwatch) -> int:
        async with _connected(watch) as (front, peer):
            with watch:
                await _pour(front, peer, count, lambda: False)
            return front.acknowledged

    return stage


async def _pour(front: _Front, peer: Peer, count: int, stopped: Callable[[], bool]) -> None:
    """Send in bursts, with a bound on what is under way."""
    sent = 0
    while sent < count and not stopped():
        await front.until(lambda: sent - front.acknowledged < _BURST_WINDOW or stopped())  # noqa: B023 - awaited here
        for number in range(sent, sent + _WINDOW):
            peer.send((DELIVER, number, BODY))
        sent += _WINDOW
        await asyncio.sleep(0)
    await front.until(lambda: front.acknowledged >= sent // _ACK_EVERY * _ACK_EVERY)


def _urgent_meanwhile(count: int) -> Stage:
    """Urgent round trips, one after another, while the data stream is kept full."""

    async def stage(watch: Stopwatch) -> int:
        async with _connected(watch) as (front, peer):
            over = False
            pouring = asyncio.create_task(_pour(front, peer, 2**62, lambda: over))
            await front.until(lambda: front.acknowledged > 0)
            trips_s: list[float] = []
            with watch:
                for number in range(count):
                    begun = time.perf_counter()
                    peer.send((CANCEL, number, BODY), urgent=True)
                    await front.until(lambda: front.back > number)  # noqa: B023 - awaited here
                    trips_s.append(time.perf_counter() - begun)
            _note(watch, trips_s)
            over = True
            front.news.set()
            await pouring
            return front.back

    return stage


def _bare(count: int, window: int) -> Stage:
    """The same over a bare stream, one event per gRPC message, nothing decoded."""

    async def stage(watch: Stopwatch) -> int:
        import grpc.aio

        async with server("hosts") as program, grpc.aio.insecure_channel(program.address.split()[1]) as channel:
            watch.watch("server", program.pid)
            call = channel.stream_stream(_METHOD)()
            room = asyncio.Semaphore(window)
            trips_s: list[float] = []

            async def read() -> None:
                for _ in range(count):
                    await call.read()
                    room.release()

            with watch:
                reading = asyncio.create_task(read())
                for _ in range(count):
                    begun = time.perf_counter()
                    await room.acquire()
                    await call.write(BODY)
                    trips_s.append(time.perf_counter() - begun)
                await reading
            _note(watch, trips_s if window == 1 else [])
            await call.done_writing()
            return count

    return stage


def _note(watch: Stopwatch, trips_s: list[float]) -> None:
    if trips_s:
        watch.note(p50_ms=percentile(trips_s, 0.5) * 1e3, p99_ms=percentile(trips_s, 0.99) * 1e3)


ROWS: Final[tuple[tuple[str, Callable[[int], Stage], int], ...]] = (
    ("bare gRPC stream, 1 in flight", lambda count: _bare(count, 1), 10),
    ("laneway, 1 in flight", lambda count: _echoed(count, 1), 10),
    ("bare gRPC stream, 64 in flight", lambda count: _bare(count, _WINDOW), 2),
    ("laneway, 64 in flight", lambda count: _echoed(count, _WINDOW), 1),
    ("laneway, one way in bursts", _one_way, 1),
    ("laneway, urgent while data is full", _urgent_meanwhile, 10),
)
"""Name, stage, and by how much fewer messages than of W1 there are."""


def run(options: Options, status: Callable[[str], None]) -> list[Row]:
    """Measure all rows. Raises RuntimeError if a message is lost."""
    rows = []
    for name, stage, fewer in ROWS:
        status(f"hosts {name}")
        count = max(_ACK_EVERY, options.events // fewer // _ACK_EVERY * _ACK_EVERY)
        rows.append(repeated("hosts", name, stage(count), count, options.repeats, "messages/s"))
    return rows
