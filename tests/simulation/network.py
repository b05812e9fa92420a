"""A simulated connection: ordered bytes both ways that take time, stand still, go silent and break.

Law of this file: a frame either arrives whole and in order or the connection is over; what is under
way when it breaks is lost. Each direction holds `_WINDOW_BYTES` at most, as a transport window does,
so a reader that stops also stops the writer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from tests.simulation.faults import Faults

__all__ = ["Broken", "Connection", "End"]

_WINDOW_BYTES: Final = 32_768
_STALL_S: Final = 1.0


class Broken(ConnectionError):
    """The connection is over; `orderly` if the other side closed it after its last frame."""

    def __init__(self, orderly: bool) -> None:
        super().__init__("closed" if orderly else "cut")
        self.orderly = orderly


class _Pipe:
    """One direction."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._frames: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._last_arrival = 0.0
        self._changed = asyncio.Event()
        self.closed = False

    async def put(self, frame: bytes, silent: bool) -> None:
        while self._bytes and self._bytes + len(frame) > _WINDOW_BYTES and not self.closed:
            self._changed.clear()
            await self._changed.wait()
        if self.closed:
            raise Broken(False)
        if silent:
            return
        weather = self._faults.weather
        arrival = asyncio.get_running_loop().time() + self._faults.between(weather.latency_s)
        if self._faults.happens("stall", weather.stall):
            arrival += _STALL_S
        self._last_arrival = max(self._last_arrival, arrival)
        self._frames.append((self._last_arrival, frame))
        self._bytes += len(frame)
        self._changed.set()

    async def get(self) -> bytes:
        loop = asyncio.get_running_loop()
        while True:
            if self._frames and self._frames[0][0] <= loop.time():
                frame = self._frames.popleft()[1]
                self._bytes -= len(frame)
                self._changed.set()
                return frame
            if self.closed and not self._frames:
                raise Broken(True)
            self._changed.clear()
            pause_s = self._frames[0][0] - loop.time() if self._frames else None
            try:
                async with asyncio.timeout(pause_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def close(self) -> None:
        self.closed = True
        self._changed.set()

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

    async def send(self, frame: bytes) -> None:
        """Write one frame; waits while the window is full. Raises Broken."""
        self._connection.maybe_break()
        if self._connection.cut_off:
            raise Broken(False)
        await self._out.put(frame, self._connection.silent)

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
    """Two ends and what happens between them."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._pipes = (_Pipe(faults), _Pipe(faults))
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
