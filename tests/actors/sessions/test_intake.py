"""The inbound journal: what was accepted, started and ended, live and rebuilt from its records."""

from __future__ import annotations

from typing import Any

import msgpack
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from laneway.actors.ports import Entry, Principal
from laneway.actors.sessions.intake import INBOUND, Intake
from laneway.engine.app.packing import LogPacking
from laneway.routing.envelope import Envelope, envelope_id
from tests.actors.sessions.stage import ALICE, BOB, an_event, kind_table

_PACKING = LogPacking(kind_table())


def _intake(checkpoint_records: int = 2048) -> Intake:
    return Intake("t", lambda env: _PACKING.pack(env, 0.0), lambda blob: _PACKING.unpack(blob, 0.0), checkpoint_records)


def _rebuilt(records: list[Entry], checkpoint_records: int = 2048) -> Intake:
    intake = _intake(checkpoint_records)
    intake.restore(records)
    return intake


def _accept(intake: Intake, env: Envelope, principal: Principal = ALICE) -> list[Entry]:
    said = intake.introduce(env[0], principal)
    return [*([] if said is None else [said]), *intake.accepted((env,))]


def test_an_accepted_event_is_new_once() -> None:
    """The same counter is a duplicate, a very old one unknown, another producer's its own; looking marks nothing."""
    intake = _intake()
    assert intake.seen(an_event(1)) == intake.seen(an_event(1)) == "new"
    intake.accepted([an_event(1)])
    assert intake.seen(an_event(1)) == "duplicate"
    assert intake.seen(an_event(1, producer="d")) == "new"
    intake.accepted([an_event(5000)])
    assert intake.seen(an_event(2)) == "unknown"


def test_what_is_over_is_known_for_sure() -> None:
    """Accepted and ended: over. In work, yet to come, older than the window, or nobody's: not, also once rebuilt."""
    intake = _intake()
    records = intake.accepted([an_event(1), an_event(2)])
    ended = intake.ended([an_event(1)])
    assert ended is not None
    for known in (intake, _rebuilt([*records, ended])):
        assert [known.over("c", counter) for counter in (0, 1, 2, 3)] == [False, True, False, False]
        assert not known.over("d", 1)
    intake.accepted([an_event(5_000)])
    assert not intake.over("c", 1)


def test_counters_begin_at_one() -> None:
    """Counter 0 can never be told from a repeat, so it is not new, not even as the first of a producer."""
    assert _intake().seen(an_event(0)) == "unknown"


def test_an_event_is_pending_until_it_ended() -> None:
    """Started counts deliveries; the end is recorded once; events that are not journalled give no records."""
    intake = _intake()
    intake.accepted([an_event(1)])
    start = intake.started([an_event(1), an_event(2)])
    assert start is not None
    assert start.blob == b"S" + msgpack.packb(["c", 1])
    assert intake.started([an_event(1)]) is not None
    assert intake.deliveries == {("c", 1): 2}
    assert intake.started([an_event(2)]) is intake.ended([an_event(2)]) is None
    end = intake.ended([an_event(1), an_event(2)])
    assert end is not None
    assert end.blob == b"D" + msgpack.packb(["c", 1])
    assert intake.ended([an_event(1)]) is None
    assert (intake.pending, intake.deliveries) == ({}, {})


def test_it_is_held_until_then() -> None:
    """Between its record and its end, and never if it was not journalled."""
    intake, env = _intake(), an_event(1)
    assert not intake.holds(env)
    _accept(intake, env)
    assert intake.holds(env)
    intake.ended([env])
    assert not intake.holds(env)


def test_records_are_numbered_without_holes() -> None:
    """Seqs of the inbound stream run from 1; a position is the sum of the bytes so far; a later life goes on."""
    intake, records = _intake(), list[Entry]()
    for counter in range(1, 20):
        records += _accept(intake, an_event(counter))
    later = _rebuilt(records)
    records += _accept(later, an_event(20))
    assert [entry.seq for entry in records] == list(range(1, len(records) + 1))
    assert {entry.stream for entry in records} == {INBOUND}
    assert records[-1].position == sum(len(entry.blob) for entry in records)
    assert later.head == len(records)


def test_who_speaks_is_recorded_when_it_is_news() -> None:
    """A producer is introduced once, and again when its subject or scopes change; the last one counts."""
    intake = _intake()
    first = intake.introduce("c", ALICE)
    assert first is not None
    assert intake.introduce("c", Principal("alice", "t", expires_at=5.0)) is None
    scoped = Principal("alice", "t", frozenset({"admin"}))
    second = intake.introduce("c", scoped)
    assert second is not None
    assert intake.principal("c") == scoped
    assert intake.principal("d") is None
    assert _rebuilt([first, second, *intake.accepted([an_event(1)])]).principal("c") == scoped


