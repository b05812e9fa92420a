"""The door of a dispatcher: who is let in, who has a place and has not come in yet, and who comes in.

Law of this file: events come as lists, and each has its own answer: refused with a typed error and not
accepted, or reserved until it is enqueued (from then on it is in the books) or released. A cancel that
comes between the two is not forgotten. An id is in work once.

A reservation may last: whoever has it may have to write something down first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from laneway.actors.books import Books, Ended, Key, OnDone, key_of
from laneway.actors.cancels import Cancel, RememberedCancels
from laneway.actors.endings import cancelled, drained, failed
from laneway.actors.journeys import Journeys
from laneway.actors.ports import Clock, Outcome
from laneway.routing.dispatch import Admitted, DispatchCore
from laneway.routing.envelope import KIND, LANE, TRACE, Envelope, envelope_id
from laneway.routing.errors import Draining, LanewayError, LocalProtocolError, PeerProtocolError
from laneway.routing.lanes import Lane

__all__ = ["DispatchPort", "Door", "Verdict"]

Verdict = Envelope | LanewayError
"""What an event is answered: itself, to go on with (its lane may have changed), or why not."""

_DRAIN_RETRY_MS: Final = 1000


class DispatchPort(Protocol):
    """What a session needs of its dispatcher."""

    def admit_batch(self, envs: Sequence[Envelope]) -> list[Verdict]:
        """Classify, check and reserve; one answer per event, in order."""
        ...

    def enqueue_batch(self, envs: Sequence[Envelope], on_done: OnDone | None = None) -> None:
        """Queue admitted events; `on_done` is told of each exactly once, of several together."""
        ...

    def release(self, env: Envelope) -> None:
        """Give back an admitted event that will not be queued."""
        ...

    def cancel(
        self, tenant: str, session: str, run: str = "", event_id: str = "", reason: str = "", *, remember: bool = True
    ) -> int:
        """Cancel queued and running work; returns how many events it touched. `remember`: also what comes later."""
        ...


class Door:
    """Lets events in. Every call O(events), but `cancel`.

    Args:
        control: kinds that are acted on here instead of being queued.
        act: acts on a control event that came in.
        arrived: told which pools got something to take, and whether it is critical; "": something is parked.
        count: counter `event.refused`.

    Attributes:
        draining: only what belongs to accepted work is let in. closed: nothing is.
        refused: events turned away. reserved: events let in that have not come in.
    """

    def __init__(
        self,
        core: DispatchCore,
        books: Books,
        journeys: Journeys,
        clock: Clock,
        *,
        control: frozenset[str],
        act: Callable[[Envelope], None],
        arrived: Callable[[dict[str, bool]], None],
        count: Callable[..., None],
    ) -> None:
        self._core = core
        self._books = books
        self._journeys = journeys
        self._clock = clock
        self._control = control
        self._act = act
        self._arrived = arrived
        self._count = count
        self._cancels = RememberedCancels()
        self._doomed: dict[Key, Cancel] = {}
        self.reserved: dict[Key, Envelope] = {}
        self.refused = 0
        self.draining = self.closed = False

    @property
    def remembered(self) -> int:
        """Cancels that wait for what they are meant for."""
        return len(self._cancels)

    def admit(self, envs: Sequence[Envelope], *, nested: bool = False) -> list[Verdict]:
        """Classify, check and reserve; one answer per event, in order.

        Args:
            nested: they belong to work that was accepted before the shutdown began.
        """
        now = self._clock.now()
        answers = [self._verdict(env, now, nested) for env in envs]
        for env, answer in zip(envs, answers, strict=True):
            if not isinstance(answer, tuple):
                self.refused += 1
                if env[TRACE]:
                    self._journeys.refused(env, now, answer)
                continue
            self.reserved[key_of(answer)] = answer
            if env[TRACE] and env[KIND] not in self._control:
                self._journeys.admitted(answer, env[LANE], now)
        return answers

    def _verdict(self, env: Envelope, now: float, nested: bool) -> Verdict:
        key = key_of(env)
        if self.closed or (self.draining and not nested):
            message = "this engine is shutting down; send it to another one"
            return Draining(message, retry_after_ms=_DRAIN_RETRY_MS)
        if key in self._books or key in self.reserved:
            return LocalProtocolError(f"event {envelope_id(env)} is in work already; ids are used once")
        if env[KIND] in self._control:
            return env
        answer = self._core.admit(env, now)
        return answer.env if isinstance(answer, Admitted) else answer.error

    def release(self, env: Envelope) -> None:
        """Give an admitted event back that will not be enqueued."""
        key = key_of(env)
        self._doomed.pop(key, None)
        if self.reserved.pop(key, None) is not None and env[KIND] not in self._control:
            self._core.release(env)
            if env[TRACE]:
                self._journeys.released(env)

    def enqueue(self, envs: Iterable[Envelope], on_done: OnDone | None) -> None:
        """Take admitted events into the books and queue them, in order.

        Raises LocalProtocolError if one was not admitted; those before it are queued.
        """
        now, pools, over = self._clock.now(), dict[str, bool](), list[Ended]()
        try:
            for env in envs:
                early = self._enter(env, on_done, now, pools)
                if early is not None:
                    self._core.release(env)
                    over.append((env, early))
        finally:
            if over:
                self._books.close(over, now)
            if pools:
                self._arrived(pools)

    def _enter(self, env: Envelope, on_done: OnDone | None, now: float, pools: dict[str, bool]) -> Outcome | None:
        """Take one event in; returns its end if it is not queued."""
        key = key_of(env)
        if self.reserved.pop(key, None) is None:
            raise LocalProtocolError(f"event {envelope_id(env)} was not admitted; admit it first")
        self._books.enter(key, env, on_done)
        if env[KIND] in self._control:
            self._act(env)
            return None
        early = self._ended_early(key, env, now) if self._doomed or self._cancels.kept or self.closed else None
        return early or self._queue(env, now, pools)

    def _queue(self, env: Envelope, now: float, pools: dict[str, bool]) -> Outcome | None:
        """Queue one event; returns its end if its pool was removed since it was admitted."""
        try:
            pool = self._core.enqueue(env, now)
        except PeerProtocolError as error:
            return failed(error)
        if env[TRACE]:
            self._journeys.enqueued(env, pool)
        pools[pool] = env[LANE] == Lane.CRITICAL or pools.get(pool, False)
        return None

    def offer(
        self, envs: Sequence[Envelope], on_done: OnDone | None, nested: bool = False
    ) -> list[LanewayError | None]:
        """Admit and queue at once; per event None, or why not (of which `on_done` is never told)."""
        answers = self.admit(envs, nested=nested)
        refusals = [None if isinstance(answer, tuple) else answer for answer in answers]
        for code, times in Counter(error.code for error in refusals if error is not None).items():
            self._count("event.refused", times, code=code)  # whoever asks `admit` counts by itself
        self.enqueue([answer for answer in answers if isinstance(answer, tuple)], on_done)
        return refusals

    def cancel(self, cancel: Cancel) -> None:
        """Let a cancel meet what is reserved, and what arrives later. O(reserved)."""
        self._cancels.add(cancel, self._clock.now())
        for key, env in self.reserved.items():
            if key not in self._doomed and cancel.meant_for(env):
                self._doomed[key] = cancel

    def _ended_early(self, key: Key, env: Envelope, now: float) -> Outcome | None:
        """The outcome of an event that was cancelled, or overtaken by the shutdown, before it was queued."""
        cancel = self._doomed.pop(key, None) or self._cancels.find(env, now)
        if cancel is not None:
            return cancelled(cancel.reason)
        return drained() if self.closed else None
