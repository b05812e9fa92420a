"""What everybody saw, and whether it adds up: a linear-time checker over the logs of all parties.

Law of this file: the checker trusts nobody. It compares what producers were answered, what handlers
were given, what the disk holds and what each client got, and it returns every contradiction as a
sentence. It knows the promises of the ADRs and nothing of how they are kept.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import msgpack

from laneway.actors.ports import Outcome
from laneway.routing.classify import BUILTIN_KINDS, KindTable
from laneway.routing.envelope import BODY, COUNTER, ENTITY, KIND, LANE, PRODUCER, RUN, SESSION, TENANT, Envelope
from laneway.routing.inbox import SNAPSHOT, Received
from laneway.routing.lanes import Lane
from laneway.routing.replay import SEQ_COST_BYTES, Numbered
from tests.simulation.conservation import accounts
from tests.simulation.script import Step, script

__all__ = ["DATA", "URGENT", "Ended", "History", "Log", "Segment", "Sent", "Started", "check"]

URGENT: Final = 0
DATA: Final = 1
TERMINAL: Final = frozenset({"RUN_FINISHED", "RUN_ERROR"})
_TEXT: Final = frozenset(kind.name for kind in BUILTIN_KINDS if kind.text)
_DROPPABLE: Final = frozenset(kind.name for kind in BUILTIN_KINDS if kind.droppable)

Home: TypeAlias = tuple[str, str]


@dataclass(slots=True)
class Sent:
    """An event that a client sent, and what it was told."""

    tenant: str
    session: str
    env: Envelope
    status: str = ""
    refusal: str = ""
    answered_s: float = 0.0

    @property
    def id(self) -> str:
        """``client:counter``."""
        return f"{self.env[PRODUCER]}:{self.env[COUNTER]}"

    @property
    def run(self) -> str:
        """Run it starts or names."""
        return self.env[RUN]


@dataclass(frozen=True, slots=True)
class Started:
    """A handler was given an event, in this life of the engine; `at` orders these among each other."""

    life: int
    pool: str
    env: Envelope
    at: int = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """The dispatcher said how an event ended, in this life of the engine."""

    life: int
    env: Envelope
    outcome: Outcome


@dataclass(slots=True)
class Segment:
    """What one client got between two fresh starts; `start` = (urgent, data) seqs it began after."""

    tenant: str
    session: str
    client: str
    epoch: str
    start: tuple[int, int]
    items: list[Received] = field(default_factory=list)
    voided: int = 0


@dataclass(slots=True)
class Log:
    """What the disk holds of one session."""

    epoch: str
    streams: tuple[list[Numbered], list[Numbered]]
    unfinished: list[str] = field(default_factory=list)
    """Ids of journalled events without an end."""

    @property
    def paused(self) -> int:
        """Runs whose models were let go, because nobody read them."""
        return sum(_is_paused([(env[KIND], env[ENTITY], env[BODY])]) for _, _, env in self.streams[DATA])


@dataclass(slots=True)
class History:
    """Everything the parties reported."""

    sent: list[Sent] = field(default_factory=list)
    enqueued: list[Started] = field(default_factory=list)
    started: list[Started] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    logs: dict[Home, Log] = field(default_factory=dict)
    buried: set[tuple[str, str, str]] = field(default_factory=set)
    """(tenant, session, event id) of dead letters."""
    violations: list[str] = field(default_factory=list)
    """What was wrong while it ran."""
    welcomes: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    notices: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    effects: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(tenant, session, call) -> how often the tool began to do it."""
    writers: dict[str, list[int]] = field(default_factory=dict)
    """log key -> generations that wrote it, in the order of their first writes."""
    past: dict[tuple[Home, str], Log] = field(default_factory=dict)
    """(home, epoch) -> what the disk held when the power failed, of epochs that are over."""
    blackouts: list[tuple[float, float]] = field(default_factory=list)
    """(from, to) of times whose writes were lost although they had been told as written."""
    store_failed: bool = False
    """The engine may have refused events, and the refusals may have been lost on the way."""
    left_out: int = 0
    """Events that handlers emitted and that were left out before they got a number."""

    @property
    def at(self) -> int:
        """Number of the next thing that is written down."""
        return len(self.enqueued) + len(self.started)