def test_who_keeps_sending_is_never_forgotten() -> None:
    """Beyond 256 producers the one that was quiet longest goes, with its name; not the one that came first."""
    intake = _intake()
    for other in range(300):
        _accept(intake, an_event(other + 1))
        _accept(intake, an_event(1, producer=f"other{other}"), BOB)
    assert intake.seen(an_event(300)) == "duplicate"
    assert intake.principal("c") == ALICE
    assert intake.seen(an_event(1, producer="other299")) == "duplicate"
    assert intake.seen(an_event(1, producer="other0")) == "new"
    assert intake.principal("other0") is None


def test_a_journal_of_any_length_is_rebuilt_from_its_last_checkpoint() -> None:
    """After 2,048 records a checkpoint stands for all before it: windows, pending events, names, what was said."""
    intake, records, checkpoint = _intake(), list[Entry](), None
    records += _accept(intake, an_event(1, "USER_MESSAGE", run="r1", body=b"hello"))
    start = intake.started([an_event(1)])
    assert start is not None
    records.append(start)
    counter = 1
    while checkpoint is None:
        counter += 1
        env = an_event(counter)
        records += _accept(intake, env)
        records += [end for end in [intake.ended([env])] if end is not None]
        checkpoint = intake.checkpoint()
    assert 2048 <= len(records) <= 2050
    assert intake.checkpoint() is None
    later = _rebuilt([checkpoint])
    assert (list(later.pending), later.deliveries) == ([("c", 1)], {("c", 1): 1})
    assert later.seen(an_event(counter)) == "duplicate"
    assert later.principal("c") == ALICE
    assert list(later.said) == ["r1"]
    assert later.head == checkpoint.seq


def test_a_checkpoint_replaces_what_stood_before_it() -> None:
    """Records older than a checkpoint, not trimmed yet, add nothing to it: a forgotten producer stays forgotten."""
    intake = _intake()
    old = [*_accept(intake, an_event(1, "USER_MESSAGE", producer="gone", run="r0"))]
    empty = msgpack.packb({"windows": [], "pending": [], "who": [], "said": [], "runs": []})
    later = _rebuilt([*old, Entry(INBOUND, 3, 999, b"C" + empty)])
    assert later.principal("gone") is None
    assert not later.said
    assert not later.pending
    assert later.seen(an_event(1, producer="gone")) == "new"


def test_names_of_those_who_left_no_record_do_not_gather() -> None:
    """Who sent nothing that is journalled is not kept over a restart: it is introduced again when it speaks."""
    intake = _intake()
    said = intake.introduce("blip", ALICE)
    assert said is not None
    intake.mark(an_event(1, "BLIP", producer="blip"))
    later = _rebuilt([said])
    assert later.principal("blip") is None
    assert later.introduce("blip", ALICE) is not None


def test_what_users_said_is_bounded() -> None:
    """The newest 64 messages, and no more than 128 KiB, are kept for the transcript; the newest always."""
    intake = _intake()
    for number in range(100):
        intake.accepted([an_event(number + 1, "USER_MESSAGE", run=f"r{number}", body=b"x")])
    assert list(intake.said) == [f"r{number}" for number in range(36, 100)]
    intake.accepted([an_event(101, "USER_MESSAGE", run="big", body=b"x" * 100_000)])
    intake.accepted([an_event(102, "USER_MESSAGE", run="big2", body=b"x" * 200_000)])
    assert list(intake.said) == ["big2"]


def test_records_of_a_later_version_are_skipped() -> None:
    """A record type that is not known does not stop the rest from being read."""
    intake = _intake()
    records = [*_accept(intake, an_event(1)), Entry(INBOUND, 3, 500, b"?whatever")]
    assert list(_rebuilt(records).pending) == [("c", 1)]


def test_events_that_come_together_are_one_record() -> None:
    """As far as they fit into one of 256 KiB; each of them is pending and known."""
    intake = _intake()
    envs = [an_event(counter, body=bytes(100_000)) for counter in range(1, 6)]
    records = intake.accepted(envs)
    assert len(records) == 3
    assert list(_rebuilt(records).pending) == [("c", counter) for counter in range(1, 6)]
    end = intake.ended(envs)
    assert end is not None
    assert not _rebuilt([*records, end]).pending


def test_without_a_journal_one_record_serves_the_next_home() -> None:
    """Nothing is written until the home goes to sleep; then everything a later home must know."""
    intake = Intake("t", lambda env: _PACKING.pack(env, 0.0), lambda blob: _PACKING.unpack(blob, 0.0), journals=False)
    assert intake.rest() is None
    assert intake.introduce("c", ALICE) is None
    assert intake.accepted([an_event(1), an_event(2), an_event(3)]) == []
    assert intake.started([an_event(1)]) is intake.ended([an_event(1)]) is intake.checkpoint() is None
    assert list(intake.pending) == [("c", 2), ("c", 3)]
    record = intake.rest()
    assert record is not None
    later = _rebuilt([record])
    assert _known(later) == _known(intake)
    assert later.covered == record.seq
    assert _intake().rest() is None, "a journal needs none"


