"""The way in: each event gets one answer, after the step it promises, and is over exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from laneway.actors.endings import POISON
from laneway.actors.sessions.committer import Committer
from laneway.actors.sessions.ingress import Ingress
from laneway.actors.sessions.intake import INBOUND, Intake
from laneway.actors.sessions.keeping import keeper
from laneway.actors.spans import Tracer
from laneway.engine.app.packing import LogPacking
from laneway.engine.stores.memory import MemoryStore
from laneway.routing.envelope import COUNTER, KIND, LANE, PRODUCER, RUN, SESSION, TENANT, Envelope
from laneway.routing.envelope import TRACE as TRACE_FIELD
from laneway.routing.errors import Fenced, LocalProtocolError, PeerProtocolError, RateLimited
from laneway.routing.lanes import Lane
from tests.actors.recording import TRACE, KeptTracer
from tests.actors.sessions.stage import ALICE, BOB, Caller, Desk, Disk, an_event, kind_table
from tests.simulation.loop import VirtualClock, run

KEY = "t/session/s"


class Door:
    """One life of an Ingress over a disk, with everything it says to the outside written down."""

    def __init__(self, disk: MemoryStore, desk: Desk | None = None, checkpoint_records: int = 2048) -> None:
        self.disk = disk
        self.kinds = kind_table()
        self.desk = desk or Desk(self.kinds)
        self.failed_runs: list[tuple[str, str]] = []
        self.remembered: list[int] = []
        self.observed: list[tuple[str, int]] = []
        self.speakers: dict[str, Caller] = {}
        self._packing = LogPacking(self.kinds)
        self.intake = Intake(
            "t", lambda env: self._packing.pack(env, 0.0), self._unpack, checkpoint_records,
            journals=keeper(disk) is None,
        )  # fmt: skip

    def _unpack(self, blob: bytes) -> Envelope:
        return self._packing.unpack(blob, 0.0)

    async def open(self, ended_runs: Sequence[str] = (), tracer: Tracer | None = None) -> Door:
        """Claim the log and take up what it holds."""
        claim = await self.disk.claim(KEY)
        self.committer = Committer(
            self.disk, claim, clock=VirtualClock(asyncio.get_running_loop()), on_fenced=lambda error: None
        )
        self.ingress = Ingress(
            "t",
            "s",
            intake=self.intake,
            committer=self.committer,
            dispatcher=self.desk,
            kinds=self.kinds,
            clock=VirtualClock(asyncio.get_running_loop()),
            durable=self.disk.durable,
            fail_run=lambda name, outcome: self.failed_runs.append((name, outcome.code)),
            remember=lambda envs: self.remembered.extend(env[COUNTER] for env in envs),
            answer_to=self.speakers.get,
            observe=lambda direction, envs: self.observed.extend((direction, env[COUNTER]) for env in envs),
            tracer=tracer,
        )
        self.intake.restore(await self.disk.read(KEY, INBOUND, claim.floors.get(INBOUND, 1), 2**40))
        self.ingress.recover(ended_runs)
        return self

    def take(self, *envs: Envelope, speaker: Caller | None = None) -> Caller:
        """Send events in."""
        speaker = speaker or Caller()
        self.speakers[speaker.client] = speaker
        self.ingress.take(speaker, envs)
        return speaker

    async def crash(self) -> Door:
        """The process dies with everything it has written; the next one comes up."""
        await self.committer.flush()
        return await Door(self.disk).open()


def test_an_event_is_answered_durable_once_it_is_written() -> None:
    """Nothing is dispatched, remembered or promised before the log has it; the answer names what the store gives."""

    async def main() -> None:
        for durable, grade in ((True, "durable"), (False, "volatile")):
            disk = Disk(durable=durable)
            disk.append_s = 0.01
            door = await Door(disk).open()
            caller = door.take(an_event(1), an_event(2))
            await asyncio.sleep(0.005)
            assert (caller.told, door.desk.order, door.remembered) == ([], [], [])
            assert door.ingress.pending == 2
            await door.committer.flush()
            assert caller.ok == [(1, grade), (2, grade)]
            assert door.desk.order == ["c:1", "c:2"]
            assert door.remembered == [1, 2]
            door.desk.end("c:1")
            assert door.ingress.pending == 1
            await door.committer.close()

    run(main())


def test_a_frame_is_taken_in_order_whatever_is_in_it() -> None:
    """What stands alone (a repeat, a control event, a run's start, a volatile kind) keeps its place among the rest."""

    async def main() -> None:
        door = await Door(Disk()).open()
        caller = door.take(
            an_event(1), an_event(2), an_event(2), an_event(3, "BLIP"), an_event(4, "USER_MESSAGE", run="r"),
            an_event(5), an_event(6, "INTERRUPT", run="r"), an_event(8), an_event(7), an_event(9, "RUN_STARTED"),
        )  # fmt: skip
        assert door.desk.cancels == [("s", "r", "")]
        assert [counter for _, counter in door.observed] == [1, 2, 3, 4, 5, 6, 8, 7]
        await door.committer.flush()
        assert [name for name in door.desk.order if name != "c:3"] == [f"c:{n}" for n in (1, 2, 4, 5, 8, 7)]
        assert sorted(caller.ok) == [
            (1, "durable"), (2, "duplicate"), (2, "durable"), (3, "volatile"),
            *((n, "durable") for n in (4, 5, 6, 7, 8)),
        ]  # fmt: skip
        assert [row[:2] for row in caller.refused] == [(9, "PERMISSION_DENIED")]

    run(main())


def test_a_traced_event_stays_with_those_it_came_with() -> None:
    """One admission and one record for all of the frame; the trace has its arrival and the commit of them all."""

    async def main() -> None:
        tracer = KeptTracer(VirtualClock(asyncio.get_running_loop()))
        door = await Door(Disk()).open(tracer=tracer)
        caller = door.take(an_event(1), an_event(2, trace=TRACE), an_event(3), an_event(4, trace=TRACE))
        await door.committer.flush()
        assert door.desk.admissions == [4]
        assert caller.told == [{"ok": [[1, 4, "durable"]]}]
        assert tracer.told == [("receive", ""), ("receive", ""), ("commit", ""), ("commit", "")]
        assert [span.attributes["laneway.events"] for span in tracer.spans if span.name == "commit"] == [4, 4]
        assert [bool(env[TRACE_FIELD]) for env, _ in door.desk.queued.values()] == [False, True, False, True]

    run(main())


def test_of_a_frame_only_what_is_refused_is_refused() -> None:
    """Each refusal names its event; the others go on, and a refused one may come again."""

    async def main() -> None:
        door = await Door(Disk()).open()
        door.desk.refused = {"c:2"}
        caller = door.take(*(an_event(n) for n in (1, 2, 3)))
        await door.committer.flush()
        assert caller.ok == [(1, "durable"), (3, "durable")]
        assert [row[0] for row in caller.refused] == [2]
        door.desk.refused = set()
        door.take(an_event(2), speaker=caller)
        await door.committer.flush()
        assert door.desk.order == ["c:1", "c:3", "c:2"]

    run(main())


def test_a_store_that_dies_with_the_process_gets_no_journal() -> None:
    """Events are dispatched and answered at once; the home that follows a sleep knows them all the same."""

    async def main() -> None:
        store = MemoryStore()
        door = await Door(store).open()
        caller = door.take(an_event(1), an_event(2))
        assert (caller.ok, door.desk.order) == ([(1, "volatile"), (2, "volatile")], ["c:1", "c:2"])
        door.desk.end("c:1")
        await door.committer.flush()
        assert await store.read(KEY, INBOUND, 1) == []
        door.ingress.rest()
        await door.committer.close()
        later = await Door(store).open()
        assert later.desk.order == ["c:2"]
        later.take(an_event(1), an_event(3), speaker=caller)
        await later.committer.flush()
        assert caller.ok[2:] == [(3, "volatile"), (1, "duplicate")]

    run(main())


def test_kinds_that_are_not_durable_are_answered_at_once() -> None:
    """A volatile kind is dispatched and answered `volatile` without the log; a repeat is a duplicate all the same."""

    async def main() -> None:
        disk = Disk()
        disk.append_s = 1.0
        door = await Door(disk).open()
        caller = door.take(an_event(1, "BLIP"))
        assert caller.ok == [(1, "volatile")]
        assert door.desk.order == ["c:1"]
        assert door.ingress.pending == 0
        door.take(an_event(1, "BLIP"), speaker=caller)
        await door.committer.close()
        assert caller.ok == [(1, "volatile"), (1, "duplicate")]
        assert door.desk.order == ["c:1"]

    run(main())


def test_who_speaks_is_stamped_not_believed() -> None:
    """Producer, tenant and session are the link's, a run gets a name, and the lane is at most the kind's."""

    async def main() -> None:
        door = await Door(Disk()).open()
        lie = ("root", 1, "USER_MESSAGE", "other", "else", "", "", 0, float("inf"), "", "", b"hi", -5.0)
        door.take(lie, speaker=Caller("c"))
        await door.committer.flush()
        (env, _) = door.desk.queued["c:1"]
        assert (env[PRODUCER], env[TENANT], env[SESSION], env[RUN], env[LANE]) == ("c", "t", "s", "c-1", Lane.HIGH)
        assert door.ingress.principal_of(env) == ALICE
        assert door.desk.introduced == ("t", "s", "c", ALICE.subject)

    run(main())


def test_a_duplicate_waits_for_the_fate_of_the_first() -> None:
    """A repeat is never dispatched; it is answered `duplicate`, and not before the first one is written."""

    async def main() -> None:
        disk = Disk()
        disk.append_s = 0.01
        door = await Door(disk).open()
        first = door.take(an_event(1))
        repeat = door.take(an_event(1))
        await asyncio.sleep(0.005)
        assert repeat.told == []
        await door.committer.flush()
        assert first.ok == [(1, "durable")]
        assert repeat.ok == [(1, "duplicate")]
        assert door.desk.order == ["c:1"]
        assert door.observed == [("in", 1)]

    run(main())


def test_what_is_older_than_the_window_is_not_guessed() -> None:
    """A counter more than 1,024 behind is refused DUPLICATE_UNKNOWN: it may have been handled."""

    async def main() -> None:
        door = await Door(Disk()).open()
        caller = door.take(an_event(2000), an_event(900))
        await door.committer.flush()
        assert caller.ok == [(2000, "durable")]
        assert caller.refused == [(900, "MALFORMED", "DUPLICATE_UNKNOWN")]

    run(main())


@pytest.mark.parametrize(
    ("kind", "code", "reason"),
    [("RUN_STARTED", "PERMISSION_DENIED", ""), ("NO_SUCH", "MALFORMED", "UNKNOWN_KIND")],
)
def test_kinds_that_clients_may_not_send(kind: str, code: str, reason: str) -> None:
    """What only the engine sends, and what nobody knows, is refused by name; the events around it are taken."""

    async def main() -> None:
        door = await Door(Disk()).open()
        caller = door.take(an_event(1), an_event(2, kind), an_event(3))
        await door.committer.flush()
        assert caller.refused == [(2, code, reason)]
        assert caller.ok == [(1, "durable"), (3, "durable")]

    run(main())


def test_who_is_only_refused_leaves_no_record() -> None:
    """A producer whose events are all refused is not in the log, not in memory, and was never observed."""

    async def main() -> None:
        disk = Disk()
        door = await Door(disk).open()
        door.desk.refusal = RateLimited("slower", retry_after_ms=7)
        for number in range(300):
            caller = Caller(f"c{number}")
            door.take(an_event(1), an_event(2, "BLIP"), an_event(3, "RUN_STARTED"), speaker=caller)
            rows = [row for told in caller.told for row in told["refused"]]
            assert [(row[0], row[4]) for row in rows] == [([1, 2], 7), ([3], None)]
        await door.committer.flush()
        assert await disk.read(KEY, INBOUND, 1) == []
        assert door.intake.head == 0
        assert door.observed == []
        assert door.intake.principal("c1") is None
        door.desk.refusal = None
        caller = door.take(an_event(1))
        await door.committer.flush()
        assert caller.ok == [(1, "durable")]  # a refusal marks nothing: the retry is new

    run(main())


def test_while_the_store_is_away_only_what_is_critical_is_taken() -> None:
    """Ordinary events are refused STORE_UNAVAILABLE with a hint; critical ones are acted on, as `volatile`."""

    async def main() -> None:
        disk = Disk()
        door = await Door(disk).open()
        disk.down = True
        early = door.take(an_event(1))  # nobody knows yet
        await asyncio.sleep(1)
        caller = door.take(an_event(2), an_event(3, "URGE"), an_event(4, "INTERRUPT"))
        assert caller.refused == [(2, "STORE_UNAVAILABLE", "")]
        assert caller.told[0]["refused"][0][4] == 1000
        assert caller.ok == [(3, "volatile"), (4, "volatile")]
        assert door.desk.order == ["c:3"]
        assert door.desk.cancels == [("s", "", "")]
        assert early.told == []
        disk.down = False
        await door.committer.flush()
        assert early.ok == [(1, "durable")]
        retry = door.take(an_event(2))
        await door.committer.flush()
        assert retry.ok == [(2, "durable")]
        assert door.desk.order == ["c:3", "c:1", "c:2"]

    run(main())


def test_control_events_act_first() -> None:
    """INTERRUPT and CANCEL reach the dispatcher before anything is written; the OK comes when the record is."""

    async def main() -> None:
        disk = Disk()
        disk.append_s = 0.01
        door = await Door(disk).open()
        caller = door.take(an_event(1, "INTERRUPT", run="r"), an_event(2, "CANCEL", entity="c:9"))
        assert door.desk.cancels == [("s", "r", ""), ("s", "", "c:9")]
        assert caller.told == []
        await door.committer.flush()
        assert caller.ok == [(1, "durable"), (2, "durable")]
        assert door.ingress.pending == 0
        assert door.desk.order == []

    run(main())


def test_nobody_floods_by_asking_to_stop() -> None:
    """Beyond 50 at once and 20/s, interrupts and cancels get RATE_LIMITED; after the hinted wait one is taken."""

    async def main() -> None:
        door = await Door(Disk()).open()
        caller = door.take(*(an_event(counter, "INTERRUPT") for counter in range(1, 201)))
        await door.committer.flush()
        assert len(caller.ok) == len(door.desk.cancels) == len(door.observed) == 50
        assert {code for _, code, _ in caller.refused} == {"RATE_LIMITED"}
        (wait_ms,) = {row[4] for told in caller.told for row in told.get("refused", ())}
        assert wait_ms == 50
        await asyncio.sleep(wait_ms / 1000)
        again = door.take(an_event(201, "CANCEL", entity="x"), an_event(202, "CANCEL", entity="x"))
        await door.committer.flush()
        assert again.ok == [(201, "durable")]
        assert again.refused == [(202, "RATE_LIMITED", "")]

    run(main())


def test_control_events_alone_keep_the_journal_short() -> None:
    """A session that does nothing but interrupt checkpoints too; what a checkpoint covers may be trimmed."""

    async def main() -> None:
        disk = Disk()
        door = await Door(disk, checkpoint_records=20).open()
        for counter in range(1, 31):
            door.take(an_event(counter, "INTERRUPT"))
            await asyncio.sleep(0.1)
        await door.committer.flush()
        assert door.ingress.trim_below > 40
        await disk.trim(door.committer.claim, INBOUND, door.ingress.trim_below)
        later = await door.crash()
        caller = later.take(an_event(30, "INTERRUPT"), an_event(1, "INTERRUPT"))
        await later.committer.flush()
        assert caller.ok == [(30, "duplicate"), (1, "duplicate")]

    run(main())


def test_how_an_event_ended_is_told_to_who_sent_it() -> None:
    """What failed, expired or was given up is a notice to its producer; what was handled or cancelled is not.

    A handler that is stopped because the event's deadline passed was not cancelled by anybody: it is told.
    """

    async def main() -> None:
        door = await Door(Disk()).open()
        caller = door.take(*(an_event(counter) for counter in range(1, 6)), an_event(6, "BLIP"), an_event(7))
        await door.committer.flush()
        for counter, status in enumerate(["handled", "failed", "expired", "cancelled", "dead", "failed"], 1):
            door.desk.end(f"c:{counter}", status, code="X")
        door.desk.end("c:7", "cancelled", code="DEADLINE_EXCEEDED")
        noticed = [(told["notice"]["counter"], told["notice"]["code"]) for told in caller.told if "notice" in told]
        assert noticed == [(2, "X"), (3, "X"), (5, "X"), (6, "X"), (7, "DEADLINE_EXCEEDED")]
        assert door.ingress.pending == 0
        await door.committer.flush()

    run(main())


def test_a_run_that_did_not_tell_its_end_is_ended() -> None:
    """A run that failed before RUN_ERROR or RUN_FINISHED is failed once; one that told its end is left alone."""

    async def main() -> None:
        door = await Door(Disk()).open()
        door.take(*(an_event(counter, "USER_MESSAGE", run=f"r{counter}") for counter in range(1, 4)))
        await door.committer.flush()
        door.ingress.run_told("r2")
        door.desk.end("c:1", "failed", "HANDLER_FAILED")
        door.desk.end("c:2", "cancelled", "CANCELLED")
        door.desk.end("c:3", "handled")
        assert door.failed_runs == [("r1", "HANDLER_FAILED")]
        await door.committer.flush()

    run(main())


def test_what_was_not_started_is_dispatched_again() -> None:
    """After a crash accepted events go out again, in order, and a repeat of theirs is still a duplicate."""

    async def main() -> None:
        door = await Door(Disk()).open()
        door.take(an_event(1, "USER_MESSAGE", run="r"), *(an_event(counter) for counter in range(2, 6)))
        await door.committer.flush()
        door.desk.end("c:3")
        later = await door.crash()
        assert later.desk.order == ["c:1", "c:2", "c:4", "c:5"]
        assert later.failed_runs == []
        assert later.ingress.principal_of(an_event(1, "USER_MESSAGE", run="r")) == ALICE
        caller = later.take(an_event(3), an_event(5))
        await later.committer.flush()
        assert caller.ok == [(3, "duplicate"), (5, "duplicate")]

    run(main())


def test_a_run_that_was_started_is_lost_with_its_host_once() -> None:
    """A run whose handler was started is not repeated: HOST_LOST, in one life only, unless its end is in the log."""

    async def main() -> None:
        door = await Door(Disk()).open()
        door.take(an_event(1, "USER_MESSAGE", run="r1"), an_event(2, "RUN_INPUT", run="r2"))
        await door.committer.flush()
        await door.ingress.starting([env for env, _ in door.desk.queued.values()])
        await door.committer.flush()
        later = await Door(door.disk).open(ended_runs=["r2"])
        assert later.failed_runs == [("r1", "HOST_LOST")]
        assert later.desk.order == []
        assert later.ingress.pending == 0
        last = await later.crash()
        assert last.failed_runs == []
        assert last.desk.order == []

    run(main())


def test_an_event_that_kills_its_host_is_buried_after_three_starts() -> None:
    """Other events are tried again after a crash, three times; then they wait for their dead letter."""

    async def main() -> None:
        door = await Door(Disk()).open()
        door.take(an_event(1))
        await door.committer.flush()
        for _ in range(3):
            assert door.desk.order == ["c:1"]
            assert door.ingress.unburied == []
            await door.ingress.starting([door.desk.queued["c:1"][0]])
            door = await door.crash()
        assert door.desk.order == []
        (poison,) = door.ingress.unburied
        assert (poison[PRODUCER], poison[COUNTER], poison[KIND]) == ("c", 1, "WORK")
        assert door.ingress.pending == 1
        caller = door.take(an_event(9))
        door.ingress.buried(poison)
        assert [told["notice"]["code"] for told in caller.told if "notice" in told] == ["DEAD_LETTERED"]
        later = await door.crash()
        assert later.desk.order == ["c:9"]
        assert later.ingress.unburied == []

    run(main())


def test_what_the_dispatcher_gave_up_is_over_with_its_dead_letter() -> None:
    """An event that lost three hosts stays pending until its letter is stored; a volatile one is told at once."""

    async def main() -> None:
        door = await Door(Disk()).open()
        caller = door.take(an_event(1), an_event(2, "PRESENCE"))
        await door.committer.flush()
        for env, on_done in list(door.desk.queued.values()):
            on_done([(env, POISON)])
        assert [told["notice"]["counter"] for told in caller.told if "notice" in told] == [2]
        (poison,) = door.ingress.unburied
        assert (poison[COUNTER], door.ingress.pending) == (1, 1)
        door.ingress.buried(poison)
        assert [told["notice"]["counter"] for told in caller.told if "notice" in told] == [2, 1]
        assert door.ingress.pending == 0
        await door.committer.flush()

    run(main())


def test_what_was_left_goes_first() -> None:
    """While a dispatcher has no room for recovered events, new ones are refused; order is kept."""

    async def main() -> None:
        door = await Door(Disk()).open()
        door.take(an_event(1), an_event(2))
        await door.committer.flush()
        desk = Desk(door.kinds)
        desk.refusal = LocalProtocolError("a former home's handler is still at it")
        later = await Door(door.disk, desk).open()
        caller = later.take(an_event(3))
        assert caller.refused == [(3, "LANE_FULL", "")]
        assert later.ingress.pending == 2
        desk.refusal = None
        later.ingress.readmit()
        later.take(an_event(3))
        await later.committer.flush()
        assert desk.order == ["c:1", "c:2", "c:3"]

    run(main())


def test_what_nobody_takes_any_more_is_buried() -> None:
    """An event whose kind has no pool since the restart becomes a dead letter instead of blocking the rest."""

    async def main() -> None:
        door = await Door(Disk()).open()
        door.take(an_event(1))
        await door.committer.flush()
        desk = Desk(door.kinds)
        desk.refusal = PeerProtocolError("no pool takes it", reason="UNKNOWN_KIND")
        later = await Door(door.disk, desk).open()
        assert [env[COUNTER] for env in later.ingress.unburied] == [1]
        assert later.desk.order == []

    run(main())


def test_a_delivery_is_recorded_before_it_is_made() -> None:
    """`starting` returns once the log has it; a home that lost its log gives nothing to handlers."""

    async def main() -> None:
        disk = Disk()
        door = await Door(disk).open()
        door.take(an_event(1))
        await door.committer.flush()
        before = len(await disk.read(KEY, INBOUND, 1))
        await door.ingress.starting([an_event(1), an_event(77)])
        assert len(await disk.read(KEY, INBOUND, 1)) == before + 1
        await disk.claim(KEY)
        with pytest.raises(Fenced):
            await door.ingress.starting([an_event(1)])

    run(main())


def test_a_volatile_store_records_no_deliveries() -> None:
    """Nobody could read them after a crash, so they cost nothing."""

    async def main() -> None:
        disk = Disk(durable=False)
        door = await Door(disk).open()
        door.take(an_event(1))
        await door.committer.flush()
        before = len(await disk.read(KEY, INBOUND, 1))
        await door.ingress.starting([an_event(1)])
        assert len(await disk.read(KEY, INBOUND, 1)) == before

    run(main())


def test_leaving_gives_back_what_was_admitted() -> None:
    """An event admitted and not written yet is released once; a home that is taken over cancels what runs."""

    async def main() -> None:
        disk = Disk()
        disk.append_s = 1.0
        door = await Door(disk).open()
        door.take(an_event(1))
        door.ingress.abandon()
        door.ingress.release()
        assert door.desk.released == ["c:1"]
        assert door.desk.cancels == [("s", "", "c:1")]
        await disk.claim(KEY)
        await door.committer.close()
        assert door.desk.order == []

    run(main())


def test_each_client_has_its_own_name() -> None:
    """Who is behind an event is who its producer was introduced as, also in the next life."""

    async def main() -> None:
        door = await Door(Disk()).open()
        door.take(an_event(1), speaker=Caller("a", ALICE))
        door.take(an_event(1), speaker=Caller("b", BOB))
        await door.committer.flush()
        for life in (door, await door.crash()):
            assert life.ingress.principal_of(an_event(1, producer="a")).subject == "alice"
            assert life.ingress.principal_of(an_event(1, producer="b")).subject == "bob"
            assert life.ingress.principal_of(an_event(1, producer="z")).subject == ""

    run(main())


def test_a_run_id_starts_one_run_whoever_sends_it() -> None:
    """The same input under its id is a duplicate, also from another client or after a crash; another one is refused."""

    async def main() -> None:
        door = await Door(Disk()).open()
        door.take(an_event(1, "RUN_INPUT", run="r1", body=b"in"))
        await door.committer.flush()
        again = door.take(an_event(1, "RUN_INPUT", run="r1", body=b"in"), speaker=Caller("d"))
        other = door.take(an_event(1, "RUN_INPUT", run="r1", body=b"out"), speaker=Caller("e"))
        await door.committer.flush()
        assert again.ok == [(1, "duplicate")]
        assert other.refused == [(1, "IDEMPOTENCY_MISMATCH", "")]
        assert door.desk.order == ["c:1"]
        door = await door.crash()
        late = door.take(an_event(1, "RUN_INPUT", run="r1", body=b"in"), speaker=Caller("f"))
        await door.committer.flush()
        assert late.ok == [(1, "duplicate")]

    run(main())


def test_what_is_not_written_down_comes_in_with_its_frame() -> None:
    """Both sorts of kinds in one frame are admitted together, each is answered as what it is, and only one is kept."""

    async def main() -> None:
        door = await Door(Disk()).open()
        caller = door.take(*(an_event(n, ("BLIP", "WORK")[n in (2, 5)]) for n in range(1, 7)))
        assert door.desk.admissions == [6]
        assert door.desk.order == ["c:1", "c:3", "c:4", "c:6"]
        await door.committer.flush()
        assert sorted(caller.ok) == [(n, "durable" if n in (2, 5) else "volatile") for n in range(1, 7)]
        assert door.desk.order[4:] == ["c:2", "c:5"]
        assert door.remembered == [2, 5]
        door.take(an_event(4, "BLIP"), speaker=caller)
        await door.committer.flush()
        assert caller.ok[-1] == (4, "duplicate")

    run(main())
