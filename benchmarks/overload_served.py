"""The engine overloaded from another process, over gRPC: as it is, and while its clients' windows are full.

A full data window: beside its work each session has a handler that sends as much as credit allows, and
the client takes 1 MiB a second. So data waits for credit all the time, and with it the slots of handlers
whose results are data: the other lanes' figures are those of a reader that is too slow. A critical
event's result must still come at once, on the urgent stream. The share of critical results that came
while the window was full is told (`window_full`). When all is offered the filling stops and the client
reads on as fast as it can.

Law of this file: eight streams, frames as the protocol has them, flushed as the engine flushes its own:
every 10 ms, at 64 events, and at once with a critical one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from benchmarks.measure import Stopwatch
from benchmarks.overload_rows import CONFIG, KIND_OF, KINDS, SLOTS, add_pool
from benchmarks.process import server
from benchmarks.sweep import Due, Offer, Subject, Tally, by_speaker, seen
from benchmarks.wire import Item, Wire
from laneway import Context, Engine, EnvelopeView, Kind, Lane, Out, Principal
from laneway.engine.client_dial import Dial
from laneway.routing.classify import IN, OUT, KindTable
from laneway.routing.envelope import BODY, KIND, Envelope

__all__ = ["FULL_WINDOW", "GRPC", "SERVED", "serving"]

_FILL: Final = Kind("O_FILL", Lane.HIGH, direction=IN)
_FILLER: Final = Kind("O_FILLER", Lane.LOW, direction=OUT)
_FILLER_BYTES: Final = 4_096
_READ_BYTES_PER_S: Final = 1_048_576
_FLUSH_S: Final = 0.010
_FRAME_EVENTS: Final = 64
_AT_ONCE: Final = float("inf")
_FILLED_S: Final = 0.2
"""Until the windows are full; whether they were is told."""
_GOODBYE_S: Final = 10.0
_ALL_KINDS: Final = (*KINDS, _FILL, _FILLER)


# ---- the engine's process -----------------------------------------------------------------------


def _principal(metadata: Mapping[str, str]) -> Principal:
    """Whoever says so is of that tenant: the load has no secrets."""
    return Principal("bench", metadata["authorization"].removeprefix("Bearer "))


async def _fill(event: EnvelopeView, context: Context) -> AsyncIterator[Out]:
    body = b"f" * _FILLER_BYTES
    while not context.cancelled:
        yield Out(_FILLER.name, body)


@asynccontextmanager
async def serving(sessions: str) -> AsyncIterator[str]:
    """The engine's process: W4's handler, and the one that fills the windows of so many sessions."""
    async with Engine(CONFIG, kinds=_ALL_KINDS) as engine:
        add_pool(engine)
        engine.pool("fill", [_FILL.name], _fill, concurrency=int(sessions))
        edge = await engine.serve_grpc(port=0, authenticate=_principal)
        yield f"127.0.0.1:{edge.port}"


# ---- the clients' process -----------------------------------------------------------------------


class _Client:
    """One session's client.

    Args:
        read_bytes_per_s: what its application takes; infinity = everything at once.

    Attributes:
        critical_full: critical results that came while the data window was full.
    """

    def __init__(self, wire: Wire, tally: Tally, read_bytes_per_s: float) -> None:
        self.critical_full = 0
        self._wire = wire
        self._tally = tally
        self._read_bytes_per_s = read_bytes_per_s
        self._sent: list[Due | None] = []
        self._waiting: list[Due] = []
        self._stopping = False
        self._unread_bytes = 0.0
        self._read_at = time.monotonic()

    async def fill(self) -> None:
        """Ask for the handler that fills the window; it is the first event of this producer."""
        await self._control(Item(_FILL.name, Lane.HIGH))

    async def drain(self) -> None:
        """Stop what fills the window, and read on without pause."""
        self._read_bytes_per_s = _AT_ONCE
        await self._control(Item("CANCEL", Lane.CRITICAL, entity=f"{self._wire.producer}:1"))

    async def _control(self, item: Item) -> None:
        self._sent.append(None)
        await self._wire.send([item])

    async def offer(self, events: Sequence[Due]) -> None:
        """Take what is due; it goes out at once if a critical event is in it, or with 64 of them."""
        self._waiting += events
        if len(self._waiting) >= _FRAME_EVENTS or any(due.lane == Lane.CRITICAL for due in events):
            await self._flush()

    async def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._sent += waiting
            await self._wire.send(
                [Item(KIND_OF[due.lane], due.lane, due.body(), deadline=due.until) for due in waiting]
            )

    async def pace(self) -> None:
        """Send what waits, and grant as the application reads, until `stop`: a cancelled write ends the call."""
        while not self._stopping:
            await asyncio.sleep(_FLUSH_S)
            await self._flush()
            await self._answer()

    async def read(self) -> None:
        """Take frames until the engine ends the stream."""
        full = self._full()
        while (frame := await self._wire.receive()) is not None:
            header, received = frame
            for each in received:
                self._take(each.envelope, full=full)
            for first, count, _ in header.get("ok", ()):
                for due in self._sent[first - 1 : first - 1 + count]:
                    if due is not None:
                        self._tally.accept(due)
            for counters, _, reason, _, retry_after_ms in header.get("refused", ()):
                for counter in counters:
                    if (due := self._sent[counter - 1]) is not None:
                        self._tally.refuse(due, retry_after_ms, reason)
            self._failed(header.get("notice") or {})
            await self._answer()
            full = self._full()

    def _failed(self, notice: Mapping[str, Any]) -> None:
        """An event was given up; one that failed and may not be tried again counts as lost."""
        due = self._sent[notice["counter"] - 1] if "counter" in notice else None
        if due is not None and notice["retryable"]:
            self._tally.expire(due)

    def _take(self, env: Envelope, *, full: bool) -> None:
        if env[KIND] == _FILLER.name:
            self._unread_bytes += _FILLER_BYTES
            return
        due = seen(env[BODY])
        self._tally.finish(due)
        self.critical_full += full and due.lane == Lane.CRITICAL

    def _full(self) -> bool:
        """True while less credit is left than one filler takes: what fills it waits for more."""
        inbox = self._wire.inbox
        return inbox.position is not None and inbox.grant is not None and inbox.grant - inbox.position < _FILLER_BYTES

    async def _answer(self) -> None:
        now = time.monotonic()
        read = (now - self._read_at) * self._read_bytes_per_s if now > self._read_at else 0.0
        self._unread_bytes, self._read_at = max(0.0, self._unread_bytes - read), now
        await self._wire.answer(int(self._unread_bytes))

    def stop(self) -> None:
        """Let `pace` end."""
        self._stopping = True


@asynccontextmanager
async def _open(tally: Tally, watch: Stopwatch, *, full: bool) -> AsyncIterator[Offer]:
    rate = _READ_BYTES_PER_S if full else _AT_ONCE
    async with server("overload", str(len(tally.crowd))) as program, Dial(program.address).channel() as channel:
        watch.watch("engine", program.pid)
        kinds = KindTable(_ALL_KINDS)
        wires = [Wire(channel, whose.session, kinds, token=whose.tenant) for whose in tally.crowd]
        for wire in wires:
            await wire.hello()
        clients = [_Client(wire, tally, rate) for wire in wires]
        readers = [asyncio.create_task(client.read()) for client in clients]
        pacers = [asyncio.create_task(client.pace()) for client in clients]
        if full:
            for client in clients:
                await client.fill()
            await asyncio.sleep(_FILLED_S)
        yield partial(_offer, clients, full)
        for client in clients:
            client.stop()
        async with asyncio.timeout(_GOODBYE_S):
            await asyncio.gather(*pacers)
            await asyncio.gather(*(wire.close() for wire in wires))
            await asyncio.gather(*readers)
        if full:
            critical = sum(due.lane == Lane.CRITICAL for due, _ in tally.done)
            tally.notes["window_full"] = sum(client.critical_full for client in clients) / critical if critical else 0.0


async def _offer(clients: Sequence[_Client], full: bool, events: Sequence[Due]) -> None:
    if full and not events:
        await asyncio.gather(*(client.drain() for client in clients))
    for who, theirs in by_speaker(events).items():
        await clients[who].offer(theirs)


GRPC: Final = Subject("laneway over gRPC", partial(_open, full=False), SLOTS)
FULL_WINDOW: Final = Subject("laneway over gRPC, data window full", partial(_open, full=True), SLOTS)
SERVED: Final = (GRPC, FULL_WINDOW)
