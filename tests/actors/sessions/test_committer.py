"""Group commit: order, batching, a store that fails, a log that is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace

from laneway.actors.meters import SessionMeters
from laneway.actors.ports import Claim, Entry
from laneway.actors.sessions.committer import Committer, read_back
from laneway.actors.sessions.keeping import Run
from laneway.routing.envelope import BODY, envelope, with_body
from laneway.routing.errors import Fenced, StoreError
from laneway.routing.replay import Numbered
from tests.simulation.loop import VirtualClock, run

_EVENT = envelope("CUSTOM", producer="p", counter=1, tenant="t", session="s", lane=2)


class _Log:
    """A store double that can fail before or after writing, and be taken over by somebody else."""

    durable = True

    def __init__(self) -> None:
        self.written: list[Entry] = []
        self.appends = 0
        self.generation = 1
        self.fail: list[str] = []
        self.down = False

    async def claim(self, key: str) -> Claim:
        if self.down:
            raise StoreError("still down")
        self.generation += 1
        heads = {1: (self.written[-1].seq, 0)} if self.written else {}
        return Claim(key, self.generation, "e", heads, {})

    async def append(self, claim: Claim, entries: Sequence[Entry]) -> None:
        self.appends += 1
        await asyncio.sleep(0.002)
        if claim.generation != self.generation:
            raise Fenced("taken over")
        mode = self.fail.pop(0) if self.fail else ""
        if mode == "before" or self.down:
            raise StoreError("disk full")
        self.written.extend(entries)
        if mode == "after":
            raise StoreError("fsync failed")


def _entries(first: int, last: int) -> list[Entry]:
    return [Entry(1, seq, seq * 20, b"x" * 4) for seq in range(first, last + 1)]


def _committer(log: _Log, fenced: list[Fenced], health: list[bool]) -> Committer:
    claim = Claim("k", log.generation, "e", {}, {})
    clock = VirtualClock(asyncio.get_running_loop())
    return Committer(log, claim, clock=clock, on_fenced=fenced.append, on_health=health.append)  # type: ignore[arg-type]


def test_what_gathers_goes_into_the_next_append() -> None:
    """The first entry is written alone and at once; what comes meanwhile is one append; calls keep order."""
    log, told = _Log(), list[int]()

    async def main() -> None:
        committer = _committer(log, [], [])
        committer.add(_entries(1, 1), lambda: told.append(1))
        await asyncio.sleep(0.001)
        for seq in range(2, 50):
            committer.add(_entries(seq, seq), lambda seq=seq: told.append(seq))  # type: ignore[misc]
        committer.add([], lambda: told.append(50))
        assert committer.backlog_bytes == 49 * 68
        await committer.flush()
        assert committer.backlog_bytes == 0
        await committer.close()

    run(main())
    assert log.written == _entries(1, 49)
    assert log.appends == 2
    assert told == list(range(1, 51))


def test_a_failed_append_is_repaired_without_loss_or_repeat() -> None:
    """Whether the failing append wrote or not, in the end each entry is there exactly once, in order."""
    for faults in (["before"], ["after"], ["before", "after"]):
        log, fenced, health, told = _Log(), list[Fenced](), list[bool](), list[int]()
        log.fail = list(faults)

        async def main(log: _Log = log, told: list[int] = told, fenced: list[Fenced] = fenced) -> None:
            committer = _committer(log, fenced, health)  # noqa: B023 - awaited within the round
            for seq in range(1, 30):
                committer.add(_entries(seq, seq), lambda seq=seq: told.append(seq))  # type: ignore[misc]
                await asyncio.sleep(0.001)
            await committer.flush()
            await committer.close()

        run(main())
        assert log.written == _entries(1, 29)
        assert told == list(range(1, 30))
        assert fenced == []
        assert health[:2] == [False, True]
        assert not log.fail, "the faults were meant to fire"


def test_a_lost_log_ends_the_committer() -> None:
    """When a newer claim exists the committer stops, tells once, and writes nothing more."""
    log, fenced, told = _Log(), list[Fenced](), list[int]()

    async def main() -> None:
        committer = _committer(log, fenced, [])
        committer.add(_entries(1, 1), lambda: told.append(1))
        await committer.flush()
        log.generation += 1
        committer.add(_entries(2, 2), lambda: told.append(2))
        await committer.flush()
        committer.add(_entries(3, 3), lambda: told.append(3))
        await committer.flush()
        await committer.close()

    run(main())
    assert told == [1]
    assert [type(error) for error in fenced] == [Fenced]
    assert log.written == _entries(1, 1)


def test_close_gives_a_dead_store_up_after_its_deadline() -> None:
    """A store that never comes back does not keep close() from returning."""
    log = _Log()
    log.down = True

    async def main() -> float:
        committer = _committer(log, [], [])
        committer.add(_entries(1, 1))
        start = asyncio.get_running_loop().time()
        await committer.close(deadline_s=3.0)
        return asyncio.get_running_loop().time() - start

    assert 2.9 < run(main()) < 3.5
    assert log.written == []


def test_appends_are_timed_and_failures_counted(rig: SimpleNamespace) -> None:
    """One measurement per group commit that succeeded, one count per append that failed."""
    log, probe = _Log(), rig.Probe()
    log.fail = ["before"]

    async def main() -> None:
        clock = VirtualClock(asyncio.get_running_loop())
        claim = Claim("k", log.generation, "e", {}, {})
        meters = SessionMeters(probe)
        committer = Committer(log, claim, clock=clock, on_fenced=lambda error: None, meters=meters)  # type: ignore[arg-type]
        committer.add(_entries(1, 3))
        await committer.flush()
        await committer.close()

    run(main())
    assert probe.counts["store.failed"] == 1
    assert [name for name, _, seconds in probe.measured if seconds >= 0] == ["store.commit"]


class _Instant(_Log):
    """A store double that answers at once, and can be full. What it keeps as events is `kept`."""

    full = False

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Run] = []
        self.rests: list[Claim] = []

    def rest(self, claim: Claim) -> None:
        self.rests.append(claim)

    async def append(self, claim: Claim, entries: Sequence[Entry]) -> None:
        self.append_now(claim, entries)

    def append_now(self, claim: Claim, entries: Sequence[Entry], runs: Sequence[Run] = ()) -> None:
        self.appends += 1
        if claim.generation != self.generation:
            raise Fenced("taken over")
        if self.full and (entries or runs):
            raise StoreError("full")
        self.written.extend(entries)
        self.kept += runs


class _Gathering:
    """A source of events whose bodies are their seqs."""

    def __init__(self, committer: Committer) -> None:
        self.rows: list[Numbered] = []
        self.told: list[int] = []
        self._committer = committer
        committer.bind(self)

    def say(self, seq: int) -> None:
        if not self.rows:
            self._committer.stir()
        self.rows.append((seq, seq * 20, with_body(_EVENT, b"%04d" % seq)))

    @property
    def waiting_bytes(self) -> int:
        return 20 * len(self.rows)

    def take(self) -> list[Run]:
        rows, self.rows = self.rows, []
        return [Run(1, rows, lambda env: env[BODY])] if rows else []

    def written(self, run: Run) -> None:
        self.told += [seq for seq, _, _ in run.rows]


def test_what_is_said_in_one_turn_is_one_append() -> None:
    """A source is asked when the append begins, with whatever else was added; each run is told once."""
    for log in (_Log(), _Instant()):
        order: list[object] = []

        async def main(log: _Log = log, order: list[object] = order) -> None:
            committer = _committer(log, [], [])
            source = _Gathering(committer)
            source.say(1)
            committer.add([Entry(2, 1, 9, b"noted")], lambda: order.append("noted"))
            source.say(2)
            assert (source.told, committer.backlog_bytes) == ([], 5 + 64 + 2 * 20)
            await committer.flush()
            assert (source.told, order, committer.backlog_bytes) == ([1, 2], ["noted"], 0)
            source.say(3)
            await committer.close()
            assert source.told == [1, 2, 3]

        run(main())
        assert log.appends == 2
        kept = log.kept if isinstance(log, _Instant) else []
        entries = [entry for each in kept for entry in each.entries()] or log.written
        assert [entry.blob for entry in entries if entry.stream == 1] == [b"0001", b"0002", b"0003"]


def test_what_is_said_during_an_append_is_not_told_with_it() -> None:
    """Nobody hears of an event that is not written yet; `flush` waits for what was said before it."""
    log = _Log()

    async def main() -> None:
        committer = _committer(log, [], [])
        source = _Gathering(committer)
        source.say(1)
        await asyncio.sleep(0.001)
        source.say(2)
        flushed = asyncio.create_task(committer.flush())
        await asyncio.sleep(0.0015)
        assert (source.told, len(log.written), flushed.done()) == ([1], 1, False)
        await flushed
        assert (source.told, len(log.written)) == ([1, 2], 2)
        await committer.close()

    run(main())


def test_what_a_full_store_did_not_keep_is_written_when_there_is_room() -> None:
    """As entries then, each exactly once and in order, with what was added beside it."""
    log, health = _Instant(), list[bool]()
    log.full = True

    async def main() -> None:
        committer = _committer(log, [], health)
        source = _Gathering(committer)
        for seq in (1, 2):
            source.say(seq)
        committer.add([Entry(2, 1, 9, b"noted")])
        await asyncio.sleep(0.01)
        source.say(3)
        log.full = False
        await committer.flush()
        assert source.told == [1, 2, 3]
        source.say(4)
        await committer.flush()
        assert source.told == [1, 2, 3, 4]

    run(main())
    assert health == [False, True]
    assert [entry.blob for entry in log.written if entry.stream == 1] == [b"0001", b"0002", b"0003"]
    assert [entry.blob for each in log.kept for entry in each.entries()] == [b"0004"]


def test_a_store_that_answers_at_once_needs_no_task() -> None:
    """Its appends run in the loop itself; when it fails it is tried again like any other, and nothing is lost."""
    log, health, told = _Instant(), list[bool](), list[int]()

    async def main() -> None:
        committer = _committer(log, [], health)
        committer.add(_entries(1, 1), lambda: told.append(1))
        assert len(asyncio.all_tasks()) == 1, "only this one"
        assert committer.keeps
        await committer.flush()
        log.full = True
        committer.add(_entries(2, 2), lambda: told.append(2))
        await asyncio.sleep(0.01)
        assert health == [False]
        log.full = False
        await committer.flush()
        committer.add(_entries(3, 3), lambda: told.append(3))
        await committer.close()

    run(main())
    assert told == [1, 2, 3]
    assert health == [False, True]
    assert log.written == _entries(1, 3)


def test_a_class_that_replaces_append_alone_is_asked_by_it() -> None:
    """A store made from another by overriding `append` is never written to around it."""

    class Slow(_Instant):
        async def append(self, claim: Claim, entries: Sequence[Entry]) -> None:
            await asyncio.sleep(0.001)
            self.written.extend(entries)

        def counted(self) -> int:
            return self.appends

    log = Slow()

    async def main() -> None:
        committer = _committer(log, [], [])
        committer.add(_entries(1, 1))
        await committer.flush()
        await committer.close()

    run(main())
    assert log.written == _entries(1, 1)
    assert log.counted() == 0


def test_a_log_lost_at_once_ends_the_committer() -> None:
    """A claim that is not the newest any more is found out by the next append, and who waits is told."""
    log, fenced = _Instant(), list[Fenced]()

    async def main() -> bool:
        committer = _committer(log, fenced, [])
        log.generation += 1
        committer.add(_entries(1, 1))
        held = await committer.flush()
        await committer.close()
        return held

    assert run(main()) is False
    assert len(fenced) == 1


def test_what_was_committed_is_read_back_page_by_page() -> None:
    """From the first asked for to the head, however small the store's pages are; nothing above a hole."""

    class Pages:
        async def read(self, key: str, stream: int, first: int) -> list[Entry]:
            return _entries(first, min(first + 1, 5))

    async def main() -> None:
        assert await read_back(Pages(), "k", 1, 2, 5) == _entries(2, 5)  # type: ignore[arg-type]
        assert await read_back(Pages(), "k", 1, 4, 9) == _entries(4, 5)  # type: ignore[arg-type]
        assert await read_back(Pages(), "k", 1, 1, 0) == []  # type: ignore[arg-type]

    run(main())


