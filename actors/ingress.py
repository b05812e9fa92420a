"""The inbound half of a session: dedupe, admit, journal, answer, dispatch, and what came of it.

Law of this file: an event is answered OK only after the step that the answer promises, and each
accepted event is over exactly once. Order: dedupe -> admit -> journal -> OK -> dispatch; a
critical event is acted on first, also when the store is away (then it is answered `volatile`).
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Container, Sequence
from typing import Final

from laneway.actors.arrivals import Arrivals, Speaker
from laneway.actors.books import Ended
from laneway.actors.committer import Committer
from laneway.actors.door import DispatchPort
from laneway.actors.endings import HOST_LOST, POISON
from laneway.actors.intake import Intake
from laneway.actors.meters import SessionMeters
from laneway.actors.ports import Clock, Entry, Outcome, Principal
from laneway.actors.runbook import RunBook
from laneway.actors.spans import Tracer
from laneway.actors.starts import RUN_STARTING
from laneway.routing.classify import OUT, KindTable
from laneway.routing.envelope import COUNTER, ENTITY, KIND, LANE, PRODUCER, RUN, TRACE, Envelope, envelope_id
from laneway.routing.errors import (
    AccessError,
    AdmissionError,
    Fenced,
    IdempotencyMismatch,
    LaneFull,
    LanewayError,
    LocalProtocolError,
    PeerProtocolError,
    RateLimited,
    StoreUnavailable,
)
from laneway.routing.lanes import Lane
from laneway.routing.shaper import Gcra

__all__ = ["Ingress"]

_MAX_STARTS: Final = 3
"""Handler starts (each but the last ended in a crash) before an event is dead-lettered."""
_STORE_RETRY_MS: Final = 1000
_RECOVERY_RETRY_MS: Final = 200
_CONTROL_PER_S: Final = 20
_CONTROL: Final = Gcra(_CONTROL_PER_S, 50)
"""Interrupts and cancels overtake everything, so they are policed: nobody floods by asking to stop."""


class Ingress:
    """Takes client events of one session in.

    Args:
        intake: journal bookkeeping, restored by the owner before the first event.
        durable: whether the store survives kill -9: what an OK may promise.
        fail_run: tells the session that a run ended without having told so itself.
        remember: called with each journalled event, for the transcript.
        answer_to: producer -> its live link, or None.
        observe: called with ("in", events) for accepted events.
        awaited: run -> when it was accepted, until its first text; see `Outbound`.
        meters: counters `event.refused`, `event.recovered` and the runs'; see `RunBook`.
        tracer: spans of sampled events, or None.

    Attributes:
        unburied: events that are given up and wait for their dead letter; see `buried`.
        trim_below: journal records below this seq are covered by a checkpoint.
    """

    def __init__(
        self,
        tenant: str,
        session: str,
        *,
        intake: Intake,
        committer: Committer,
        dispatcher: DispatchPort,
        kinds: KindTable,
        clock: Clock,
        durable: bool,
        fail_run: Callable[[str, Outcome], None],
        remember: Callable[[Envelope], None],
        answer_to: Callable[[str], Speaker | None],
        observe: Callable[[str, Sequence[Envelope]], None],
        awaited: dict[str, float] | None = None,
        meters: SessionMeters | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.trim_below = 0
        self._tenant = tenant
        self._session = session
        self._intake = intake
        self._committer = committer
        self._dispatcher = dispatcher
        self._kinds = kinds
        self._clock = clock
        self._durable = durable
        self._fail_run = fail_run
        self._remember = remember
        self._answer_to = answer_to
        self._observe = observe
        self._meters = meters or SessionMeters()
        self._runs = RunBook(clock, {} if awaited is None else awaited, self._meters)
        self._traced = tracer is not None
        self._arrivals = Arrivals(tracer, clock)
        self._control_due = 0.0
        self._unwritten: deque[tuple[Envelope, Speaker, Entry]] = deque()
        # one object each, by which the committer and the dispatcher know what goes together
        self._on_written, self._on_done, self._on_told = self._written, self._done, self._tell_failures
        self._recovered: deque[Envelope] = deque()
        self.unburied: list[Envelope] = []

    @property
    def pending(self) -> int:
        """Accepted durable events that are not over."""
        return len(self._intake.pending)

    def principal_of(self, env: Envelope) -> Principal:
        """Return who is behind an event of this session."""
        known = self._runs.principal(env[RUN]) or self._intake.principal(env[PRODUCER])
        return known or Principal("", self._tenant)

    def run_told(self, run: str) -> None:
        """The end of a run was numbered."""
        self._runs.told(run)

    def take(self, speaker: Speaker, envelopes: Sequence[Envelope]) -> None:
        """Take client events in, in order; each gets an OK or a refusal in a later frame.

        The producer is the client id, the tenant the principal's, whatever the envelope said.
        """
        now = self._clock.now()
        for raw in envelopes:
            env = self._stamp(raw, speaker.client, now)
            if self._traced:
                env = self._arrivals.take(env, now, speaker)
            try:
                self._accept(speaker, env)
            except LanewayError as error:
                self._meters.count("event.refused", code=error.code)
                if env[TRACE]:
                    self._arrivals.refused(env, error)
                speaker.tell(refused=[[env[COUNTER], error.code, error.reason, error.message, error.retry_after_ms]])

    def _stamp(self, raw: Envelope, client: str, now: float) -> Envelope:
        run = raw[RUN]
        if not run and raw[KIND] in RUN_STARTING:
            run = f"{client}-{raw[COUNTER]}"
        _, counter, kind, _, _, _, entity, lane, deadline, trace, after, body, _ = raw
        tenant, session = self._tenant, self._session
        return (client, counter, kind, tenant, session, run, entity, lane, deadline, trace, after, body, now)

    def _accept(self, speaker: Speaker, env: Envelope) -> None:
        kind = self._kinds.require(env[KIND])
        if kind.direction == OUT:
            raise AccessError(f"{kind.name} is sent by the engine only")
        seen = self._intake.seen(env)
        if seen != "new":
            self._repeated(speaker, env, seen)
            return
        if kind.control:
            self._control(speaker, env)
            return
        if not self._committer.healthy and kind.lane is not Lane.CRITICAL:
            raise StoreUnavailable("the log cannot be written now; nothing was kept", retry_after_ms=_STORE_RETRY_MS)
        if self._recovered and kind.lane is not Lane.CRITICAL:
            raise LaneFull("what was left by a former home goes first; retry", retry_after_ms=_RECOVERY_RETRY_MS)
        (answer,) = self._dispatcher.admit_batch((env,))
        if not isinstance(answer, tuple):
            raise answer
        env = answer
        self._observe("in", (env,))
        if kind.durable:
            self._journal(speaker, env)
            return
        self._introduce(speaker)
        self._intake.mark(env)
        self._dispatcher.enqueue_batch((env,), self._on_told)
        self._ok(speaker, env, "volatile")

    def _ok(self, speaker: Speaker, env: Envelope, grade: str) -> None:
        speaker.tell(ok=[[env[COUNTER], grade]])
        if env[TRACE]:
            self._arrivals.answered(env, grade)

    def _repeated(self, speaker: Speaker, env: Envelope, seen: str) -> None:
        if seen == "unknown":
            raise PeerProtocolError(
                f"event {envelope_id(env)} is older than the dedupe window; it may have been handled",
                reason="DUPLICATE_UNKNOWN",
            )
        if seen == "mismatch":
            raise IdempotencyMismatch(
                f"run {env[RUN]!r} was asked for with another input before; give every run an id of its own"
            )
        # behind whatever is being written: the first one's fate is known by then
        self._committer.add([], lambda: self._ok(speaker, env, "duplicate"))

    def _journal(self, speaker: Speaker, env: Envelope) -> None:
        self._introduce(speaker)
        # a record goes to the committer at once: what is done in between may write records too
        entry = self._intake.accepted(env)
        if env[KIND] in RUN_STARTING:
            self._runs.begin(env, speaker.principal)
        if env[LANE] == Lane.CRITICAL:
            self._tell_written(speaker, env, [entry], "durable" if self._durable else "volatile")
            self._dispatcher.enqueue_batch((env,), self._on_done)
            return
        self._unwritten.append((env, speaker, entry))
        self._committer.add([entry], self._on_written)

    def _written(self, count: int = 1) -> None:
        """The next `count` events are in the journal: dispatch and answer them."""
        grade = "durable" if self._durable else "volatile"
        answers: dict[Speaker, list[list[object]]] = defaultdict(list)
        try:
            for _ in range(count):
                env, speaker, entry = self._unwritten.popleft()
                self._remember(env)
                if env[TRACE]:
                    self._arrivals.written(env, [entry])
                self._dispatcher.enqueue_batch((env,), self._on_done)
                answers[speaker].append([env[COUNTER], grade])
                if env[TRACE]:
                    self._arrivals.answered(env, grade)
        finally:
            for speaker, rows in answers.items():
                speaker.tell(ok=rows)

    def _introduce(self, speaker: Speaker) -> None:
        """Record who speaks, before its first event; who is merely refused leaves no trace."""
        introduction = self._intake.introduce(speaker.client, speaker.principal)
        if introduction is not None:
            self._committer.add([introduction])

    def _tell_written(self, speaker: Speaker, env: Envelope, records: Sequence[Entry], grade: str) -> None:
        """Answer a critical event: with `grade` once it is written, at once while the store is away."""

        def written() -> None:
            if env[TRACE]:
                self._arrivals.written(env, records)
            self._ok(speaker, env, grade)

        if self._committer.healthy:
            self._committer.add(records, written)
        else:
            self._committer.add(records)
            self._ok(speaker, env, "volatile")

    def _control(self, speaker: Speaker, env: Envelope) -> None:
        """Act on INTERRUPT and CANCEL at once; the record follows, the OK does not wait for it."""
        self._control_due, wait_s = _CONTROL.offer(self._control_due, self._clock.now())
        if wait_s > 0:
            raise RateLimited(
                f"more than {_CONTROL_PER_S} interrupts and cancels a second in this session; one is enough",
                retry_after_ms=math.ceil(wait_s * 1000),
            )
        self._observe("in", (env,))
        if env[KIND] == "INTERRUPT":
            self._dispatcher.cancel(self._tenant, self._session, run=env[RUN], reason="interrupted by the client")
        else:
            self._dispatcher.cancel(self._tenant, self._session, event_id=env[ENTITY], reason="cancelled by the client")
        self._introduce(speaker)
        entry, ended = self._intake.accepted(env), self._intake.ended(env)
        records = [entry] if ended is None else [entry, ended]
        self._tell_written(speaker, env, records, "durable" if self._durable else "volatile")
        self._checkpoint()

    async def starting(self, envs: Sequence[Envelope]) -> None:
        """Record deliveries about to be made; returns once a durable store has them.

        Raises Fenced if the log is another home's by now: that home decides about these events.
        """
        records = self._intake.started(envs) if self._durable else []
        if not records:
            return
        self._committer.add(records)
        if not await self._committer.flush():
            raise Fenced("another home has taken this session over; it handles what was not started")

    def recover(self, ended_runs: Container[str]) -> None:
        """Deal with what a former home left: dispatch it again, or end it with an error.

        Those that were started too often, or that nobody takes any more, are put into `unburied`.

        Args:
            ended_runs: runs whose end is in the log already.
        """
        for item in list(self._intake.pending.values()):
            env = item.env
            if env[KIND] in RUN_STARTING:
                principal = self._intake.principal(env[PRODUCER]) or Principal("", self._tenant)
                self._runs.inherit(env, principal, told=env[RUN] in ended_runs)
                if item.starts:
                    self._over(env, HOST_LOST)
                    continue
            if item.starts >= _MAX_STARTS:
                self.unburied.append(env)
            else:
                self._meters.count("event.recovered")
                self._recovered.append(env)
        self.readmit()

    def readmit(self) -> None:
        """Dispatch recovered events again, in order, as far as the dispatcher has room for them."""
        while self._recovered:
            env = self._recovered[0]
            (answer,) = self._dispatcher.admit_batch((env,))
            if isinstance(answer, (AdmissionError, LocalProtocolError)):
                return  # no room yet, or a former home's handler is still at it
            self._recovered.popleft()  # first: enqueue may end the event at once and come back here
            if isinstance(answer, tuple):
                self._dispatcher.enqueue_batch((answer,), self._on_done)
            else:
                self.unburied.append(env)

    def buried(self, env: Envelope) -> None:
        """A dead letter of this event is in the store: it is over."""
        self.unburied.remove(env)
        self._over(env, POISON)

    def release(self) -> None:
        """Nothing will be written any more: give back what was admitted and not queued."""
        for env, _, _ in self._unwritten:
            self._dispatcher.release(env)
        self._unwritten.clear()
        self._arrivals.abandon()

    def abandon(self) -> None:
        """Another home has the session: stop what runs here. Should it come back, these events are welcome again."""
        self.release()
        why = "another host has this session now"
        for name in list(self._intake.pending):
            self._dispatcher.cancel(self._tenant, self._session, event_id=name, reason=why, remember=False)

    def _done(self, ended: Sequence[Ended]) -> None:
        """The dispatcher is done with events; what it gave up is over with its dead letter."""
        for env, outcome in ended:
            if outcome is POISON and self._intake.holds(env):
                self.unburied.append(env)
            else:
                self._over(env, outcome)

    def _tell_failures(self, ended: Sequence[Ended]) -> None:
        for env, outcome in ended:
            self._tell_failure(env, outcome)

    def _over(self, env: Envelope, outcome: Outcome) -> None:
        """An event is over: tell who must know, record it, checkpoint the journal now and then."""
        if env[KIND] in RUN_STARTING:
            if self._runs.over(env, outcome):
                self._fail_run(env[RUN], outcome)
        elif outcome.status != "handled":
            self._tell_failure(env, outcome)
        entry = self._intake.ended(env)
        if entry is not None:
            self._committer.add([entry])
        self._checkpoint()
        if self._recovered:
            self.readmit()

    def _checkpoint(self) -> None:
        checkpoint = self._intake.checkpoint()
        if checkpoint is not None:
            self._committer.add([checkpoint], lambda: self._checkpointed(checkpoint.seq))

    def _checkpointed(self, seq: int) -> None:
        self.trim_below = seq

    def _tell_failure(self, env: Envelope, outcome: Outcome) -> None:
        """Tell the producer what its event came to, if it ended badly outside a run."""
        if outcome.status not in ("failed", "expired", "dropped", "dead"):
            return
        speaker = self._answer_to(env[PRODUCER])
        if speaker is not None:
            told = {"code": outcome.code, "message": outcome.message, "retryable": outcome.retryable}
            when = {} if outcome.retry_after_ms is None else {"retry_after_ms": outcome.retry_after_ms}
            speaker.tell(notice={**told, **when, "counter": env[COUNTER]})