def check(history: History, kinds: KindTable) -> list[str]:
    """Return every contradiction. O(events)."""
    found = list(history.violations)
    asked: dict[Home, set[str]] = defaultdict(set)
    for sent in history.sent:
        asked[sent.tenant, sent.session].add(sent.run)
    for home, log in history.logs.items():
        found += (f"{home[0]}/{home[1]}: {text}" for text in _check_log(home, log, history.left_out > 0))
        strange = {env[RUN] for stream in log.streams for _, _, env in stream} - asked[home] - {""}
        found += (f"{home[0]}/{home[1]}: holds events of run {run}, which nobody asked for here" for run in strange)
    for (home, epoch), log in history.past.items():
        found += (f"{home[0]}/{home[1]} in {epoch}: {text}" for text in _check_log(home, log, history.left_out > 0))
    for segment in history.segments:
        home = (segment.tenant, segment.session)
        log = history.past.get((home, segment.epoch), history.logs[home])
        where = f"{segment.client} in {segment.tenant}/{segment.session}"
        found += (f"{where}: {text}" for text in _check_segment(segment, log))
    found += _check_conservation(history)
    found += _check_fates(history, kinds)
    found += _check_order(history)
    found += _check_repeats(history, kinds)
    found += _check_effects(history)
    found += _check_writers(history)
    return found


# -- the log of one session -----------------------------------------------------------------------


def _check_log(home: Home, log: Log, thinned: bool) -> Iterator[str]:
    for stream, entries in enumerate(log.streams):
        position = 0
        for index, (seq, after, env) in enumerate(entries, 1):
            if seq != index:
                yield f"stream {stream} holds seq {seq} where {index} belongs"
            position += _weight(env)
            if position != after:
                yield f"stream {stream} seq {seq} is at position {after}, its weights say {position}"
            if (env[TENANT], env[SESSION]) != home:
                yield f"stream {stream} seq {seq} belongs to {env[TENANT]}/{env[SESSION]}"
            if (env[LANE] == 0) != (stream == URGENT):
                yield f"{env[KIND]} of lane {env[LANE]} is in stream {stream}"
    if log.unfinished:
        yield f"the journal holds events that never ended: {log.unfinished}"
    yield from _check_runs(log, thinned)


def _check_runs(log: Log, thinned: bool) -> Iterator[str]:
    """Each run is what the model says in it, cut short only by its end, and ends once."""
    runs: dict[str, list[tuple[str, str, bytes]]] = defaultdict(list)
    errors: dict[str, int] = {}
    for _, _, env in log.streams[URGENT]:
        if env[KIND] == "RUN_ERROR":
            if env[RUN] in errors:
                yield f"run {env[RUN]} has two RUN_ERRORs"
            errors[env[RUN]] = msgpack.unpackb(env[BODY]).get("after", -1)
    for seq, _, env in log.streams[DATA]:
        if env[RUN]:
            runs[env[RUN]].append((env[KIND], env[ENTITY], env[BODY]))
            if env[RUN] in errors and seq > errors[env[RUN]]:
                yield f"run {env[RUN]} goes on at data seq {seq} after its RUN_ERROR stands after {errors[env[RUN]]}"
    for run, events in runs.items():
        paused = _is_paused(events)
        if paused and run in errors:
            yield f"run {run} was PAUSED and has another RUN_ERROR"
        said = events[:-1] if paused else events
        if said:
            yield from (f"run {run}: {text}" for text in _check_run(run, said, paused or run in errors, thinned))


def _is_paused(events: Sequence[tuple[str, str, bytes]]) -> bool:
    """The one RUN_ERROR that stands in the data stream, behind what its run said."""
    kind, _, body = events[-1]
    return kind == "RUN_ERROR" and msgpack.unpackb(body).get("code") == "PAUSED"


def _check_run(run: str, events: Sequence[tuple[str, str, bytes]], erred: bool, thinned: bool) -> Iterator[str]:
    ends = [index for index, event in enumerate(events) if event[0] == "RUN_FINISHED"]
    if len(ends) + erred > 1:
        yield f"has {len(ends)} RUN_FINISHED and {int(erred)} RUN_ERROR"
    if not events or events[0][0] != "RUN_STARTED":
        yield f"begins with {events[0][0] if events else 'nothing'}"
    if ends and ends[0] != len(events) - 1:
        yield "has events after RUN_FINISHED"
    said = [event for event in events if event[0] not in ("RUN_STARTED", "RUN_FINISHED")]
    expected = list(_spoken(script(run)))
    if thinned:  # what may be left out may be there or not, as the model said it; the rest is whole
        low = Counter(event for event in said if event[0] in _DROPPABLE)
        if low - Counter(expected):
            yield f"has {low - Counter(expected)}, which the model does not say"
        said, expected = (list(filter(_not_droppable, each)) for each in (said, expected))
    whole = bool(ends) and b"cancelled" not in events[ends[0]][2]
    yield from _compare(list(_merged(said)), list(_merged(expected)), whole=whole)