def test_a_log_can_be_given_up_from_outside() -> None:
    """What waits is not written, also while an append is under way or the store is away; its owner is told once."""

    async def main() -> None:
        for down in (False, True):
            log, fenced = _Log(), list[Fenced]()
            log.down = down
            committer = _committer(log, fenced, [])
            committer.add(_entries(1, 1))
            await asyncio.sleep(0.1 if down else 0.001)
            committer.add(_entries(2, 2))
            committer.give_up(Fenced("this host was taken for dead"))
            committer.give_up(Fenced("again"))
            committer.add(_entries(3, 3))
            await committer.close()
            log.down = False
            await asyncio.sleep(5)
            assert [str(error) for error in fenced] == ["NOT_OWNER: this host was taken for dead"]
            assert log.written == []
            assert log.generation == 1
            assert not await committer.flush()

    run(main())


def test_a_store_that_dies_with_its_process_hears_that_a_log_rests() -> None:
    """Once all is written and the log is closed; not of a log that is another home's."""
    log, other = _Instant(), _Instant()

    async def main() -> None:
        committer = _committer(log, [], [])
        committer.add(_entries(1, 3))
        await committer.close()
        assert (len(log.written), log.rests) == (3, [committer.claim])
        committer = _committer(other, [], [])
        committer.give_up(Fenced("taken over"))
        await committer.close()
        assert other.rests == []

    run(main())
