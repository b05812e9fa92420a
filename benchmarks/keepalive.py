"""A lean HTTP client: keep-alive connections that ask for one path again and again.

Law of this file: one request at a time on a connection (no pipelining); answers are taken whole, by
their Content-Length. A connection that ends is an error, for the row as well.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.counts import Lost

__all__ = ["Answer", "Connections"]


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


Taker = Callable[[Answer], None]


class _Connection(asyncio.Protocol):
    """One connection; `free` is told when its answer was taken."""

    def __init__(self, owner: Connections) -> None:
        self.transport: asyncio.Transport | None = None
        self._owner = owner
        self._taker: Taker | None = None
        self._data = b""
        self._head = b""
        self._read: tuple[int, list[tuple[str, str]], int] = (0, [], 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.fail(Lost(f"a connection ended: {exc!r}"))

    def ask(self, request: bytes, taker: Taker) -> None:
        assert self.transport is not None
        self._taker = taker
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._data = data = self._data + data if self._data else data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return
        status, headers, size = self._parsed(data[:end])
        if len(data) < end + 4 + size:
            return
        answer = Answer(status, headers, data[end + 4 : end + 4 + size])
        self._data, taker, self._taker = data[end + 4 + size :], self._taker, None
        try:
            if taker is None or self._data:
                raise Lost("an answer that nobody asked for")
            taker(answer)
        except Lost as error:
            self._owner.fail(error)
        else:
            self._owner.free(self)

    def _parsed(self, head: bytes) -> tuple[int, list[tuple[str, str]], int]:
        """Read the head; most are the same as the one before."""
        if head != self._head:
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
            self._read = int(first.split(" ")[1]), headers, int(dict(headers).get("content-length", 0))
            self._head = head
        return self._read


class Connections:
    """Some connections to one server."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._all: list[_Connection] = []
        self._free: deque[_Connection] = deque()
        self._waiting: deque[Taker] = deque()
        self._idle = asyncio.Event()
        self._error: Lost | None = None

    @classmethod
    async def open(cls, address: str, path: str, count: int) -> Connections:
        """Connect `count` times."""
        host, _, port = address.rpartition(":")
        made = cls(f"GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n".encode())
        loop = asyncio.get_running_loop()
        for _ in range(count):
            _, connection = await loop.create_connection(lambda: _Connection(made), host, int(port))
            made._all.append(connection)
            made._free.append(connection)
        return made

    def put(self, taker: Taker) -> None:
        """Ask on a free connection, or on the next that is; `taker` gets the answer. Raises Lost."""
        if self._error is not None:
            raise self._error
        self._idle.clear()
        if self._free:
            self._free.popleft().ask(self._request, taker)
        else:
            self._waiting.append(taker)

    async def ask(self) -> Answer:
        """Ask and wait for the answer. Raises Lost if the connection ends, at the latest after its deadline."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.put(answer.set_result)
        async with asyncio.timeout(10.0):
            return await answer

    async def idle(self) -> None:
        """Wait until everything asked is answered. Raises Lost."""
        while self._error is None and len(self._free) < len(self._all):
            self._idle.clear()
            await self._idle.wait()
        if self._error is not None:
            raise self._error

    def free(self, connection: _Connection) -> None:
        """Take a connection back, or give it the next request."""
        if self._waiting:
            connection.ask(self._request, self._waiting.popleft())
            return
        self._free.append(connection)
        if len(self._free) == len(self._all):
            self._idle.set()

    def fail(self, error: Lost) -> None:
        """Remember the first error; whoever waits is told."""
        self._error = self._error or error
        self._idle.set()

    def close(self) -> None:
        """End all connections."""
        for connection in self._all:
            if connection.transport is not None:
                connection.transport.abort()
