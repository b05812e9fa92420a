"""The door of a dispatcher: who is let in, who has a place and has not come in yet, and who comes in.

Law of this file: events come as lists, and each has its own answer: refused with a typed error and not
accepted, or reserved until it is enqueued (from then on it is in the books) or released. A cancel that
comes between the two is not forgotten. An id is in work once.

A reservation may last: whoever has it may have to write something down first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from laneway.actors.dispatch.books import Books, OnDone
from laneway.actors.dispatch.cancels import Cancel, RememberedCancels
from laneway.actors.dispatch.journeys import Journeys
from laneway.actors.dispatch.reservations import Reservations
from laneway.actors.endings import cancelled, drained, failed
from laneway.actors.ports import Clock, Outcome
from laneway.routing.dispatch import DispatchCore, Verdict
from laneway.routing.envelope import KIND, LANE, TRACE, Envelope, Key, envelope_id, key_of
from laneway.routing.errors import Draining, LanewayError, LocalProtocolError
from laneway.routing.frame import FEWEST, Frame, frame_of

__all__ = ["DispatchPort", "Door"]

_DRAIN_RETRY_MS: Final = 1000


class DispatchPort(Protocol):
    """What a session needs of its dispatcher."""

    def introduce(self, tenant: str, session: str, producer: str, subject: str) -> None:
        """Say whose events those of a producer are, before the first of them."""
        ...

    def admit_batch(self, envs: Sequence[Envelope]) -> Sequence[Verdict]:
        """Classify, check and reserve; one answer per event, in order: `envs` again if all come in as they are."""
        ...

    def enqueue_batch(self, envs: Sequence[Envelope], on_done: OnDone | None = None) -> None:
        """Queue admitted events; `on_done` is told of each exactly once, of several together."""
        ...

    def release(self, env: Envelope) -> None:
        """Give back an admitted event that will not be queued."""
        ...

    def forget(self, tenant: str, session: str) -> bool:
        """Drop what is remembered of a session that nobody uses; False if there is still something: ask again."""
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
        self.reserved = Reservations()
        self.refused = 0
        self.draining = self.closed = False

    @property
    def remembered(self) -> int:
        """Cancels that wait for what they are meant for. O(1) amortised."""
        return self._cancels.alive(self._clock.now())

    def admit(self, envs: Sequence[Envelope], *, nested: bool = False) -> Sequence[Verdict]:
        """Classify, check and reserve; one answer per event, in order: `envs` again if it is let in as it is.

        Args:
            nested: they belong to work that was accepted before the shutdown began.
        """
        now = self._clock.now()
        frame = self._whole(envs, nested, now) if len(envs) >= FEWEST else None
        if frame is not None:
            self.reserved.hold(frame)
            return envs
        answers, reserved = self._decide(envs, nested, now), self.reserved.single
        for answer in answers:
            if isinstance(answer, tuple):
                reserved[(answer[3], answer[4], answer[0], answer[1])] = answer
        return answers

    def _whole(self, envs: Sequence[Envelope], nested: bool, now: float) -> Frame | None:
        """Let a frame in as a whole, if all of it may come in as it is; None: nothing has happened yet."""
        if self.closed or (self.draining and not nested) or (frame := frame_of(envs)) is None:
            return None
        if self._books.meets(frame) or (self.reserved.single and self._any_in_work(frame)):
            return None
        if not self._core.express.admit(frame, now):
            return None
        for env in frame.traced:
            self._journeys.admitted(env, env[LANE], now)
        return frame

    def _any_in_work(self, frame: Frame) -> bool:
        return not self.reserved.single.keys().isdisjoint(map(key_of, frame))

    def _decide(self, envs: Sequence[Envelope], nested: bool, now: float) -> list[Verdict]:
        if self.closed or (self.draining and not nested):
            return self._turned_away(envs, now)
        lines, control, single, frames = self._books.lines, self._control, self.reserved.single, self.reserved.frames
        for env in envs:
            line = lines.get((env[3], env[4], env[0]))
            if (
                (line is not None and env[1] in line.events)
                or env[2] in control
                or (single and (env[3], env[4], env[0], env[1]) in single)
                or (frames and self._in_work(key_of(env)))
            ):
                answers = self._admit_odd(envs, now)
                break
        else:
            answers = self._core.admit(envs, now)
        for env, answer in zip(envs, answers):  # noqa: B905 as many, and this is the inner loop
            if not isinstance(answer, tuple):
                self.refused += 1
                if env[9]:
                    self._journeys.refused(env, now, answer)
            elif env[9] and env[2] not in control:
                self._journeys.admitted(answer, env[LANE], now)
        return answers

    def _turned_away(self, envs: Sequence[Envelope], now: float) -> list[Verdict]:
        message = "this engine is shutting down; send it to another one"
        refusals: list[Verdict] = []
        for env in envs:
            error = Draining(message, retry_after_ms=_DRAIN_RETRY_MS)
            refusals.append(error)
            if env[TRACE]:
                self._journeys.refused(env, now, error)
        self.refused += len(refusals)
        return refusals

    def _admit_odd(self, envs: Sequence[Envelope], now: float) -> list[Verdict]:
        """Admit when some are control events, or have an id that is in work."""
        seen: dict[Key, Verdict] = {}
        answers: list[Verdict | None] = []
        for env in envs:
            key = key_of(env)
            if key in seen or self._in_work(key):
                answers.append(LocalProtocolError(f"event {envelope_id(env)} is in work already; ids are used once"))
            else:
                answers.append(env if env[KIND] in self._control else None)
                seen[key] = env
        asked = [env for env, answer in zip(envs, answers, strict=True) if answer is None]
        decided = iter(self._core.admit(asked, now))
        return [next(decided) if answer is None else answer for answer in answers]

    def _in_work(self, key: Key) -> bool:
        if key in self._books or key in self.reserved.single:
            return True
        return bool(self.reserved.frames) and self._core.admission.holds(*key)

    def release(self, env: Envelope) -> None:
        """Give an admitted event back that will not be enqueued."""
        key = key_of(env)
        self._doomed.pop(key, None)
        if self.reserved.end(key) is not None and env[KIND] not in self._control:
            self._core.release(env)
            if env[TRACE]:
                self._journeys.released(env)

    def enqueue(self, envs: Sequence[Envelope], on_done: OnDone | None) -> None:
        """Take admitted events into the books and queue them, in order.

        Raises LocalProtocolError if one was not admitted; those before it are queued.
        """
        frame = self.reserved.whole(envs) if self.reserved.frames else None
        if frame is not None:
            self._frame_comes_in(frame, on_done)
            return
        reserved, entering = self.reserved, []
        try:
            for env in envs:
                if reserved.end((env[3], env[4], env[0], env[1])) is None:
                    raise LocalProtocolError(f"event {envelope_id(env)} was not admitted; admit it first")
                entering.append(env)
        finally:
            self._come_in(entering, on_done)

    def _frame_comes_in(self, frame: Frame, on_done: OnDone | None) -> None:
        """As `_come_in`."""
        now = self._clock.now()
        if self._doomed or self.closed or self._cancels.concern(frame[:1], now):
            self._come_in(frame, on_done)
            return
        self._books.enter_frame(frame, on_done)
        pools = self._core.express.enqueue(frame)
        if pools is None:
            self._queue(frame, now)
            return
        for env in frame.traced:
            self._journeys.enqueued(env, self._core.express.pool_of(env[KIND]))
        self._arrived(pools)

    def _come_in(self, envs: Sequence[Envelope], on_done: OnDone | None) -> None:
        """From here on the events are in the books, and end exactly once."""
        now, control = self._clock.now(), self._control
        odd = self._doomed or self.closed or not control.isdisjoint([env[2] for env in envs])
        if odd or self._cancels.concern(envs, now):
            for env in envs:  # a control event meets what came before it
                self._books.enter((env,), on_done)
                self._come_in_watched(env, now)
        else:
            self._books.enter(envs, on_done)
            self._queue(envs, now)

    def _come_in_watched(self, env: Envelope, now: float) -> None:
        """Act on one that is a control event, end one that was cancelled since, queue any other."""
        if env[KIND] in self._control:
            self._act(env)
        elif (early := self._ended_early(key_of(env), env, now)) is not None:
            self._core.release(env)
            self._books.close([(env, early)], now)
        else:
            self._queue((env,), now)

    def _queue(self, envs: Sequence[Envelope], now: float) -> None:
        """Queue events of the books, and say which pools have something to take."""
        pools: dict[str, bool] = {}
        for env, pool in zip(envs, self._core.enqueue(envs, now), strict=True):
            if isinstance(pool, str):
                if env[9]:
                    self._journeys.enqueued(env, pool)
                if pool not in pools or not env[7]:
                    pools[pool] = not env[7]
            else:  # its pool's condition takes it no more
                self._core.release(env)
                self._books.close([(env, failed(pool))], now)
        if pools:
            self._arrived(pools)

    def offer(
        self, envs: Sequence[Envelope], on_done: OnDone | None, nested: bool = False
    ) -> list[LanewayError | None]:
        """Admit and queue at once; per event None, or why not (of which `on_done` is never told)."""
        now = self._clock.now()
        frame = self._whole(envs, nested, now) if len(envs) >= FEWEST else None
        if frame is not None:
            self._frame_comes_in(frame, on_done)
            return [None] * len(frame)
        answers = self._decide(envs, nested, now)
        refusals = [None if isinstance(answer, tuple) else answer for answer in answers]
        if any(refusals):
            for code, times in Counter(error.code for error in refusals if error is not None).items():
                self._count("event.refused", times, code=code)  # whoever asks `admit` counts by itself
        self._come_in([answer for answer in answers if isinstance(answer, tuple)], on_done)
        return refusals

    def cancel(self, cancel: Cancel) -> None:
        """Let a cancel meet what is reserved, and what arrives later. O(reserved)."""
        self._cancels.add(cancel, self._clock.now())
        for env in self.reserved:
            if cancel.meant_for(env):
                self._doomed.setdefault(key_of(env), cancel)

    def _ended_early(self, key: Key, env: Envelope, now: float) -> Outcome | None:
        """The outcome of an event that was cancelled, or overtaken by the shutdown, before it was queued."""
        cancel = self._doomed.pop(key, None) or self._cancels.find(env, now)
        if cancel is not None:
            return cancelled(cancel.reason)
        return drained() if self.closed else None