def _compare(
    said: list[tuple[str, str, bytes]], expected: list[tuple[str, str, bytes]], *, whole: bool
) -> Iterator[str]:
    """Compare with what the model says; a run that was cut short may close what is open at any point."""
    for index, (kind, entity, body) in enumerate(said):
        wanted_kind, wanted_entity, wanted = expected[index] if index < len(expected) else ("nothing", "", b"")
        if (kind, entity) != (wanted_kind, wanted_entity):
            if whole or not kind.endswith("_END"):
                yield f"has {kind} {entity} where the model says {wanted_kind} {wanted_entity}"
            return  # closed early; what may follow are other closings
        last = index == len(said) - 1 or said[index + 1][0].endswith("_END")
        if kind == "TOOL_CALL_RESULT" or body == wanted or (last and not whole and wanted.startswith(body)):
            continue
        yield f"has a {kind} {entity} of {len(body)} bytes where the model says {len(wanted)} others"
        return
    if whole and len(said) != len(expected):
        yield f"finished after {len(said)} of {len(expected)} events"


def _spoken(steps: Sequence[Step]) -> Iterator[tuple[str, str, bytes]]:
    for step in steps:
        if step.out is not None:
            yield step.out.kind, step.out.entity, step.out.body
        elif step.tool:
            start = {"toolCallId": step.tool, "toolCallName": "weather"}
            arguments = ('{"of":"' + step.tool + '"}').encode()
            yield "TOOL_CALL_START", step.tool, msgpack.packb(start)
            yield "TOOL_CALL_ARGS", step.tool, arguments
            yield "TOOL_CALL_END", step.tool, msgpack.packb({"toolCallId": step.tool})
            yield "TOOL_CALL_RESULT", step.tool, b""


def _merged(
    events: Sequence[tuple[str, str, bytes]] | Iterator[tuple[str, str, bytes]],
) -> Iterator[tuple[str, str, bytes]]:
    """Join adjacent text of one kind and entity: cuts and merges do not matter."""
    held: tuple[str, str, bytes] | None = None
    for kind, entity, body in events:
        if held is not None and kind in _TEXT and held[:2] == (kind, entity):
            held = (kind, entity, held[2] + body)
            continue
        if held is not None:
            yield held
        held = (kind, entity, body)
    if held is not None:
        yield held


def _not_droppable(event: tuple[str, str, bytes]) -> bool:
    return event[0] not in _DROPPABLE


def _weight(env: Envelope) -> int:
    return len(env[BODY]) + SEQ_COST_BYTES


# -- what one client got --------------------------------------------------------------------------


def _check_segment(segment: Segment, log: Log) -> Iterator[str]:
    if segment.epoch != log.epoch:
        yield f"was given epoch {segment.epoch}, the log has {log.epoch}"
        return
    errors = {env[RUN] for _, _, env in log.streams[URGENT] if env[KIND] == "RUN_ERROR"}
    reader = [_Reader(segment.start[stream], log.streams[stream]) for stream in (URGENT, DATA)]
    voided = 0
    for received in segment.items:
        env = received.envelope
        if (env[TENANT], env[SESSION]) != (segment.tenant, segment.session):
            yield f"got an event of {env[TENANT]}/{env[SESSION]}"
        if received.stream == SNAPSHOT:
            yield from _check_snapshot(received, segment.start[DATA], log)
            continue
        passed, complaint = reader[received.stream].take(received)
        if complaint:
            yield complaint
            return
        for skipped in passed:
            voided += 1
            if skipped[RUN] not in errors or received.stream == URGENT:
                yield f"never got {skipped[KIND]} of run {skipped[RUN]!r}, which no RUN_ERROR voids"
                return


def _check_snapshot(received: Received, start: int, log: Log) -> Iterator[str]:
    """Every answer in a snapshot is what the log says up to the seq where sending starts, no less and no more."""
    said: dict[str, bytes] = defaultdict(bytes)
    for _, _, env in log.streams[DATA][:start]:
        if env[KIND] == "TEXT_MESSAGE_CONTENT":
            said[env[ENTITY]] += env[BODY]
    for message in msgpack.unpackb(received.envelope[BODY])["messages"]:
        if message["role"] == "assistant" and "toolCalls" not in message:
            text, logged = message["content"].encode(), said[message["id"]]
            if text != logged:
                yield f"snapshot at {start} has {len(text)} bytes of {message['id']}, the log {len(logged)}"


