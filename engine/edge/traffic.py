"""What passes through one transport: connections, how they ended, bytes.

Law of this file: plain numbers, counted by the edge where they happen and read when somebody asks;
one `Traffic` per transport, whatever edges share it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Final, TypeAlias

from laneway.actors.meters import MUTE
from laneway.actors.ports import Clock, Probe
from laneway.routing.errors import Draining, Fenced, LanewayError, LinkClosed, SessionExpired, Superseded

__all__ = ["RESULTS", "Connection", "Traffic"]

Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

RESULTS: Final = ("left", "lost", "ended", "refused", "failed")
"""How a connection can be over: the client said goodbye; it went without; the engine ended it in order;
it was never established; an error ended it."""

_IN_ORDER: Final = (Draining, Fenced, SessionExpired, Superseded)


class Connection:
    """One connection, while it is served.

    Attributes:
        established: set it to True once the client was welcomed: what fails before is a refusal.
        result: one of RESULTS; if nobody says anything and nothing is raised, all that was wanted was sent.
        code: of the error that refused or ended it, or empty.
    """

    __slots__ = ("code", "established", "result")

    def __init__(self) -> None:
        self.established = False
        self.result = "left"
        self.code = ""

    def over(self, reason: LanewayError | None, *, goodbye: bool = False) -> None:
        """Say how it ended.

        Args:
            reason: what ended it, or None: the client did.
            goodbye: the client said that it leaves.
        """
        if goodbye or isinstance(reason, LinkClosed):
            self.result = "left"
        elif reason is None:
            self.result = "lost"
        elif isinstance(reason, _IN_ORDER) and self.established:
            self.result = "ended"
        else:
            self.result, self.code = "failed" if self.established else "refused", reason.code


class _Counted:
    """A connection while it is counted: an object and no generator, whose frame would be 300 bytes of every stream."""

    __slots__ = ("_began", "_connection", "_traffic")

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._connection = Connection()

    def __enter__(self) -> Connection:
        self._began = self._traffic.begin()
        return self._connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection = self._connection
        if isinstance(error, LanewayError):
            connection.over(error)
        elif isinstance(error, ConnectionError):
            connection.over(None)
        elif isinstance(error, Exception):
            connection.result, connection.code = "failed", LanewayError.code
        elif error is not None:  # its task was cancelled: the edge is closing
            connection.result = "ended"
        self._traffic.end(connection, self._began)


class Traffic:
    """The numbers of one transport.

    Args:
        transport: its name: the label of its metrics.
        probe: histogram `connection.duration`, counters `connection.error` and `http.refused`.

    Attributes:
        capacity: connections its edges take at once; each edge adds its own while it is open.
        active, opened, closed: connections now, ever, and by how they ended.
        received_bytes, sent_bytes: frames.
    """

    __slots__ = (
        "_clock",
        "_duration",
        "_probe",
        "active",
        "capacity",
        "closed",
        "opened",
        "received_bytes",
        "sent_bytes",
        "transport",
    )

    def __init__(self, transport: str, clock: Clock, probe: Probe = MUTE) -> None:
        self.transport = transport
        self.capacity = 0
        self.active = self.opened = 0
        self.closed = dict.fromkeys(RESULTS, 0)
        self.received_bytes = self.sent_bytes = 0
        self._clock = clock
        self._probe = probe
        self._duration = probe.histogram("connection.duration", transport=transport)

    def connection(self) -> AbstractContextManager[Connection]:
        """Count one connection from its first byte to its end; what leaves it as an error ended it."""
        return _Counted(self)

    def begin(self) -> float:
        """Count one that begins, and return when."""
        self.opened += 1
        self.active += 1
        return self._clock.now()

    def end(self, connection: Connection, began: float) -> None:
        """Count one that is over, as it says itself."""
        self.active -= 1
        self.closed[connection.result] += 1
        self._duration(self._clock.now() - began)
        if connection.code:
            self._probe.count("connection.error", code=connection.code)

    def refused(self, error: LanewayError) -> None:
        """Count a connection that was turned away before it was one."""
        self.opened += 1
        self.closed["refused"] += 1
        self._probe.count("connection.error", code=error.code)

    def answered(self, error: LanewayError, status: int) -> None:
        """Count an HTTP request or upgrade that was answered with an error."""
        self._probe.count("http.refused", code=error.code, http_status=str(status))

    def counted(self, receive: Receive, send: Send) -> tuple[Receive, Send]:
        """Return an ASGI server's two callables, with their bodies and messages counted."""

        async def receiving() -> MutableMapping[str, Any]:
            message = await receive()
            self.received_bytes += _body_bytes(message)
            return message

        async def sending(message: MutableMapping[str, Any]) -> None:
            self.sent_bytes += _body_bytes(message)
            await send(message)

        return receiving, sending


def _body_bytes(message: MutableMapping[str, Any]) -> int:
    text = message.get("text")
    return len(message.get("body") or message.get("bytes") or b"") + (len(text.encode()) if text else 0)
