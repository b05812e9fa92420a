"""What one connection of our HTTP server may cost, and the book of those that are open.

Law of this file: limits and the two watchers of a transport that keep them; no protocol is read here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final

from uvicorn.server import ServerState

from laneway.routing.errors import LanewayError

__all__ = ["Bounds", "ConnectionBook", "Stall", "keep_kernel_lean"]

_UNSENT_BYTES: Final = 65_536
"""What the kernel may hold of a connection and has not sent: an urgent frame waits behind no more."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one connection may cost.

    Attributes:
        connections: open at once.
        head_bytes: request line and headers together; url_bytes: the request line's target; headers: how many.
        message_bytes: one request with everything around its body (chunk sizes, trailers).
        head_s: until the headers are complete, from the first byte or from the connect.
        body_s: until the body is complete, whether anybody reads it or not.
        stall_s: an answer of which nothing was read for so long is cut off.
        fragments: of one WebSocket message.
        pipelined: requests read while an earlier one is answered.
    """

    connections: int = 25_000
    head_bytes: int = 16_384
    url_bytes: int = 4_096
    headers: int = 100
    message_bytes: int = 2_621_440
    head_s: float = 10.0
    body_s: float = 35.0
    stall_s: float = 30.0
    fragments: int = 1_024
    pipelined: int = 16


class _Silent(logging.Logger):
    """uvicorn asks for a logger; nothing of a peer goes through it."""

    def __init__(self) -> None:
        super().__init__("silent", logging.CRITICAL + 1)


class ConnectionBook(ServerState):
    """The connections and tasks of one server, as uvicorn's protocols keep them.

    Args:
        refused: told of each error that a client is answered with here.

    Attributes:
        empty: set each time the last connection has left.
    """

    def __init__(self, bounds: Bounds, refused: Callable[[LanewayError], None]) -> None:
        self.bounds = bounds
        self.refused = refused
        self.silent = _Silent()
        self.empty = asyncio.Event()
        self._second = 0
        self._date: list[tuple[bytes, bytes]] = []
        super().__init__()

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """The Date header, made once a second."""
        second = int(time.time())
        if second != self._second:
            self._second, self._date = second, [(b"date", formatdate(second, usegmt=True).encode())]
        return self._date

    @default_headers.setter
    def default_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        return

    def left(self) -> None:
        """A connection is gone."""
        if not self.connections:
            self.empty.set()


class Stall:
    """Cuts a transport off of which nothing is read for a while."""

    __slots__ = ("_left", "_pause_s", "_timer", "_transport")

    def __init__(self, transport: asyncio.Transport, pause_s: float) -> None:
        self._transport = transport
        self._pause_s = pause_s
        self._left = 0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Something waits to be read."""
        if self._timer is None:
            self._left = self._transport.get_write_buffer_size()
            self._timer = asyncio.get_running_loop().call_later(self._pause_s, self._look)

    def stop(self) -> None:
        """The connection is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        size = self._transport.get_write_buffer_size()
        if size and size >= self._left:
            self._transport.abort()
        elif size:
            self.watch()


def keep_kernel_lean(transport: asyncio.Transport, stall_s: float) -> None:
    """Let the kernel take little more than it can send, and give a peer up that takes nothing for twice `stall_s`.

    Twice: whoever watches the transport comes first. Where that cannot be said, credit bounds the
    one, and the kernel's own patience (15 minutes) the other.
    """
    raw = transport.get_extra_info("socket")
    if raw is None or raw.family not in (socket.AF_INET, socket.AF_INET6):
        return
    for name, value in (("TCP_NOTSENT_LOWAT", _UNSENT_BYTES), ("TCP_USER_TIMEOUT", int(stall_s * 2000))):
        option = getattr(socket, name, None)
        if option is not None:
            with contextlib.suppress(OSError):  # not on this system
                raw.setsockopt(socket.IPPROTO_TCP, option, value)