class Journal(RuleBasedStateMachine):
    """Whatever is done, the records give a home that knows the same."""

    def __init__(self) -> None:
        super().__init__()
        self.intake = _intake(5)
        self.records: list[Entry] = []

    def _keep(self, *entries: Entry | None) -> None:
        self.records += [entry for entry in entries if entry is not None]

    @rule(
        producer=st.sampled_from("abc"),
        counter=st.integers(1, 3000),
        kind=st.sampled_from(["WORK", "USER_MESSAGE"]),
        who=st.sampled_from([ALICE, BOB]),
    )
    def accept(self, producer: str, counter: int, kind: str, who: Principal) -> None:
        env = an_event(counter, kind, producer, run=f"r{counter % 70}", body=b"y" * (counter % 7) * 3000)
        if self.intake.seen(env) == "new":
            self._keep(*_accept(self.intake, env, who))
            assert self.intake.seen(env) == "duplicate"

    @rule(
        producer=st.sampled_from("abc"),
        gaps=st.lists(st.integers(1, 3), min_size=1, max_size=6),
        size=st.sampled_from([1, 100_000]),
    )
    def accept_together(self, producer: str, gaps: list[int], size: int) -> None:
        newest = self.intake.newest(producer)
        envs = [an_event(newest + sum(gaps[: n + 1]), "WORK", producer, body=bytes(size)) for n in range(len(gaps))]
        assert {self.intake.seen(env) for env in envs} == {"new"}
        self._keep(self.intake.introduce(producer, ALICE), *self.intake.accepted(envs))
        assert {self.intake.seen(env) for env in envs} == {"duplicate"}

    @precondition(lambda self: self.intake.pending)
    @rule(data=st.data())
    def end_together(self, data: st.DataObject) -> None:
        keys = data.draw(st.sets(st.sampled_from(sorted(self.intake.pending)), min_size=1))
        self._keep(self.intake.ended([self.intake.pending[key] for key in sorted(keys)]))

    @precondition(lambda self: self.intake.pending)
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.intake.pending)))
        self._keep(self.intake.started([self.intake.pending[key]]))

    @precondition(lambda self: self.intake.pending)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.intake.pending)))
        self._keep(self.intake.ended([self.intake.pending[key]]))

    @rule(trim=st.booleans())
    def checkpoint(self, trim: bool) -> None:
        entry = self.intake.checkpoint()
        if entry is not None:
            self.records = [entry] if trim else [*self.records, entry]

    @rule()
    def restart(self) -> None:
        self.intake = _rebuilt(self.records, 5)

    @invariant()
    def a_later_home_knows_the_same(self) -> None:
        assert _known(_rebuilt(self.records)) == _known(self.intake)


def _known(intake: Intake) -> dict[str, Any]:
    return {
        "head": intake.head,
        "pending": [(envelope_id(env), env[11]) for env in intake.pending.values()],
        "deliveries": intake.deliveries,
        "said": [(run, envelope_id(env)) for run, env in intake.said.items()],
        "who": {name: intake.principal(name) for name in "abc"},
        "seen": {
            (name, counter): intake.seen(an_event(counter, producer=name))
            for name in "abc"
            for counter in range(1, 3001, 61)
        },
    }


TestJournal = Journal.TestCase
TestJournal.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_runs_that_were_asked_for_are_known_after_a_checkpoint() -> None:
    """A checkpoint stands for the records before it, run ids included."""
    intake = _intake(checkpoint_records=2)
    asking = an_event(1, "RUN_INPUT", run="r1", body=b"in")
    intake.accepted([asking])
    intake.ended([asking])
    checkpoint = intake.checkpoint()
    assert checkpoint is not None
    again = _rebuilt([checkpoint])
    assert again.seen(an_event(9, "RUN_INPUT", producer="d", run="r1", body=b"in")) == "duplicate"
    assert again.seen(an_event(9, "RUN_INPUT", producer="d", run="r1", body=b"other")) == "mismatch"


def test_so_many_runs_are_remembered_as_the_policy_says() -> None:
    """Their ids and their questions; the oldest are forgotten first."""
    intake = Intake("t", lambda env: _PACKING.pack(env, 0.0), lambda blob: _PACKING.unpack(blob, 0.0), runs=3)
    for number in range(1, 6):
        intake.accepted([an_event(number, "USER_MESSAGE", run=f"r{number}", body=b"?")])
    assert list(intake.said) == ["r3", "r4", "r5"]
    assert [intake.starts.known(f"r{number}") for number in range(1, 6)] == [False, False, True, True, True]
