"""A simulated connection: ordered bytes both ways that take time, stand still, go silent and break.

Law of this file: a frame either arrives whole and in order or the connection is over; what is under
way when it breaks is lost. Only what a client POSTs beside an event stream may also come twice, and
what carries no events in another order. Each direction holds `_WINDOW_BYTES` at most, as a transport window does,
so a reader that stops also stops the writer.
"""

from __future__ import annotations

import asyncio
import heapq
from typing import Final

from tests.simulation.faults import Faults

__all__ = ["Broken", "Connection", "End"]

_WINDOW_BYTES: Final = 32_768
_STALL_S: Final = 1.0
_STRAY_S: Final = (0.01, 0.4)


class Broken(ConnectionError):
    """The connection is over; `orderly` if the other side closed it after its last frame."""

    def __init__(self, orderly: bool) -> None:
        super().__init__("closed" if orderly else "cut")
        self.orderly = orderly


class _Pipe:
    """One direction."""

    def __init__(self, faults: Faults, *, posts: bool) -> None:
        self._faults = faults
        self._posts = posts
        self._loop = asyncio.get_running_loop()
        self._frames: list[tuple[float, int, bytes]] = []  # a heap by arrival
        self._count = 0
        self._bytes = 0
        self._last_arrival = 0.0
        self._room = asyncio.Event()
        self._reader: asyncio.Future[None] | None = None
        self.closed = False

    async def put(self, frame: bytes, *, silent: bool, loose: bool) -> None:
        while self._bytes and self._bytes + len(frame) > _WINDOW_BYTES and not self.closed:
            self._room.clear()
            await self._room.wait()
        if self.closed:
            raise Broken(False)
        if silent:
            return
        weather = self._faults.weather
        arrival = self._loop.time() + self._faults.between(weather.latency_s)
        if self._faults.happens("stall", weather.stall):
            arrival += _STALL_S
        if self._posts and loose and self._faults.happens("frame reordered", weather.reorder):
            self._push(arrival + self._faults.between(_STRAY_S), frame)
            return
        self._last_arrival = max(self._last_arrival, arrival)
        self._push(self._last_arrival, frame)
        if self._posts and self._count > 1 and self._faults.happens("frame doubled", weather.double):
            self._push(self._last_arrival + self._faults.between(_STRAY_S), frame)

    def _push(self, arrival: float, frame: bytes) -> None:
        self._count += 1
        heapq.heappush(self._frames, (arrival, self._count, frame))
        self._bytes += len(frame)
        if self._frames[0][1] == self._count:
            self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def get(self) -> bytes:
        while True:
            if self._frames and self._frames[0][0] <= self._loop.time():
                frame = heapq.heappop(self._frames)[2]
                self._bytes -= len(frame)
                self._room.set()
                return frame
            if self.closed and not self._frames:
                raise Broken(True)
            self._reader = self._loop.create_future()
            timer = self._loop.call_at(self._frames[0][0], self._wake) if self._frames else None
            try:
                await self._reader
            finally:
                if timer is not None:
                    timer.cancel()

    def close(self) -> None:
        self.closed = True
        self._room.set()
        self._wake()

    def lose(self) -> bool:
        lost = bool(self._frames)
        self._frames.clear()
        self._bytes = 0
        self.close()
        return lost


class End:
    """One side of a connection."""

    def __init__(self, connection: Connection, inbound: _Pipe, outbound: _Pipe) -> None:
        self._connection = connection
        self._in = inbound
        self._out = outbound

    async def send(self, frame: bytes, *, loose: bool = False) -> None:
        """Write one frame; waits while the window is full. Raises Broken.

        Args:
            loose: over POSTs it may overtake others and be overtaken.
        """
        self._connection.maybe_break()
        if self._connection.cut_off:
            raise Broken(False)
        await self._out.put(frame, silent=self._connection.silent, loose=loose)

    async def receive(self) -> bytes:
        """Read one frame. Raises Broken."""
        frame = await self._get()
        if self._connection.cut_off:
            raise Broken(False)
        return frame

    async def _get(self) -> bytes:
        try:
            return await self._in.get()
        except Broken:
            raise Broken(not self._connection.cut_off) from None

    def close(self) -> None:
        """End both directions in order: what was written still arrives."""
        self._out.close()
        self._in.close()


class Connection:
    """Two ends and what happens between them.

    Args:
        posts: the client's frames are requests of their own, which may come twice and in another order.
    """

    def __init__(self, faults: Faults, *, posts: bool = False) -> None:
        self._faults = faults
        self._pipes = (_Pipe(faults, posts=False), _Pipe(faults, posts=posts))
        self.client = End(self, self._pipes[0], self._pipes[1])
        self.server = End(self, self._pipes[1], self._pipes[0])
        self.cut_off = False
        self.silent = False

    def maybe_break(self) -> None:
        """Let the weather cut or silence the connection."""
        if self._faults.happens("cut", self._faults.weather.cut):
            self.cut()
        elif not self.silent and self._faults.happens("blackhole", self._faults.weather.blackhole):
            self.silent = True

    def cut(self) -> None:
        """Break it now; what is under way is lost."""
        self.cut_off = True
        for pipe in self._pipes:
            if pipe.lose():
                self._faults.fired["frames lost under way"] += 1