class _Reader:
    """Follows one stream of the log along what a client got, to the byte."""

    def __init__(self, have: int, entries: Sequence[Numbered]) -> None:
        self._next = have + 1
        self._skip = 0
        self._entries = entries

    def take(self, received: Received) -> tuple[list[Envelope], str]:
        """Return (events that were passed over, complaint)."""
        first, last = received.first, received.last
        if first < self._next:
            return [], f"got stream {received.stream} seq {first} again, after {self._next - 1}"
        if last > len(self._entries):
            return [], f"got stream {received.stream} seq {last}, which the log does not hold"
        passed = [self._env(seq) for seq in range(self._next, first)]
        if passed:
            self._skip = 0
        complaint = self._compare_gap(received) if received.gap is not None else self._compare(received)
        return passed, complaint

    def _env(self, seq: int) -> Envelope:
        return self._entries[seq - 1][2]

    def _compare(self, received: Received) -> str:
        env, first, last = received.envelope, received.first, received.last
        source = [self._env(seq) for seq in range(first, last + 1)]
        text = b"".join(each[BODY] for each in source)[self._skip :]
        body = env[BODY]
        where = f"stream {received.stream} seqs {first}..{last}"
        if len(source) > 1 and len({(each[KIND], each[RUN], each[ENTITY]) for each in source}) > 1:
            return f"{where} came as one item, but are not one text"
        if (env[KIND], env[RUN], env[ENTITY]) != (source[0][KIND], source[0][RUN], source[0][ENTITY]):
            return f"{where} came as {env[KIND]}, the log has {source[0][KIND]}"
        if received.whole:
            self._next, self._skip = last + 1, 0
            return "" if body == text else f"{where}: {len(body)} bytes, the log has {len(text)} others"
        before = sum(len(each[BODY]) for each in source[:-1]) - self._skip
        if last > first:
            self._skip = len(body) - before
        else:
            self._skip += len(body)
        self._next = last
        return (
            "" if text.startswith(body) and len(body) > before else f"{where}: a part that the log does not begin with"
        )

    def _compare_gap(self, received: Received) -> str:
        source = [self._env(seq) for seq in range(received.first, received.last + 1)]
        self._next, self._skip = received.last + 1, 0
        gap = received.gap
        assert gap is not None
        if any(each[KIND] not in _DROPPABLE for each in source):
            return f"a GAP hides {sorted({each[KIND] for each in source} - _DROPPABLE)}"
        if Counter(each[KIND] for each in source) != Counter(gap.by_kind) or sum(map(_weight, source)) != gap.bytes:
            return f"a GAP says {dict(gap.by_kind)} and {gap.bytes} bytes, the log has others"
        return ""


def _check_conservation(history: History) -> Iterator[str]:
    """Everything that was issued is with each client, or accounted for: at the end nothing is pending.

    What a client's newest run said last may be void, and then nothing came after it.
    """
    issued = {home: (len(log.streams[URGENT]), len(log.streams[DATA])) for home, log in history.logs.items()}
    now = [each for each in history.segments if (each.tenant, each.session) in history.logs]
    now = [each for each in now if each.epoch == history.logs[each.tenant, each.session].epoch]
    for reader, stream, account in accounts(now, issued):
        log = history.logs[reader.tenant, reader.session]
        erred = {env[RUN] for _, _, env in log.streams[URGENT] if env[KIND] == "RUN_ERROR"}
        tail = log.streams[stream][account.issued - account.pending :]
        lost = [env for _, _, env in tail if stream == URGENT or env[RUN] not in erred]
        if lost or sum(account[1:]) != account.issued:
            where = f"{reader.client} in {reader.tenant}/{reader.session}"
            yield f"{where} does not add up in stream {stream}: {account}"


# -- what became of each event --------------------------------------------------------------------


def _check_fates(history: History, kinds: KindTable) -> Iterator[str]:
    """Each accepted event ended; each run that was accepted ended once, in the log."""
    ends = {
        (home, env[RUN]): stream
        for home, log in history.logs.items()
        for stream in (URGENT, DATA)
        for _, _, env in log.streams[stream]
        if env[KIND] in TERMINAL
    }
    ended = {(each.env[TENANT], each.env[SESSION], each.env[PRODUCER], each.env[COUNTER]) for each in history.ended}
    for sent in history.sent:
        home, env = (sent.tenant, sent.session), sent.env
        if not sent.status and not sent.refusal:
            yield f"{env[KIND]} {sent.id} of {home} was never answered"
        row = kinds.require(env[KIND])
        if not sent.status or row.control or not row.durable or sent.status == "volatile":
            continue
        if any(since <= sent.answered_s <= until for since, until in history.blackouts):
            continue  # the disk had lied to the engine, and the engine to its client
        if env[KIND] == "USER_MESSAGE":
            if (home, sent.run) not in ends:
                yield f"run {sent.run} of {home} was accepted ({sent.status}) and has no end in the log"
        elif (*home, env[PRODUCER], env[COUNTER]) not in ended and (*home, sent.id) not in history.buried:
            yield f"{env[KIND]} {sent.id} of {home} was accepted ({sent.status}) and never ended"


