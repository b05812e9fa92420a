"""What passes through one transport: connections, how they ended, bytes.

Law of this file: plain numbers, counted by the edge where they happen and read when somebody asks;
one `Traffic` per transport, whatever edges share it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from laneway.actors.meters import MUTE
from laneway.actors.ports import Clock, Probe
from laneway.routing.errors import Draining, Fenced, LanewayError, LinkClosed, SessionExpired, Superseded

__all__ = ["RESULTS", "Connection", "Traffic"]

RESULTS: Final = ("left", "lost", "ended", "refused", "failed")
"""How a connection can be over: the client said goodbye; it went without; the engine ended it in order;
it was never established; an error ended it."""

_IN_ORDER: Final = (Draining, Fenced, SessionExpired, Superseded)


class Connection:
    """One connection; whoever serves it says what becomes of it. What nobody says counts as lost.

    Attributes:
        result: one of RESULTS. code: of the error that refused or ended it, or empty.
    """

    __slots__ = ("code", "result")

    def __init__(self) -> None:
        self.result = "lost"
        self.code = ""

    def over(self, reason: LanewayError | None, *, established: bool, goodbye: bool) -> None:
        """Say how it ended.

        Args:
            reason: what ended it, or None: the client did.
            established: it was welcomed. goodbye: its client said that it leaves.
        """
        if goodbye or isinstance(reason, LinkClosed):
            self.result = "left"
        elif isinstance(reason, _IN_ORDER) and established:
            self.result = "ended"
        elif reason is not None:
            self.result, self.code = "failed" if established else "refused", reason.code


class Traffic:
    """The numbers of one transport.

    Args:
        transport: its name: the label of its metrics.
        probe: histogram `connection.duration`, counter `connection.error`.

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

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Count one connection from its first byte to its end; an error of the tree that leaves it is a refusal."""
        connection, began = Connection(), self._clock.now()
        self.opened += 1
        self.active += 1
        try:
            yield connection
        except LanewayError as error:
            connection.over(error, established=False, goodbye=False)
            raise
        except Exception:
            connection.result, connection.code = "failed", LanewayError.code
            raise
        finally:
            self.active -= 1
            self.closed[connection.result] += 1
            self._duration(self._clock.now() - began)
            if connection.code:
                self._probe.count("connection.error", code=connection.code)
