"""The home of a session: the one place that may number, log and fan out its events.

Law of this file: everything a session promises is decided here, by one owner, in one order:
`ingress.py` takes events in, `outbound.py` numbers and logs what goes out, `links.py` says who
reads it. The home is fenced: when another home claims its log it stops writing, ends its links
with NOT_OWNER, and is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgpack

from laneway.actors.dispatch.door import DispatchPort
from laneway.actors.meters import SessionMeters
from laneway.actors.packer import LogPacker, Packer
from laneway.actors.ports import Claim, Clock, Outcome, Principal, Store
from laneway.actors.sessions import retention
from laneway.actors.sessions.arrivals import Speaker
from laneway.actors.sessions.attachment import Attachment
from laneway.actors.sessions.census import SessionStatistics
from laneway.actors.sessions.committer import Committer, read_back
from laneway.actors.sessions.ingress import Ingress
from laneway.actors.sessions.intake import INBOUND, Intake
from laneway.actors.sessions.links import Links
from laneway.actors.sessions.outbound import DATA, RUN_ENDS, URGENT, Outbound
from laneway.actors.sessions.stretches import Stretches
from laneway.actors.sessions.transcript import FOLDED
from laneway.actors.spans import SpanValue, Tracer
from laneway.routing.classify import KindTable
from laneway.routing.envelope import KIND, RUN, Envelope, envelope
from laneway.routing.errors import Fenced, LanewayError, Paused
from laneway.routing.handshake import Hello, LinkPolicy
from laneway.routing.lanes import Lane
from laneway.routing.shedding import Shedding

__all__ = ["SessionHome", "SessionPolicy", "session_key"]

_MADE_BITS: Final = 32
"""Events of its own that one home may make: ids of a later home begin beyond them."""


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """Bounds of one session.

    Attributes:
        ring_events, ring_bytes: what each stream keeps in memory for links and resume.
        budget_bytes: how far an unread session runs ahead of its last ack.
        spill_bytes: how far a run that does not pause goes on unread, into the log; only the budget if
            that is in this process's memory.
        stall_s: how long a run waits for somebody to read, before it ends (SLOW_CONSUMER) and frees
            its slot for others.
        retention_bytes: how much of each outbound log the store keeps, beside what nobody has read.
        idle_s: a home without links, work or traffic for this long is put to sleep.
        max_links: live links of one session.
        runs: newest runs whose ids (an id starts one run) and, 64 at most, whose questions are remembered.
        checkpoint_records: inbound journal records between two checkpoints, which bound its length.
        link: what links are offered in the handshake.
    """

    ring_events: int = 1000
    ring_bytes: int = 262_144
    budget_bytes: int = 262_144
    spill_bytes: int = 16_777_216
    stall_s: float = 120.0
    retention_bytes: int = 16_777_216
    idle_s: float = 120.0
    max_links: int = 64
    runs: int = 512
    checkpoint_records: int = 2048
    link: LinkPolicy = field(default_factory=LinkPolicy)


def session_key(tenant: str, session: str) -> str:
    """Return the key of a session's log."""
    return f"{tenant}/session/{session}"


