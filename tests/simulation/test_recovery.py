"""What the simulation taught: each former bug of a restart, a takeover or a cancel, on its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgpack
import pytest

from laneway.actors.nlp.runs import RunDriver
from laneway.actors.nlp.vocabulary import text, text_end, text_start
from laneway.actors.pools.pool import PoolSpec
from laneway.actors.ports import Context, Out
from laneway.routing.envelope import KIND, RUN, Envelope
from laneway.routing.errors import Fenced
from tests.simulation.disk import Archive
from tests.simulation.loop import VirtualClock, run
from tests.simulation.stage import Stage, Viewer


class _Disk(Archive):
    """A durable medium that is kept from one stage to the next."""

    durable = True

    def __init__(self) -> None:
        super().__init__("the-epoch", asyncio.get_running_loop().time)
        self.off = False

    def switch_off(self) -> None:
        """The process died: nothing of it is written any more, and nothing told."""
        self.off = True

    async def append(self, claim: Any, entries: Any) -> None:
        if self.off:
            await asyncio.Event().wait()
        await super().append(claim, entries)

    def terminals(self, stage: Stage) -> Counter[tuple[str, str]]:
        """(run, kind) of every end in the log."""
        from tests.simulation.process import Packing

        found: Counter[tuple[str, str]] = Counter()
        for stream in (0, 1):
            for entry in self.kept.get("t/session/s", {}).get(stream, ()):
                env = Packing(stage.kinds).unpack(entry.blob, 0.0)
                if env[KIND] in ("RUN_FINISHED", "RUN_ERROR"):
                    found[env[RUN], env[KIND]] += 1
        return found


class _Parrot:
    """A model that says one sentence when its gate is open."""

    def __init__(self, gate: asyncio.Event) -> None:
        self.gate = gate
        self.runs = 0

    async def stream(self, run_input: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        self.runs += 1
        entity = f"{run_input['runId']}-m"
        yield text_start(entity)
        await self.gate.wait()
        yield text(entity, f"You said {run_input['messages'][-1]['content']}.")
        yield text_end(entity)


def _talker(model: _Parrot, concurrency: int = 4) -> PoolSpec:
    driver = RunDriver(model, clock=VirtualClock(asyncio.get_running_loop()))
    return PoolSpec("nlp", ["USER_MESSAGE"], driver, concurrency=concurrency, run_starting=True)


async def _stage(disk: _Disk, model: _Parrot, concurrency: int = 4) -> Stage:
    disk.off = False
    return await Stage(disk, pools=[_talker(model, concurrency)]).start()


async def _say(viewer: Viewer, counter: int, what: str = "hello") -> None:
    await viewer.send("USER_MESSAGE", counter, run=f"r{counter}", body=what.encode())


async def _die(disk: _Disk, stage: Stage) -> None:
    """As far as the disk is concerned, this process is gone; its end is only tidied up."""
    disk.switch_off()
    for home in stage.directory.homes():
        home.outbound.fail(Fenced("dead"))
        task = home._committer._task
        home._committer._closed = True
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
    await stage.dispatcher.close()


def test_a_started_run_ends_with_host_lost_and_an_unstarted_one_is_run() -> None:
    """After a crash the run that was going on gets one RUN_ERROR; the one that waited starts as if nothing was."""

    async def main() -> None:
        disk, gate = _Disk(), asyncio.Event()
        stage = await _stage(disk, _Parrot(gate), concurrency=1)
        viewer = await stage.attach()
        for counter in range(1, 6):
            await _say(viewer, counter)
        await stage.settle()
        intake = next(iter(stage.directory.homes()))._intake
        lost = {intake.pending[key][RUN] for key in intake.deliveries}
        assert lost
        assert len(lost) < 5
        await _die(disk, stage)
        gate.set()
        stage = await _stage(disk, _Parrot(gate))
        await stage.settle()
        ends = disk.terminals(stage)
        assert {run_id for run_id, kind in ends if kind == "RUN_ERROR"} == lost
        assert {run_id for run_id, kind in ends if kind == "RUN_FINISHED"} == {f"r{n}" for n in range(1, 6)} - lost
        assert set(ends.values()) == {1}
        await stage.close()

    run(main())


def test_a_run_whose_end_is_in_the_log_is_not_ended_again() -> None:
    """The crash fell between RUN_FINISHED and the record that the event is over."""

    async def main() -> None:
        disk, gate = _Disk(), asyncio.Event()
        gate.set()
        stage = await _stage(disk, _Parrot(gate))
        viewer = await stage.attach()
        await _say(viewer, 1)
        await stage.settle()
        await stage.close()
        log = disk._logs["t/session/s"]
        journal = log.streams[2]
        assert journal.rows.pop()[2][:1] == b"D"
        log.heads[2] = journal.rows[-1][:2]
        stage = await _stage(disk, _Parrot(gate))
        await stage.settle()
        assert disk.terminals(stage) == {("r1", "RUN_FINISHED"): 1}
        assert stage.directory.statistics().pending == 0
        await stage.close()

    run(main())


def test_an_interrupted_run_that_never_started_is_told_its_end() -> None:
    """A run that is cancelled in the queue ends with RUN_ERROR: its client must not wait for ever."""

    async def main() -> None:
        disk, gate = _Disk(), asyncio.Event()
        stage = await _stage(disk, _Parrot(gate), concurrency=1)
        viewer = await stage.attach()
        for counter in range(1, 6):
            await _say(viewer, counter)
        await stage.settle()
        await viewer.send("INTERRUPT", 6, run="r5")
        await viewer.read()
        errors = [item for item in viewer.items if item.envelope[KIND] == "RUN_ERROR"]
        assert [(item.envelope[RUN], msgpack.unpackb(item.envelope[11])["code"]) for item in errors] == [
            ("r5", "CANCELLED")
        ]
        gate.set()
        await stage.settle()
        assert disk.terminals(stage) == {
            **{(f"r{n}", "RUN_FINISHED"): 1 for n in range(1, 5)}, ("r5", "RUN_ERROR"): 1,
        }  # fmt: skip
        await stage.close()

    run(main())


def test_what_kills_the_process_three_times_is_dead_lettered() -> None:
    """An event that was started three times and never ended is buried at the fourth start of the engine."""
    starts: list[int] = []

    async def deadly(env: Envelope, context: Context) -> None:
        starts.append(env[1])
        await asyncio.Event().wait()

    async def main() -> None:
        disk = _Disk()
        for life in range(3):
            disk.off = False
            stage = await Stage(disk, pools=[PoolSpec("deadly", ["POISON"], deadly, grace_s=0.1)]).start()
            if life == 0:
                viewer = await stage.attach()
                await viewer.send("POISON", 1, body=b"drink me")
            await stage.settle()
            await _die(disk, stage)
        disk.off = False
        stage = await Stage(disk, pools=[PoolSpec("deadly", ["POISON"], deadly)]).start()
        assert starts == [1, 1, 1]
        (letter,) = await stage.store.dead()
        assert (letter.tenant, letter.session, letter.code, letter.attempts) == ("t", "s", "POISON", 3)
        assert stage.directory.statistics().pending == 0
        await stage.close()

    run(main())


def test_a_restart_remembers_what_users_said_and_in_which_order() -> None:
    """The transcript after a restart alternates as the conversation did."""

    async def main() -> None:
        disk, gate = _Disk(), asyncio.Event()
        gate.set()
        stage = await _stage(disk, _Parrot(gate))
        viewer = await stage.attach()
        for counter, what in ((1, "one"), (2, "two")):
            await _say(viewer, counter, what)
            await stage.settle()
        said = [(message["role"], message["content"]) for message in stage.directory.messages("t", "s")]
        await stage.close()
        stage = await _stage(disk, _Parrot(gate))
        await stage.home()
        again = [(message["role"], message["content"]) for message in stage.directory.messages("t", "s")]
        assert again == said
        assert [role for role, _ in again] == ["user", "assistant", "user", "assistant"]
        await stage.close()

    run(main())


def test_a_home_that_lost_its_session_stops_speaking_for_it() -> None:
    """After a takeover the old process cancels its run and does not claim the session back."""

    async def main() -> None:
        disk, gate = _Disk(), asyncio.Event()
        old = await _stage(disk, _Parrot(gate))
        viewer = await old.attach()
        await _say(viewer, 1)
        await old.settle()
        new = await _stage(disk, _Parrot(gate))
        await new.settle()
        gate.set()
        await old.settle()
        assert old.directory.find("t", "s") is None
        assert old.dispatcher.statistics().pending == 0
        with pytest.raises(Fenced):
            await old.emit("CUSTOM", {"too": "late"})
        assert (await new.home()).links is not None
        assert disk.terminals(new) == {("r1", "RUN_ERROR"): 1}
        await viewer.read()
        assert viewer.told("notice")[-1]["code"] == Fenced.code
        await old.close()
        await new.close()

    run(main())


def test_a_stale_home_gives_way_to_a_client_that_has_read_on_elsewhere() -> None:
    """A cursor ahead of this home is first checked against the store: another process has gone on meanwhile."""

    async def main() -> None:
        disk = _Disk()
        stale = await Stage(disk).start()
        await stale.home()
        other = await Stage(disk).start()
        viewer = await other.attach()
        await other.emit("CUSTOM", {"n": 1})
        await viewer.read()
        back = await (await stale.attach(inbox=viewer.inbox)).read()
        assert back.welcome["resume"] == "resumed"
        await stale.emit("CUSTOM", {"n": 2})
        await back.read()
        assert [item.first for item in back.items] == [2]
        await stale.close()
        await other.close()

    run(main())


def test_a_cancel_does_not_disorder_the_journal() -> None:
    """The records of what a cancel ends and of the cancel itself follow each other without a hole."""

    async def main() -> None:
        disk, gate = _Disk(), asyncio.Event()
        stage = await _stage(disk, _Parrot(gate), concurrency=1)
        viewer = await stage.attach()
        for counter in range(1, 7):
            await _say(viewer, counter)
        await stage.settle()
        await viewer.send("INTERRUPT", 7)
        await viewer.send("INTERRUPT", 8)
        await stage.settle()
        journal = disk.kept["t/session/s"][2]
        assert [entry.seq for entry in journal] == list(range(1, len(journal) + 1))
        assert stage.directory.find("t", "s") is not None
        await stage.close()

    run(main())
