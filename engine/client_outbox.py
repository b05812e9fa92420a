"""What a client has sent and not yet had answered: kept, resent, retried, and answered once.

Law of this file: an event keeps its counter through every resend, so the server can tell a repeat
from a new event; it leaves only with the server's answer, the caller's cancel or the client's end.
A refusal that says when to come back is retried that often and no more, not before that time and not when
nobody would want the result any more; and what `routing/restraint.py` keeps back is refused here, with the
engine's last word. So an overloaded engine sees little more than the load it can take.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, repeat
from math import ceil
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias

from laneway.routing.envelope import COUNTER, DEADLINE, LANE, PRODUCER, RUN, Envelope, cost_bytes
from laneway.routing.errors import LanewayError
from laneway.routing.failures import error_of_code
from laneway.routing.lanes import Lane
from laneway.routing.restraint import Restraint

__all__ = ["Outbox", "Receipt"]

_FRAME_EVENTS: Final = 64
_FRAME_BYTES: Final = 524_288
"""Half of the largest frame: one event more always fits."""
_PLAIN_BYTES: Final = 393_216
"""Bodies that are a frame for sure, whatever stands beside them."""
_COUNTER: Final = itemgetter(COUNTER)


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


class _Many:
    """Events that were sent together: one task waits for all their answers."""

    __slots__ = ("answers", "left", "over")

    def __init__(self, count: int) -> None:
        self.answers: dict[int, str | LanewayError] = {}
        self.left = count
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(self, answers: Mapping[int, str | LanewayError]) -> None:
        self.answers.update(answers)
        self.left -= len(answers)
        if not self.left and not self.over.done():
            self.over.set_result(None)


_Waiter: TypeAlias = "asyncio.Future[str] | _Many"


class Outbox:
    """Unanswered events of one client id, in counter order.

    Args:
        max_bytes: above it senders wait.
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
        self._waiters: dict[int, _Waiter] = {}
        self._unsent: dict[int, Envelope] = {}  # those of them that have to go out (again)
        self._newest = 0
        self._straight = True  # `_unsent` goes out as it stands: in the order of counters, none critical or too early
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
        if self._words and (held := self._held(env)) is not None:
            raise held
        cost, counter = cost_bytes(env), env[COUNTER]
        if self._failed is not None or self._bytes + cost > self._max_bytes:
            await self._enter(cost)
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._pending[counter] = self._unsent[counter] = env
        self._waiters[counter] = answer
        if counter < self._newest or env[LANE] == Lane.CRITICAL:
            self._straight = False
        self._newest = counter
        self._bytes += cost
        self.wake.set()
        try:
            return Receipt(f"{env[PRODUCER]}:{counter}", await answer, env[RUN])
        finally:
            if answer.cancelled():  # the caller was
                self._forget((counter,))
            self._leave(cost)

    async def put_all(self, envs: Sequence[Envelope]) -> list[Receipt | LanewayError]:
        """Add events in the order of their counters and wait for all answers: the receipt or the refusal of each.

        Raises what ended the client. Cancelling as for `put`; their bytes are freed together.
        """
        held = {env[COUNTER]: error for env in envs if (error := self._held(env)) is not None} if self._words else {}
        answers = {**held, **await self._answers([env for env in envs if env[COUNTER] not in held])}
        return [
            Receipt(f"{env[PRODUCER]}:{env[COUNTER]}", answer, env[RUN]) if isinstance(answer, str) else answer
            for env, answer in zip(envs, map(answers.__getitem__, map(_COUNTER, envs)), strict=True)
        ]

    async def _answers(self, envs: Sequence[Envelope]) -> Mapping[int, str | LanewayError]:
        """Send these together, and return their answers by counter."""
        if not envs:
            return {}
        cost, counters, lanes = sum(map(cost_bytes, envs)), [env[COUNTER] for env in envs], {env[LANE] for env in envs}
        if self._failed is not None or self._bytes + cost > self._max_bytes:
            await self._enter(cost)
        many = _Many(len(envs))
        self._pending.update(zip(counters, envs, strict=True))
        self._unsent.update(zip(counters, envs, strict=True))
        self._waiters.update(zip(counters, repeat(many)))
        if counters[0] < self._newest or Lane.CRITICAL in lanes:
            self._straight = False
        self._newest = counters[-1]
        self._bytes += cost
        self.wake.set()
        try:
            await many.over
        finally:
            if many.left:
                self._forget(counters)
            self._leave(cost)
        return many.answers

    def _held(self, env: Envelope) -> LanewayError | None:
        """Return why an event is not offered now, or None."""
        if self._restraint is None:
            return None
        hold_s = self._restraint.holds(env[LANE], asyncio.get_running_loop().time())
        return None if hold_s is None else _unsent(self._words[env[LANE]], hold_s)

    def take(self, now: float) -> list[Envelope]:
        """Return the events to send now, critical ones first, as much as fits in one frame. O(unsent)."""
        unsent = self._unsent
        if self._straight:
            chosen = list(islice(unsent.values(), _FRAME_EVENTS))
            if sum([len(env[11]) for env in chosen]) <= _PLAIN_BYTES:
                if len(chosen) == len(unsent):
                    unsent.clear()
                else:
                    for env in chosen:
                        del unsent[env[COUNTER]]
                return chosen
        ready = [env for counter, env in unsent.items() if self._not_before(counter) <= now]
        ready.sort(key=lambda env: (env[LANE] != Lane.CRITICAL, env[COUNTER]))
        chosen, size = [], 0
        for env in ready[:_FRAME_EVENTS]:
            size += cost_bytes(env)
            if chosen and size > _FRAME_BYTES:
                break
            del unsent[env[COUNTER]]
            chosen.append(env)
        self._straight = self._straight or not unsent
        return chosen

    def deadline(self) -> float | None:
        """Return when the next event may be sent, or None if all are out."""
        return min(map(self._not_before, self._unsent), default=None)

    def ok(self, first: int, count: int, status: str) -> None:
        """The server took the events with `count` counters from `first` on. O(count), and of what is unanswered."""
        counters: Sequence[int] = range(first, first + count)
        if count > len(self._pending):  # the number is the peer's
            counters = [counter for counter in self._pending if counter in range(first, first + count)]
        waiters = [self._waiters.pop(counter, None) for counter in counters]
        if self._words and self._restraint is not None:
            for env in [self._pending[counter] for counter in counters if counter in self._pending]:
                self._restraint.taken(env[LANE])
        for book in (self._pending, self._unsent, self._again):
            if book:
                deque(map(book.pop, counters, repeat(None)), maxlen=0)
        self._straight = self._straight or not self._unsent
        if isinstance(many := waiters[0] if len(set(waiters)) == 1 else None, _Many):
            many.take(dict.fromkeys(counters, status))
            return
        for counter, waiter in zip(counters, waiters, strict=True):
            if isinstance(waiter, _Many):
                waiter.take({counter: status})
            elif waiter is not None and not waiter.done():
                waiter.set_result(status)

    def refused(self, counter: int, error: LanewayError, now: float) -> None:
        """The server did not take it: offer it again when it said so, or give the error to the sender."""
        waiter = self._waiters.get(counter)
        if waiter is None:
            return
        attempts, _ = self._again.get(counter, (1, 0.0))
        env = self._pending[counter]
        again = self._offer_at(env, attempts, error, now)
        if again is not None and again < env[DEADLINE]:
            self._again[counter] = (attempts + 1, again)
            self._unsent[counter] = env
            self._straight = False
            self.wake.set()
            return
        self._forget((counter,))
        if isinstance(waiter, _Many):
            waiter.take({counter: error})
        elif not waiter.done():
            waiter.set_exception(error)

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
        self._straight = not self._unsent
        self.wake.set()

    def fail(self, error: LanewayError) -> None:
        """The client is over: every sender gets `error`."""
        self._failed = error
        self._room.set()
        for waiter in set(self._waiters.values()):
            future = waiter.over if isinstance(waiter, _Many) else waiter
            if not future.done():
                future.set_exception(error)
        self._forget(list(self._pending))

    async def _enter(self, cost: int) -> None:
        """Wait for room. Raises what ended the client."""
        while self._bytes and self._bytes + cost > self._max_bytes and self._failed is None:
            self._room.clear()
            await self._room.wait()
        if self._failed is not None:
            raise self._failed

    def _leave(self, cost: int) -> None:
        self._bytes -= cost
        if not self._room.is_set():
            self._room.set()

    def _not_before(self, counter: int) -> float:
        again = self._again.get(counter)
        return 0.0 if again is None else again[1]

    def _forget(self, counters: Iterable[int]) -> None:
        """These are over, as far as they were not."""
        for counter in counters:
            if self._waiters.pop(counter, None) is not None:
                del self._pending[counter]
                self._unsent.pop(counter, None)
                self._again.pop(counter, None)
        self._straight = self._straight or not self._unsent


def _unsent(word: LanewayError, hold_s: float) -> LanewayError:
    """Return the refusal of an event that is not offered, for what was said of others."""
    message = f"not sent, as the engine refuses most of what this client sends it in this lane: {word.message}"
    return error_of_code(word.code, message, reason=word.reason, retry_after_ms=ceil(hold_s * 1000))
