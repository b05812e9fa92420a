"""What a client has sent and not yet had answered: kept, resent, retried, and answered once.

Law of this file: an event keeps its counter through every resend, so the server can tell a repeat
from a new event; it leaves only with the server's answer, the caller's cancel or the client's end.
A refusal that says when to come back is retried that often and no more, so that an overloaded
engine sees the load it asked for.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from laneway.routing.envelope import COUNTER, LANE, Envelope, cost_bytes, envelope_id
from laneway.routing.errors import LanewayError
from laneway.routing.lanes import Lane

__all__ = ["Outbox", "Receipt"]

_FRAME_EVENTS: Final = 64
_FRAME_BYTES: Final = 524_288
"""Half of the largest frame: one event more always fits."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The server's word on one event.

    Attributes:
        id: ``client:counter``, what `after` and `cancel` name.
        status: "durable" (survives a crash), "volatile" (accepted, kept in memory only) or
            "duplicate" (it had come before, after a reconnect).
        run: run the event belongs to or starts.
    """

    id: str
    status: str
    run: str = ""


class _Pending:
    __slots__ = ("answer", "attempts", "env", "not_before")

    def __init__(self, env: Envelope, answer: asyncio.Future[str]) -> None:
        self.env = env
        self.answer = answer
        self.attempts = 1
        self.not_before = 0.0


class Outbox:
    """Unanswered events of one client id, in counter order.

    Args:
        max_bytes: above it `put` waits.
        max_attempts: how often an event that is refused with a delay is offered altogether.
    """

    def __init__(self, *, max_bytes: int = 4_194_304, max_attempts: int = 5) -> None:
        self._max_bytes = max_bytes
        self._max_attempts = max_attempts
        self._pending: dict[int, _Pending] = {}
        self._unsent: dict[int, _Pending] = {}  # those of them that have to go out (again)
        self._bytes = 0
        self._room = asyncio.Event()
        self._failed: LanewayError | None = None
        self.wake = asyncio.Event()
        """Set when there may be something to send."""

    def __len__(self) -> int:
        return len(self._pending)

    async def put(self, env: Envelope) -> Receipt:
        """Add an event and wait for the server's answer. Raises the refusal, or what ended the client.

        Cancelling the call stops resending; the server may have taken the event already.
        """
        while self._bytes and self._bytes + cost_bytes(env) > self._max_bytes and self._failed is None:
            self._room.clear()
            await self._room.wait()
        if self._failed is not None:
            raise self._failed
        pending = _Pending(env, asyncio.get_running_loop().create_future())
        self._pending[env[COUNTER]] = self._unsent[env[COUNTER]] = pending
        self._bytes += cost_bytes(env)
        self.wake.set()
        try:
            return Receipt(envelope_id(env), await pending.answer, env[5])
        finally:
            self._forget(env[COUNTER])

    def take(self, now: float) -> list[Envelope]:
        """Return the events to send now, critical ones first, as much as fits in one frame. O(unsent)."""
        if not self._unsent:
            return []
        ready = [each for each in self._unsent.values() if each.not_before <= now]
        ready.sort(key=lambda each: (each.env[LANE] != Lane.CRITICAL, each.env[COUNTER]))
        chosen: list[Envelope] = []
        size = 0
        for each in ready[:_FRAME_EVENTS]:
            size += cost_bytes(each.env)
            if chosen and size > _FRAME_BYTES:
                break
            del self._unsent[each.env[COUNTER]]
            chosen.append(each.env)
        return chosen

    def deadline(self) -> float | None:
        """Return when the next event may be sent, or None if all are out."""
        return min((each.not_before for each in self._unsent.values()), default=None)

    def ok(self, counter: int, status: str) -> None:
        """The server took an event."""
        pending = self._pending.get(counter)
        if pending is not None and not pending.answer.done():
            pending.answer.set_result(status)

    def refused(self, counter: int, error: LanewayError, now: float) -> None:
        """The server did not take it: offer it again when it said so, or give the error to the sender."""
        pending = self._pending.get(counter)
        if pending is None or pending.answer.done():
            return
        if error.retryable and error.retry_after_ms is not None and pending.attempts < self._max_attempts:
            pending.attempts += 1
            self._unsent[counter] = pending
            pending.not_before = now + error.retry_after_ms / 1000
            self.wake.set()
        else:
            pending.answer.set_exception(error)

    def resend(self) -> None:
        """The link was lost: everything unanswered goes out again on the next one."""
        self._unsent = dict(self._pending)
        self.wake.set()

    def fail(self, error: LanewayError) -> None:
        """The client is over: every sender gets `error`."""
        self._failed = error
        self._room.set()
        for pending in list(self._pending.values()):
            if not pending.answer.done():
                pending.answer.set_exception(error)

    def _forget(self, counter: int) -> None:
        pending = self._pending.pop(counter)
        self._unsent.pop(counter, None)
        self._bytes -= cost_bytes(pending.env)
        self._room.set()
