"""The inbound half of a session: dedupe, admit, journal, answer, dispatch, and what came of it.

Law of this file: an event is answered OK only after the step that the answer promises, and each
accepted event is over exactly once. Order: dedupe -> admit -> journal -> OK -> dispatch; a
critical event is acted on first, also when the store is away (then it is answered `volatile`).

A frame's events go through it as one batch: one admission, one record, one answer. What is rare (a run's
start, a critical or repeated event) goes by itself, in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Final

from laneway.actors.alarm import nobody
from laneway.actors.dispatch.books import Ended
from laneway.actors.dispatch.door import DispatchPort
from laneway.actors.dispatch.starts import RUN_STARTING
from laneway.actors.endings import HOST_LOST, POISON, failure, to_tell
from laneway.actors.meters import SessionMeters
from laneway.actors.ports import Clock, Entry, Outcome, Principal
from laneway.actors.sessions.arrivals import Arrivals, Speaker
from laneway.actors.sessions.committer import Committer
from laneway.actors.sessions.controls import Controls
from laneway.actors.sessions.intake import Intake, not_repeated
from laneway.actors.sessions.runbook import RunBook
from laneway.actors.sessions.stamp import framed, stamped
from laneway.actors.spans import Tracer
from laneway.routing.answers import oks
from laneway.routing.classify import OUT, KindTable
from laneway.routing.envelope import COUNTER, KIND, LANE, PRODUCER, RUN, SESSION, TENANT, Envelope, envelope_id
from laneway.routing.errors import (
    AccessError,
    AdmissionError,
    Fenced,
    LaneFull,
    LanewayError,
    LocalProtocolError,
    StoreUnavailable,
)
from laneway.routing.frame import FEWEST
from laneway.routing.headers import refused
from laneway.routing.lanes import Lane

__all__ = ["Ingress"]

_COUNTER, _KIND = map(itemgetter, (COUNTER, KIND))
_MAX_STARTS: Final = 3
"""Handler starts (each but the last ended in a crash) before an event is dead-lettered."""
_STORE_RETRY_MS: Final = 1000
_RECOVERY_RETRY_MS: Final = 200


class Ingress:
    """Takes client events of one session in.

    Args:
        intake: journal bookkeeping, restored by the owner before the first event.
        durable: whether the store survives kill -9: what an OK may promise.
        fail_run: tells the session that a run ended without having told so itself.
        remember: called with journalled events, for the transcript.
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
        remember: Callable[[Sequence[Envelope]], None],
        answer_to: Callable[[str], Speaker | None],
        observe: Callable[[str, Sequence[Envelope]], None],
        awaited: dict[str, float] | None = None,
        meters: SessionMeters | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.trim_below = 0
        self._tenant, self._session, self._intake, self._committer = tenant, session, intake, committer
        self._dispatcher, self._kinds, self._clock, self._durable = dispatcher, kinds, clock, durable
        self._grade = "durable" if durable else "volatile"
        self._fail_run, self._remember, self._answer_to, self._observe = fail_run, remember, answer_to, observe
        self._meters = meters or SessionMeters()
        self._runs = RunBook(clock, {} if awaited is None else awaited, self._meters)
        self._traced, self._arrivals = tracer is not None, Arrivals(tracer, clock)
        self._controls = Controls(dispatcher, tenant, session, clock)
        self._unwritten: list[tuple[Speaker, Sequence[Envelope], Sequence[Entry]]] = []
        # one object each, by which the dispatcher knows what goes together
        self._on_done, self._on_told = self._done, self._tell_failures
        self._recovered: list[Envelope] = []
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
        """Take client events in, in order; each gets an OK or a refusal in a later frame."""
        now, client, plain, traced = self._clock.now(), speaker.client, self._kinds.plain, self._traced
        newest, whose = self._intake.newest(client), (client, self._tenant, self._session)
        self._dispatcher.introduce(self._tenant, self._session, client, speaker.principal.subject)
        if len(envelopes) >= FEWEST and (frame := framed(envelopes, *whose, now, plain, newest)) is not None:
            self._take_batch(speaker, [self._arrivals.take(env, now, speaker) for env in frame] if traced else frame)
            return
        batch: list[Envelope] = []
        for env in stamped(envelopes, *whose, now):
            if traced:
                env = self._arrivals.take(env, now, speaker)
            if env[1] > newest:
                newest = env[1]
                if env[2] in plain and env[2] not in RUN_STARTING:
                    batch.append(env)
                    continue
            if batch:
                self._take_batch(speaker, batch)
                batch = []
            self._take_one(speaker, env)
        if batch:
            self._take_batch(speaker, batch)

    def _take_batch(self, speaker: Speaker, envs: Sequence[Envelope]) -> None:
        """Take plain events that are new, in the order of their counters."""
        if self._recovered or not self._committer.healthy:
            for env in envs:
                self._take_one(speaker, env)
            return
        answers = self._dispatcher.admit_batch(envs)
        admitted = envs if answers is envs else [answer for answer in answers if type(answer) is tuple]
        if len(admitted) < len(answers):
            told = zip(envs, answers, strict=True)
            self._refuse(speaker, [(env, answer) for env, answer in told if isinstance(answer, LanewayError)])
        if not admitted:
            return
        self._observe("in", admitted)
        volatile = self._kinds.volatile
        if volatile.isdisjoint(map(_KIND, admitted)):
            self._journal(speaker, admitted)
            return
        for passing, some in groupby(admitted, lambda env: env[2] in volatile):
            (self._pass if passing else self._journal)(speaker, list(some))

    def _take_one(self, speaker: Speaker, env: Envelope) -> None:
        try:
            self._accept(speaker, env)
        except LanewayError as error:
            self._refuse(speaker, ((env, error),))

    def _refuse(self, speaker: Speaker, refusals: Sequence[tuple[Envelope, LanewayError]]) -> None:
        """Tell that events are not taken: one row for all that share an error."""
        for counters, code, *_ in (rows := refused(refusals)):
            self._meters.count("event.refused", len(counters), code=code)
        for env, error in [each for each in refusals if each[0][9]]:
            self._arrivals.refused(env, error)
        speaker.tell(refused=rows)

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
            self._journal(speaker, (env,))
            return
        self._pass(speaker, (env,))

    def _pass(self, speaker: Speaker, envs: Sequence[Envelope]) -> None:
        """Dispatch and answer admitted events that are not written down."""
        self._introduce(speaker)
        for env in envs:
            self._intake.mark(env)
        self._dispatcher.enqueue_batch(envs, self._on_told)
        speaker.tell(ok=oks([env[1] for env in envs], "volatile"))
        for env in [env for env in envs if env[9]]:
            self._arrivals.answered(env, "volatile")

    def _ok(self, speaker: Speaker, env: Envelope, grade: str) -> None:
        speaker.tell(ok=[[env[COUNTER], 1, grade]])
        if env[9]:
            self._arrivals.answered(env, grade)

    def _repeated(self, speaker: Speaker, env: Envelope, seen: str) -> None:
        if seen != "duplicate":
            raise not_repeated(env, seen)
        # behind whatever is being written: the first one's fate is known by then
        self._committer.add([], lambda: self._ok(speaker, env, "duplicate"))

    def _journal(self, speaker: Speaker, envs: Sequence[Envelope]) -> None:
        """Note admitted events and see that they go on; several are plain ones."""
        self._introduce(speaker)
        # records go to the committer at once: what is done in between may write records too
        entries, first = self._intake.accepted(envs), envs[0]
        if first[KIND] in RUN_STARTING:
            self._runs.begin(first, speaker.principal)
        if first[LANE] == Lane.CRITICAL:
            self._tell_written(speaker, first, entries, self._grade)
            self._dispatcher.enqueue_batch(envs, self._on_done)
        elif entries:
            self._unwritten.append((speaker, envs, entries))
            self._committer.add(entries, self._written)
        else:
            self._enter(speaker, envs, entries)

    def _written(self) -> None:
        """The next batch is in the journal."""
        self._enter(*self._unwritten.pop(0))

    def _enter(self, speaker: Speaker, envs: Sequence[Envelope], entries: Sequence[Entry]) -> None:
        """Dispatch and answer what was noted."""
        grade, traced = self._grade, [env for env in envs if env[9]] if self._traced else []
        self._remember(envs)
        for env in traced:
            self._arrivals.written(env, entries, len(envs))
        self._dispatcher.enqueue_batch(envs, self._on_done)
        speaker.tell(ok=oks(list(map(_COUNTER, envs)), grade))
        for env in traced:
            self._arrivals.answered(env, grade)

    def _introduce(self, speaker: Speaker) -> None:
        """Record who speaks, before its first event; who is merely refused leaves no trace."""
        introduction = self._intake.introduce(speaker.client, speaker.principal)
        if introduction is not None:
            self._committer.add([introduction])

    def _tell_written(self, speaker: Speaker, env: Envelope, records: Sequence[Entry], grade: str) -> None:
        """Answer a critical event: with `grade` once it is written, at once while the store is away."""

        def written() -> None:
            if env[9]:
                self._arrivals.written(env, records)
            self._ok(speaker, env, grade)

        if self._committer.healthy:
            self._committer.add(records, written)
        else:
            self._committer.add(records)
            self._ok(speaker, env, "volatile")

    def _control(self, speaker: Speaker, env: Envelope) -> None:
        """Act on INTERRUPT and CANCEL at once; the record follows, the OK does not wait for it."""
        self._controls.police()
        self._observe("in", (env,))
        self._controls.act(env)
        self._introduce(speaker)
        records, ended = self._intake.accepted((env,)), self._intake.ended((env,))
        self._tell_written(speaker, env, records if ended is None else [*records, ended], self._grade)
        self._checkpoint()

    async def starting(self, envs: Sequence[Envelope]) -> None:
        """Record deliveries about to be made; returns once a durable store has them.

        Raises Fenced if the log is another home's by now: that home decides about these events.
        """
        if (record := self._intake.started(envs) if self._durable else None) is None:
            return
        self._committer.add([record])
        if not await self._committer.flush():
            raise Fenced("another home has taken this session over; it handles what was not started")

    def recover(self, ended_runs: Container[str]) -> None:
        """Deal with what a former home left: dispatch it again, or end it with an error.

        Those that were started too often, or that nobody takes any more, are put into `unburied`.

        Args:
            ended_runs: runs whose end is in the log already.
        """
        for key, env in list(self._intake.pending.items()):
            deliveries = self._intake.deliveries.get(key, 0)
            if env[KIND] in RUN_STARTING:
                principal = self._intake.principal(env[PRODUCER]) or Principal("", self._tenant)
                self._runs.inherit(env, principal, told=env[RUN] in ended_runs)
                if deliveries:
                    self._over([(env, HOST_LOST)])
                    continue
            if deliveries >= _MAX_STARTS:
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
            self._recovered.pop(0)  # first: enqueue may end the event at once and come back here
            if isinstance(answer, tuple):
                self._dispatcher.enqueue_batch((answer,), self._on_done)
            else:
                self.unburied.append(env)

    def buried(self, env: Envelope) -> None:
        """A dead letter of this event is in the store: it is over."""
        self.unburied.remove(env)
        self._over([(env, POISON)])

    def release(self) -> None:
        """Nothing will be written any more: give back what was admitted and not queued."""
        for _, envs, _ in self._unwritten:
            for env in envs:
                self._dispatcher.release(env)
        self._unwritten.clear()
        self._arrivals.abandon()

    def abandon(self) -> None:
        """Another home has the session: stop what runs here. Should it come back, these events are welcome again."""
        self.release()
        why = "another host has this session now"
        for env in list(self._intake.pending.values()):
            self._dispatcher.cancel(env[TENANT], env[SESSION], event_id=envelope_id(env), reason=why, remember=False)

    def rest(self) -> None:
        """The home goes to sleep: note for the next one what is not in the journal already."""
        if (record := self._intake.rest()) is not None:
            self._committer.add([record])

    def let_go(self) -> None:
        """Nobody asks any more: it forgets whom it would tell."""
        self._fail_run = self._remember = self._answer_to = self._on_done = self._on_told = nobody

    def _done(self, ended: Sequence[Ended]) -> None:
        """The dispatcher is done with events; what it gave up is over with its dead letter."""
        given_up = [env for env, outcome in ended if outcome is POISON and self._intake.holds(env)]
        if given_up:
            self.unburied += given_up
            ended = [pair for pair in ended if pair[0] not in given_up]
        self._over(ended)

    def _over(self, ended: Sequence[Ended]) -> None:
        """Events are over: tell who must know, record it, checkpoint the journal now and then."""
        for env, outcome in ended:
            if env[2] in RUN_STARTING:
                if self._runs.over(env, outcome):
                    self._fail_run(env[RUN], outcome)
            elif outcome[0] != "handled":
                self._tell_failures([(env, outcome)])
        if (record := self._intake.ended([env for env, _ in ended])) is not None:
            self._committer.add([record])
        self._checkpoint()
        if self._recovered:
            self.readmit()

    def _checkpoint(self) -> None:
        if (checkpoint := self._intake.checkpoint()) is not None:
            self._committer.add([checkpoint], lambda: self._checkpointed(checkpoint.seq))

    def _checkpointed(self, seq: int) -> None:
        self.trim_below = seq

    def _tell_failures(self, ended: Sequence[Ended]) -> None:
        """Tell producers what their events came to, if they ended badly outside a run."""
        for env, outcome in ended:
            speaker = self._answer_to(env[PRODUCER]) if to_tell(outcome) else None
            if speaker is not None:
                speaker.tell(notice=failure(outcome, env[COUNTER]))
