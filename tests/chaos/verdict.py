"""What became of one round: everybody's notes against each other.

Law of this file: it adds to the checker of the simulation only what that one cannot know: deeds of other
processes. What was accepted happened at least once and is told to who asked; an effect that must not happen
twice does not begin twice; who did a job again had lost a host before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgpack

from laneway.actors.ports import Outcome, Store
from laneway.actors.sessions.intake import INBOUND, Intake
from laneway.actors.sessions.session import session_key
from laneway.engine.codec import pack_envelope, unpack_envelope
from laneway.routing.classify import KindTable
from laneway.routing.envelope import BODY, ENTITY, KIND, RUN, Envelope, envelope_id
from tests.chaos.ledger import Deed, Ledger
from tests.chaos.people import TENANT, Caller
from tests.redis_server import RedisServer
from tests.simulation.history import DATA, TERMINAL, URGENT, Ended, History, Log, Started, check

__all__ = ["Kept", "Verdict", "judge", "read_log"]


@dataclass(frozen=True, slots=True)
class Kept:
    """One session as its store has it: the log, and the ids of what was accepted, in that order."""

    session: str
    log: Log
    accepted: Sequence[str]


@dataclass(slots=True)
class Verdict:
    """Counts and contradictions of a round.

    Attributes:
        accepted: events that got an OK. delivered: items that applications read.
        lost: accepted, and without deed, answer or end. twice: deeds, ids or ends that must be one, and are not.
        repeated: jobs that were done again. outcomes: how runs ended. violations: every contradiction.
    """

    accepted: int = 0
    delivered: int = 0
    lost: int = 0
    twice: int = 0
    repeated: int = 0
    clients: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    welcomes: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def is_lost(self, what: str) -> None:
        self.lost += 1
        self.violations.append(f"lost: {what}")

    def is_twice(self, what: str) -> None:
        self.twice += 1
        self.violations.append(f"twice: {what}")


def judge(
    callers: Sequence[Caller], kept: Sequence[Kept], ledger: Ledger, kinds: KindTable, *, excused: bool
) -> Verdict:
    """Compare.

    Args:
        kept: the sessions, read back from the store. excused: hosts were lost, so that jobs may be done again.
    """
    verdict = Verdict(clients=len(callers))
    history = History(logs={(TENANT, each.session): each.log for each in kept})
    for caller in callers:
        history.sent += caller.sent
        history.refusals += caller.notes.refused
        history.segments += caller.notes.segments
        verdict.welcomes += caller.notes.welcomes
        verdict.accepted += sum(1 for sent in caller.sent if sent.status)
        verdict.delivered += sum(len(segment.items) for segment in caller.notes.segments)
        _check_reading(caller, history.logs[TENANT, caller.session], verdict)
    _add_deeds(history, ledger, [name for each in kept for name in each.accepted])
    verdict.violations += check(history, kinds)
    _check_jobs(history, ledger, verdict, excused=excused)
    for (_, session), log in history.logs.items():
        _check_tools(log, ledger, verdict)
        _check_ids(session, log, verdict)
        verdict.outcomes += _ends(log, verdict)
    return verdict


async def read_log(store: Store, redis: RedisServer, session: str, kinds: KindTable) -> Kept:
    """Read one session's log back."""
    key = session_key(TENANT, session)
    streams: list[list[tuple[int, int, Envelope]]] = []
    for stream in (URGENT, DATA):
        found: list[tuple[int, int, Envelope]] = []
        while page := await store.read(key, stream, len(found) + 1):
            found += [(entry.seq, entry.position, unpack_envelope(entry.blob, 0.0, kinds)) for entry in page]
        streams.append(found)
    intake = Intake(TENANT, lambda env: pack_envelope(env, 0.0, kinds), lambda blob: unpack_envelope(blob, 0.0, kinds))
    accepted: list[str] = []
    first = 1
    while page := await store.read(key, INBOUND, first):
        intake.restore(page)
        records = (entry.blob[1:] for entry in page if entry.blob[:1] == b"A")
        taken = (packed for record in records for packed in msgpack.unpackb(record))
        accepted += (envelope_id(unpack_envelope(packed, 0.0, kinds)) for packed in taken)
        first = page[-1].seq + 1
    epoch = redis.command("HGET", f"laneway:{{{key}}}", "epoch").split(b"\r\n")[1].decode()
    return Kept(
        session,
        Log(epoch, (streams[URGENT], streams[DATA]), [envelope_id(env) for env in intake.pending.values()]),
        accepted,
    )