class SessionHome:
    """One session. Made by the directory, which claims the log first, then calls `restore` and `recover`.

    Args:
        tenant, name: which session.
        claim: the right to write its log.
        link_ids: fresh ids for links.
        on_gone: called once when the home must be forgotten (fenced).
        observe: called with ("in" | "out", events) for events taken in or numbered.
        meters: what is counted and measured.
        tracer: spans of sampled events, or None. shedding: has the level of overload.
    """

    def __init__(
        self,
        tenant: str,
        name: str,
        claim: Claim,
        *,
        store: Store,
        dispatcher: DispatchPort,
        clock: Clock,
        kinds: KindTable,
        packer: Packer,
        policy: SessionPolicy,
        link_ids: Callable[[], str],
        on_gone: Callable[[SessionHome], None],
        observe: Callable[[str, Sequence[Envelope]], None],
        meters: SessionMeters | None = None,
        tracer: Tracer | None = None,
        shedding: Shedding | None = None,
    ) -> None:
        self.tenant = tenant
        self.name = name
        self.epoch = claim.epoch
        self._policy = policy
        self._store = store
        self._clock = clock
        self._log = LogPacker(packer, clock)
        self._on_gone = on_gone
        self._observe = observe
        self._touched = clock.now()
        self._floors = dict(claim.floors)
        self._made = claim.generation << _MADE_BITS  # no other home of this session gives the same ids
        self._ended_runs: list[str] = []
        self._meters = meters or SessionMeters()
        self._committer = Committer(store, claim, clock=clock, on_fenced=self._fenced, meters=self._meters)
        journals = not self._committer.keeps
        self._intake = Intake(
            tenant, self._log.pack, self._log.unpack, policy.checkpoint_records, journals=journals, runs=policy.runs
        )
        self._stretches = Stretches(tracer, clock, name) if tracer is not None else None
        self._shedding = shedding
        self.outbound = self._make_outbound(policy, kinds)
        self.links = self._make_links(kinds, policy, link_ids)
        self.ingress = Ingress(
            tenant,
            name,
            intake=self._intake,
            committer=self._committer,
            dispatcher=dispatcher,
            kinds=kinds,
            clock=clock,
            durable=store.durable,
            fail_run=self._fail_run,
            remember=self._remember,
            answer_to=self.links.get,
            observe=observe,
            awaited=self.outbound.awaited,
            meters=self._meters,
            tracer=tracer,
        )

    def _make_links(self, kinds: KindTable, policy: SessionPolicy, link_ids: Callable[[], str]) -> Links:
        return Links(
            self.outbound,
            session=self.name,
            epoch=self.epoch,
            floors=self._floors,
            kinds=kinds,
            clock=self._clock,
            policy=policy.link,
            max_links=policy.max_links,
            link_ids=link_ids,
            begins=self._intake.starts.place,
            run_over=self._intake.run_over,
            meters=self._meters,
            stretches=self._stretches,
            shedding=self._shedding,
        )

    def _make_outbound(self, policy: SessionPolicy, kinds: KindTable) -> Outbound:
        return Outbound(
            self._committer,
            self._log.pack,
            self._clock,
            ring_events=policy.ring_events,
            ring_bytes=policy.ring_bytes,
            budget_bytes=policy.budget_bytes,
            spill_bytes=policy.spill_bytes if self._store.durable or self._store.shared else 0,
            stall_s=policy.stall_s,
            on_commit=lambda: self.links.wake(),
            on_stir=lambda: self.links.rouse(),
            on_number=self._numbered,
            on_end=lambda run: self.ingress.run_told(run),
            meters=self._meters,
            stretches=self._stretches,
            shedding=self._shedding,
            kinds=kinds,
        )

    async def restore(self, claim: Claim) -> None:
        """Rebuild from the log; nothing is acted on before `recover`."""
        floor, last = claim.floors.get(INBOUND, 1), claim.heads.get(INBOUND, (0, 0))[0]
        self._intake.restore(await read_back(self._store, claim.key, INBOUND, floor, last))
        said = dict(self._intake.said)
        for stream in (URGENT, DATA):
            head = claim.heads.get(stream, (0, 0))
            first = max(claim.floors.get(stream, 1), head[0] - self._policy.ring_events + 1)
            entries = await read_back(self._store, claim.key, stream, first, head[0])
            tail = [(entry.seq, entry.position, self._log.unpack(entry.blob)) for entry in entries]
            self.outbound.restore(stream, tail, head)
            for seq, _, env in tail:
                self._retell(seq, env, said)
        for env in self._intake.pending.values():
            if env[RUN] in said:
                self.outbound.transcript.fold(env)
        self.ingress.trim_below = self._intake.covered

    def _retell(self, seq: int, env: Envelope, said: dict[str, Envelope]) -> None:
        """Fold an event of the log; a user's message goes before the run it started."""
        if env[KIND] == "RUN_STARTED":
            self._intake.starts.begin(env[RUN], self.outbound.rings[URGENT].first - 1, seq - 1)
        if env[KIND] in RUN_ENDS:
            self._ended_runs.append(env[RUN])
        question = said.pop(env[RUN], None) if env[RUN] else None
        if question is not None:
            self.outbound.transcript.fold(question)
        self.outbound.transcript.fold(env)

    def recover(self) -> None:
        """Take up what a former home left unfinished; `ingress.unburied` is then for the directory."""
        ended, self._ended_runs = set(self._ended_runs), []
        for env in self._intake.pending.values():
            self._begin(env)
        self.ingress.recover(ended)

    # -- what attachments ask -----------------------------------------------------------------

    @property
    def healthy(self) -> bool:
        """False while its log cannot be written."""
        return self._committer.healthy

    def attach(self, hello: Hello, principal: Principal, origin: Mapping[str, SpanValue] = {}) -> Attachment:
        """Add a link; see `Links.attach` for what it raises."""
        self._touched = self._clock.now()
        return self.links.attach(self, hello, principal, origin)

    async def holds(self) -> bool:
        """Ask the store whether this home still owns the session. Raises StoreError."""
        return await self._committer.holds()

    def ingest(self, speaker: Speaker, envelopes: Sequence[Envelope]) -> None:
        """Take events in, in order; answers come through `speaker.tell`."""
        self._touched = self._clock.now()
        self.ingress.take(speaker, envelopes)

    def moved(self, attachment: Attachment) -> None:
        """Acks, grants or the position of a link moved."""
        self.links.moved(attachment)

    def detached(self, attachment: Attachment) -> None:
        """A link is over; the session and its runs go on."""
        self._touched = self._clock.now()
        self.links.remove(attachment)

    async def read_log(self, stream: int, first: int) -> list[tuple[int, int, Envelope]]:
        """Read numbered events from the store for a link that is behind the ring."""
        entries = await self._store.read(self._committer.claim.key, stream, first)
        return [(entry.seq, entry.position, self._log.unpack(entry.blob)) for entry in entries]

    def over(self, producer: str, counter: int) -> bool:
        """Whether an event was accepted and is over; False for one older than the dedupe window."""
        return self._intake.over(producer, counter)

    # -- outbound -----------------------------------------------------------------------------

    def _numbered(self, envs: Sequence[Envelope]) -> None:
        self._touched = self._clock.now()
        self._observe("out", envs)

    def messages(self) -> list[dict[str, Any]]:
        """Return the session's AG-UI messages, oldest first."""
        return self.outbound.transcript.messages()

    def snapshot(self) -> Envelope:
        """Return the event that tells a link which does not resume what was said so far."""
        return self._own("MESSAGES_SNAPSHOT", Lane.NORMAL, msgpack.packb({"messages": self.messages()}))

    def _remember(self, envs: Sequence[Envelope]) -> None:
        """Take note of events that are in the journal and about to be dispatched."""
        for env in envs:
            if env[2] in FOLDED:
                self.outbound.transcript.fold(env)
            if env[5]:
                self._begin(env)

    def _begin(self, env: Envelope) -> None:
        """Whatever a run says comes after this place."""
        urgent, data = self.outbound.rings
        self._intake.starts.begin(env[RUN], urgent.head, data.head)

    def _fail_run(self, run: str, outcome: Outcome) -> None:
        if self.outbound.error is not None:
            return  # the log is another home's, and so is the end of this run
        body = {"message": outcome.message, "code": outcome.code, "metadata": {"retryable": outcome.retryable}}
        if outcome.code == Paused.code:  # who reads on gets what was said first
            self.outbound.emit_last(self._own("RUN_ERROR", Lane.NORMAL, msgpack.packb(body), run))
        else:
            self.outbound.emit_urgent(self._own("RUN_ERROR", Lane.CRITICAL, msgpack.packb(body), run))

    def _own(self, kind: str, lane: Lane, body: bytes, run: str = "") -> Envelope:
        self._made += 1
        return envelope(
            kind,
            producer="engine/session",
            counter=self._made,
            tenant=self.tenant,
            session=self.name,
            lane=lane,
            run=run,
            body=body,
            accepted=self._clock.now(),
        )

    # -- life ---------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """True if nothing would be lost by putting the home to sleep now."""
        quiet = not len(self.links) and not self.ingress.pending and not self.outbound.paused
        return quiet and self._clock.now() - self._touched >= self._policy.idle_s

    def statistics(self) -> SessionStatistics:
        """Return the gauges of this moment."""
        gapped, merged, conflated = self.links.thinned()
        return SessionStatistics(
            links=len(self.links),
            pending=self.ingress.pending,
            paused=self.outbound.paused,
            issued_urgent=self.outbound.issued[URGENT],
            issued_data=self.outbound.issued[DATA],
            commit_backlog_bytes=self._committer.backlog_bytes,
            failing=not self._committer.healthy,
            gapped=gapped,
            merged=merged,
            conflated=conflated,
            grades=self.links.grades(),
        )

    async def maintain(self) -> None:
        """Trim the logs to their retention; the directory calls it now and then."""
        self.ingress.readmit()
        if self._stretches is not None:
            self._stretches.sweep()
        claim = self._committer.claim
        if self.ingress.trim_below:
            below, self.ingress.trim_below = self.ingress.trim_below, 0
            await self._store.trim(claim, INBOUND, below)
        kept = self._policy.retention_bytes
        await retention.trim(self._store, claim, self.outbound, self._floors, retention_bytes=kept)

    async def flush(self) -> None:
        """Return when everything emitted so far is in the store."""
        self.outbound.flush()
        await self._committer.flush()

    async def finish(self) -> None:
        """Write what is left; from then on nothing is written. `close` follows."""
        self.outbound.flush()
        self.ingress.rest()
        await self._committer.close()

    def give_up(self, error: Fenced) -> None:
        """Write nothing more, as if another home had the log by now: links end with `error`, runs are cancelled."""
        self._committer.give_up(error)

    def close(self, error: LanewayError) -> None:
        """Stop; links send what is due, then end with `error`."""
        self.outbound.fail(error)
        self.links.end(error)
        self.ingress.release()
        if self._stretches is not None:
            self._stretches.close()

    def let_go(self) -> None:
        """Nobody finds this home any more: it goes now, all of it, and not when garbage is collected some day.

        Its parts hold it by what they call, and each other; from here on they call nobody.
        """
        self._committer.let_go()
        self.outbound.let_go()
        self.ingress.let_go()
        self._intake.said.clear()

    def _fenced(self, error: Fenced) -> None:
        """Another home has the log: what runs here must not speak for the session any more."""
        self.outbound.fail(error)
        self.links.end(error)
        self._on_gone(self)
        self.ingress.abandon()