def _check_repeats(history: History, kinds: KindTable) -> Iterator[str]:
    """Nothing starts twice in one life; what starts a run starts once ever, what is durable three times at most.

    A critical event is acted on before it is in the journal: each life that dies in between may have begun it.
    """
    starts: Counter[tuple[object, ...]] = Counter()
    per_life: Counter[tuple[object, ...]] = Counter(_of_life(each) for each in history.enqueued)
    left = Counter(per_life)
    for each in history.started:
        starts[(*_of_life(each)[1:], each.env[KIND])] += 1
        left[_of_life(each)] -= 1
    yield from (f"{key} was started {per_life[key] - count} times, accepted {per_life[key]} times in this life"
                for key, count in left.items() if count < 0 and not str(key[3]).startswith("engine/"))  # fmt: skip
    for key, count in starts.items():
        if key[-1] == "USER_MESSAGE" and count > 1 + len(history.blackouts):
            yield f"{key} starts a run and was started {count} times"
        row = kinds.require(str(key[-1]))
        if count > 3 * (1 + len(history.blackouts)) and row.durable and row.lane != Lane.CRITICAL:
            yield f"{key} was started {count} times, 3 is the most"
    for end in history.ended:
        per_life[_of_life(end)] -= 1
    yield from (f"{key} ended oftener than it was accepted in this life" for key, n in per_life.items() if n < 0)


def _check_order(history: History) -> Iterator[str]:
    """In one life, a producer's events of one lane and pool start in the order they were accepted.

    What names an event in `after` starts behind its end.
    """
    accepted: dict[tuple[object, ...], list[tuple[int, int]]] = defaultdict(list)
    for index, each in enumerate(history.enqueued):
        accepted[_of_life(each)].append((each.at, index))
    last: dict[tuple[object, ...], tuple[int, Envelope]] = {}
    for each in history.started:
        env = each.env
        # a session that slept, or came back to this life, accepts anew what was not over or not to be kept
        index = max((index for at, index in accepted.get(_of_life(each), ()) if at <= each.at), default=-1)
        if index < 0:
            if env[PRODUCER].startswith("engine/"):
                continue
            yield f"{env[PRODUCER]}:{env[COUNTER]} was started but never accepted"
            continue
        if env[10]:
            continue  # it waited for another event
        lane = (each.life, each.pool, env[TENANT], env[SESSION], env[PRODUCER], env[LANE])
        before = last.get(lane)
        if before is not None and before[0] > index:
            yield f"{env[PRODUCER]}:{env[COUNTER]} started after {before[1][COUNTER]} of the same lane, accepted later"
        last[lane] = (index, env)
    yield from _check_producers(history)


def _check_producers(history: History) -> Iterator[str]:
    """A producer's events are accepted in its own order, except those that were refused at first or taken again."""
    again: set[tuple[object, ...]] = set()
    high: dict[tuple[object, ...], int] = {}
    retried = {(sent.tenant, sent.session, sent.env[PRODUCER]) for sent in history.sent if sent.refusal}
    if history.refusals or history.store_failed:
        return
    for each in history.enqueued:
        env = each.env
        key = (each.life, env[TENANT], env[SESSION], env[PRODUCER], env[LANE])
        if key[1:4] in retried or _of_life(each) in again:
            continue
        again.add(_of_life(each))
        if env[COUNTER] < high.get(key, 0):
            yield f"{env[PRODUCER]}:{env[COUNTER]} was accepted after {high[key]} of the same lane"
        high[key] = max(high.get(key, 0), env[COUNTER])


def _check_effects(history: History) -> Iterator[str]:
    """A tool with effects does what one call asks for once at most, whatever died in between."""
    yield from (f"the effect of call {key} began {count} times" for key, count in history.effects.items() if count > 1)


def _check_writers(history: History) -> Iterator[str]:
    """Nobody writes to a log after somebody else took it over."""
    for key, generations in history.writers.items():
        if generations != sorted(generations):
            yield f"log {key} was written by generations {generations}, in this order: a zombie wrote"


def _of_life(each: Started | Ended) -> tuple[object, ...]:
    env = each.env
    return (each.life, env[TENANT], env[SESSION], env[PRODUCER], env[COUNTER])