def _check_reading(caller: Caller, log: Log, verdict: Verdict) -> None:
    heads = tuple(len(stream) for stream in log.streams)
    if caller.client.cursor[1:3] != heads:
        verdict.is_lost(f"{caller.name} has read up to {caller.client.cursor[1:3]}, the log goes up to {heads}")


def _add_deeds(history: History, ledger: Ledger, accepted: Sequence[str]) -> None:
    """Tell the checker of jobs: what was done has ended; who begins again does so in another life."""
    jobs = {sent.id: sent.env for sent in history.sent if sent.env[KIND] == "JOB" and sent.status}
    place = {name: number for number, name in enumerate(accepted)}
    for name in sorted(jobs, key=lambda name: place.get(name, -1)):  # the store forgets the oldest first
        lives = range(max(1, len(ledger.by["job-begun"].get(name, ()))))
        history.enqueued += (Started(life, "work", jobs[name]) for life in lives)
        if ledger.by["job-done"].get(name):
            history.ended.append(Ended(0, jobs[name], Outcome("handled")))
    times: Counter[str] = Counter()
    for deed in ledger.deeds:
        if deed.what == "job-begun" and deed.key in jobs:
            history.started.append(Started(times[deed.key], "work", jobs[deed.key]))
            times[deed.key] += 1


def _check_jobs(history: History, ledger: Ledger, verdict: Verdict, *, excused: bool) -> None:
    told = {env[ENTITY] for log in history.logs.values() for _, _, env in log.streams[DATA] if env[KIND] == "CUSTOM"}
    for sent in history.sent:
        if sent.env[KIND] != "JOB":
            continue
        begun: Sequence[Deed] = ledger.by["job-begun"].get(sent.id, ())
        if sent.status and not ledger.by["job-done"].get(sent.id):
            verdict.is_lost(f"{sent.id} was accepted ({sent.status}) and never done")
        elif sent.status and sent.env[ENTITY] not in told:
            verdict.is_lost(f"{sent.id} was done, and its answer is nowhere")
        if len(begun) > 1:
            verdict.repeated += 1
            if not excused:
                where = [(deed.pid, round(deed.at, 3)) for deed in begun]
                verdict.is_twice(f"{sent.id} was begun {len(begun)} times, and no host was lost: {where}")


def _check_tools(log: Log, ledger: Ledger, verdict: Verdict) -> None:
    calls = {env[ENTITY] for _, _, env in log.streams[DATA] if env[KIND] == "TOOL_CALL_START"}
    for call in calls:
        begun = len(ledger.by["tool-begun"].get(call, ()))
        if begun > 1:
            verdict.is_twice(f"tool call {call} began {begun} times")
    for _, _, env in log.streams[DATA]:
        if env[KIND] == "TOOL_CALL_RESULT" and b"fair, for" in env[BODY]:
            done = len(ledger.by["tool-done"].get(env[ENTITY], ()))
            if done != 1:
                verdict.violations.append(
                    f"the result of tool call {env[ENTITY]} was told, and it was done {done} times"
                )


def _check_ids(session: str, log: Log, verdict: Verdict) -> None:
    ids = Counter(envelope_id(env) for stream in log.streams for _, _, env in stream)
    for name, count in ids.items():
        if count > 1:
            verdict.is_twice(f"{session} has {count} events of id {name}")


def _ends(log: Log, verdict: Verdict) -> Counter[str]:
    ends: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    for env in _terminal(log):
        ends[env[RUN]] += 1
        outcomes["FINISHED" if env[KIND] == "RUN_FINISHED" else str(msgpack.unpackb(env[BODY]).get("code"))] += 1
    for run, count in ends.items():
        if count > 1:
            verdict.is_twice(f"run {run} has {count} ends")
    return outcomes


def _terminal(log: Log) -> Iterator[Envelope]:
    return (env for stream in log.streams for _, _, env in stream if env[KIND] in TERMINAL)
