"""What a client has sent and not yet had answered: kept, resent, retried, and answered once.

Law of this file: an event keeps its counter through every resend, so the server can tell a repeat
from a new event; it leaves only with the server's answer, the caller's cancel or the client's end.
A refusal that says when to come back is retried that often and no more, not before that time and not when
nobody would want the result any more; and what `routing/restraint.py` keeps back is refused here, with the
engine's last word. So an overloaded engine sees little more than the load it can take.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from math import ceil
from typing import Final, NamedTuple

from laneway.routing.envelope import COUNTER, DEADLINE, LANE, PRODUCER, RUN, Envelope, cost_bytes
from laneway.routing.errors import LanewayError
from laneway.routing.failures import error_of_code
from laneway.routing.lanes import Lane
from laneway.routing.restraint import Restraint

__all__ = ["Outbox", "Receipt"]

_FRAME_EVENTS: Final = 64
_FRAME_BYTES: Final = 524_288
"""Half of the largest frame: one event more always fits."""


class Receipt(NamedTuple):
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


class Outbox:
    """Unanswered events of one client id, in counter order.

    Args:
        max_bytes: above it `put` waits.
        max_attempts: how often an event that is refused with a delay is offered altogether.
        restraint: keeps events and second tries back while the engine refuses most; None: nothing does.
    """

    def __init__(
        self, *, max_bytes: int = 4_194_304, max_attempts: int = 5, restraint: Restraint | None = None
    ) -> None:
        self._restraint = restraint
        self._words: dict[int, LanewayError] = {}  # lane -> what the engine said last
        self._max_bytes = max_bytes
        self._max_attempts = max_attempts
        self._pending: dict[int, Envelope] = {}
        self._answers: dict[int, asyncio.Future[str]] = {}
        self._unsent: dict[int, Envelope] = {}  # those of them that have to go out (again)
        self._again: dict[int, tuple[int, float]] = {}  # refused ones: attempts so far, and not before
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
        if self._words and self._restraint is not None:
            hold_s = self._restraint.holds(env[LANE], asyncio.get_running_loop().time())
            if hold_s is not None:
                raise _unsent(self._words[env[LANE]], hold_s)
        cost = cost_bytes(env)
        while self._bytes and self._bytes + cost > self._max_bytes and self._failed is None:
            self._room.clear()
            await self._room.wait()
        if self._failed is not None:
            raise self._failed
        counter = env[COUNTER]
        self._pending[counter] = self._unsent[counter] = env
        answer = self._answers[counter] = asyncio.get_running_loop().create_future()
        self._bytes += cost
        self.wake.set()
        try:
            return Receipt(f"{env[PRODUCER]}:{counter}", await answer, env[RUN])
        finally:
            if not answer.done() or answer.cancelled():  # the caller was cancelled
                self._forget((counter,))

    def take(self, now: float) -> list[Envelope]:
        """Return the events to send now, critical ones first, as much as fits in one frame. O(unsent)."""
        if not self._unsent:
            return []
        ready: Iterable[Envelope] = self._unsent.values()
        if self._again:
            ready = [env for counter, env in self._unsent.items() if self._not_before(counter) <= now]
        ready = sorted(ready, key=_order)
        chosen: list[Envelope] = []
        size = 0
        for env in ready[:_FRAME_EVENTS]:
            size += cost_bytes(env)
            if chosen and size > _FRAME_BYTES:
                break
            del self._unsent[env[COUNTER]]
            chosen.append(env)
        return chosen

    def deadline(self) -> float | None:
        """Return when the next event may be sent, or None if all are out."""
        return min(map(self._not_before, self._unsent), default=None)

    def ok(self, first: int, count: int, status: str) -> None:
        """The server took the events with `count` counters from `first` on. O(count), and of what is unanswered."""
        counters: Iterable[int] = range(first, first + count)
        if count > len(self._pending):  # the number is the peer's
            counters = [counter for counter in self._pending if counter in range(first, first + count)]
        for counter in counters:
            answer = self._answers.get(counter)
            if answer is not None and not answer.done():
                answer.set_result(status)
                if self._words and self._restraint is not None:
                    self._restraint.taken(self._pending[counter][LANE])
        self._forget(counters)

    def refused(self, counter: int, error: LanewayError, now: float) -> None:
        """The server did not take it: offer it again when it said so, or give the error to the sender."""
        answer = self._answers.get(counter)
        if answer is None or answer.done():
            return
        attempts, _ = self._again.get(counter, (1, 0.0))
        env = self._pending[counter]
        again = self._offer_at(env, attempts, error, now)
        if again is not None and again < env[DEADLINE]:
            self._again[counter] = (attempts + 1, again)
            self._unsent[counter] = env
            self.wake.set()
        else:
            answer.set_exception(error)
            self._forget((counter,))

    def _offer_at(self, env: Envelope, attempts: int, error: LanewayError, now: float) -> float | None:
        """Return when to offer a refused event again, or None."""
        if not error.retryable or error.retry_after_ms is None:
            return None
        last = attempts >= self._max_attempts
        if self._restraint is None:
            return None if last else now + error.retry_after_ms / 1000
        self._words[env[LANE]] = error
        return self._restraint.refused(env[LANE], error.reason, error.retry_after_ms, now, last=last)

    def resend(self) -> None:
        """The link was lost: everything unanswered goes out again on the next one."""
        self._unsent = dict(self._pending)
        self.wake.set()

    def fail(self, error: LanewayError) -> None:
        """The client is over: every sender gets `error`."""
        self._failed = error
        self._room.set()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(error)
        self._forget(list(self._answers))

    def _not_before(self, counter: int) -> float:
        again = self._again.get(counter)
        return 0.0 if again is None else again[1]

    def _forget(self, counters: Iterable[int]) -> None:
        """These have their answer, or nobody waits for one."""
        for counter in counters:
            env = self._pending.pop(counter, None)
            if env is not None:
                self._bytes -= cost_bytes(env)
                del self._answers[counter]
                self._unsent.pop(counter, None)
                self._again.pop(counter, None)
        self._room.set()


def _order(env: Envelope) -> tuple[bool, int]:
    return env[LANE] != Lane.CRITICAL, env[COUNTER]


def _unsent(word: LanewayError, hold_s: float) -> LanewayError:
    """Return the refusal of an event that is not offered, for what was said of others."""
    message = f"not sent, as the engine refuses most of what this client sends it in this lane: {word.message}"
    return error_of_code(word.code, message, reason=word.reason, retry_after_ms=ceil(hold_s * 1000))
