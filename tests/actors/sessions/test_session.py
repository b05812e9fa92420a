"""The home of a session, whole: what comes in, what goes out, what survives it."""

from __future__ import annotations

import asyncio
import gc
import itertools
import weakref
from collections.abc import AsyncIterator

import msgpack
import pytest

from laneway.actors.pools.pool import PoolSpec
from laneway.actors.ports import Context, Out
from laneway.actors.sessions.intake import INBOUND
from laneway.actors.sessions.session import SessionHome, session_key
from laneway.routing.envelope import BODY, COUNTER, KIND, RUN, Envelope
from laneway.routing.errors import Draining, Fenced, LinkClosed
from laneway.routing.inbox import Inbox
from laneway.routing.replay import Cursor
from tests.actors.sessions.stage import Caller, Disk, an_event
from tests.simulation.loop import run
from tests.simulation.stage import Stage, Viewer


async def _speak(env: Envelope, context: Context) -> AsyncIterator[Out]:
    """A run that repeats what it was told, word by word; `fail` and `hang` do what they say."""
    said = env[BODY].decode()
    message = f"m-{env[RUN]}"
    yield Out("RUN_STARTED", msgpack.packb({"threadId": context.session, "runId": env[RUN]}))
    yield Out("TEXT_MESSAGE_START", msgpack.packb({"messageId": message, "role": "assistant"}), message)
    for word in said.split():
        yield Out("TEXT_MESSAGE_CONTENT", f"{word} ".encode(), message)
    if said == "fail":
        raise ValueError("as asked")
    if said == "hang":
        await asyncio.sleep(1e6)
    yield Out("TEXT_MESSAGE_END", msgpack.packb({"messageId": message}), message)
    yield Out("RUN_FINISHED", msgpack.packb({"threadId": context.session, "runId": env[RUN]}))


RUNS = PoolSpec("runs", ["USER_MESSAGE"], _speak, run_starting=True)


async def _served(stage: Stage, said: bytes, inbox: Inbox | None = None) -> Viewer:
    """One client, one message, and everything that came of it."""
    viewer = await stage.attach(inbox=inbox)
    await viewer.send("USER_MESSAGE", 1, body=said, run="r1")
    await viewer.read()
    await viewer.ack()
    return viewer


def _errors(viewer: Viewer) -> list[dict[str, object]]:
    return [msgpack.unpackb(item.envelope[11]) for item in viewer.items if item.envelope[2] == "RUN_ERROR"]


def test_a_message_is_answered() -> None:
    """The OK, then the run from its start to its end, in order, and both sides in the transcript."""

    async def main() -> None:
        stage = await Stage(pools=[RUNS]).start()
        viewer = await _served(stage, b"good morning")
        assert viewer.told("ok") == [[[1, 1, "volatile"]]]
        assert (viewer.kinds[0], viewer.kinds[-1]) == ("RUN_STARTED", "RUN_FINISHED")
        assert viewer.text == "good morning "
        home = await stage.home()
        assert [(m["role"], m["content"]) for m in home.messages()] == [
            ("user", "good morning"),
            ("assistant", "good morning "),
        ]
        gauges = home.statistics()
        assert (gauges.links, gauges.pending, gauges.paused, gauges.commit_backlog_bytes) == (1, 0, 0, 0)
        assert (gauges.issued_urgent, gauges.issued_data) == (0, home.outbound.rings[1].head)
        await stage.close()

    run(main())


def test_a_failed_run_ends_with_one_error() -> None:
    """A handler that raises gives RUN_ERROR, which names the data seq it stands after; the session goes on."""

    async def main() -> None:
        stage = await Stage(pools=[RUNS]).start()
        viewer = await _served(stage, b"fail")
        (error,) = _errors(viewer)
        assert error["code"] == "HANDLER_FAILED"
        assert error["after"] == (await stage.home()).outbound.rings[1].head
        await viewer.send("USER_MESSAGE", 2, body=b"again", run="r2")
        await viewer.read()
        assert viewer.kinds[-1] == "RUN_FINISHED"
        await stage.close()

    run(main())


def test_an_interrupt_ends_the_run_of_this_session() -> None:
    """It is acted on although the run waits for ever, and the run's end is told once."""

    async def main() -> None:
        stage = await Stage(pools=[RUNS]).start()
        viewer = await _served(stage, b"hang")
        await viewer.send("INTERRUPT", 2, run="r1")
        await viewer.read()
        assert [error["code"] for error in _errors(viewer)] == ["CANCELLED"]
        assert (await stage.home()).statistics().pending == 0
        await stage.close()

    run(main())


def test_a_session_that_nobody_reads_frees_its_runs() -> None:
    """With nobody there a run goes on as far as the budget, waits, and then ends SLOW_CONSUMER; the home may sleep."""

    async def main() -> None:
        stage = await Stage(pools=[RUNS], budget_bytes=2_000, stall_s=30.0, idle_s=60.0).start()
        viewer = await stage.attach()
        await viewer.send("USER_MESSAGE", 1, body=b"word " * 1000, run="r1")
        await viewer.attachment.close()
        await asyncio.sleep(10)
        home = await stage.home()
        assert (home.statistics().pending, home.statistics().paused) == (1, 1)
        assert not home.idle
        await asyncio.sleep(30)
        assert (home.statistics().pending, home.statistics().paused) == (0, 0)
        late = await stage.attach("late", inbox=Inbox(Cursor(home.epoch)))
        await late.read()
        assert [error["code"] for error in _errors(late)] == ["SLOW_CONSUMER"]
        await late.attachment.close()
        await asyncio.sleep(61)
        assert home.idle
        await stage.close()

    run(main())


def test_a_later_home_knows_what_was_said_and_sent() -> None:
    """Rebuilt from the log: numbers, positions, transcript and dedupe are those of the home before."""

    async def main() -> None:
        disk = Disk()
        stage = await Stage(disk, pools=[RUNS]).start()
        viewer = await _served(stage, b"remember this")
        before = await stage.home()
        said, rings = before.messages(), before.outbound.rings
        await stage.close()
        stage = await Stage(disk, pools=[RUNS]).start()
        after = await stage.home()
        assert after.messages() == said
        assert [(r.head, r.head_position) for r in after.outbound.rings] == [(r.head, r.head_position) for r in rings]
        again = await _served(stage, b"remember this", viewer.inbox)
        assert (again.welcome["resume"], again.told("ok"), again.items) == ("resumed", [[[1, 1, "duplicate"]]], [])
        await stage.close()

    run(main())


def test_a_run_that_was_going_on_is_ended_by_the_next_home() -> None:
    """Who comes back after a crash finds HOST_LOST behind what the run had said, and once only."""

    async def main() -> None:
        disk = Disk()
        crashed = await Stage(disk, pools=[RUNS]).start()
        viewer = await _served(crashed, b"hang")
        stage = await Stage(disk, pools=[RUNS]).start()  # the other process is still there, and is fenced
        again = await (await stage.attach(inbox=viewer.inbox)).read()
        assert [error["code"] for error in _errors(again)] == ["HOST_LOST"]
        await again.ack()
        await stage.close()
        last = await Stage(disk, pools=[RUNS]).start()
        assert (await (await last.attach(inbox=again.inbox)).read()).items == []
        await last.close()
        await crashed.close()

    run(main())


def test_a_home_that_lost_its_log_falls_silent() -> None:
    """It numbers nothing more, its links end NOT_OWNER, what runs in it is cancelled, and the directory forgets it."""

    async def main() -> None:
        disk = Disk()
        stage = await Stage(disk, pools=[RUNS]).start()
        viewer = await _served(stage, b"hang")
        home = await stage.home()
        await disk.claim(session_key("t", "s"))
        await stage.emit("CUSTOM", {"n": 1})
        await viewer.read()
        assert viewer.told("notice")[-1]["code"] == "NOT_OWNER"
        assert "CUSTOM" not in viewer.kinds
        assert _errors(viewer) == []
        with pytest.raises(Fenced):
            await home.outbound.emit(stage.event("CUSTOM"))
        assert stage.directory.find("t", "s") is None
        await stage.settle(lambda: stage.dispatcher.statistics().pending == 0)
        await stage.close()

    run(main())


def test_a_log_that_comes_back_brings_its_events_along() -> None:
    """What was cancelled because another home had it is handled after all, and no id is given twice."""

    async def main() -> None:
        begun: list[int] = []
        go_on = asyncio.Event()

        async def handle(env: Envelope, context: Context) -> None:
            begun.append(env[COUNTER])
            await go_on.wait()

        disk = Disk()
        stage = await Stage(disk, pools=[RUNS, PoolSpec("work", ["ECHO"], handle, concurrency=1)]).start()
        viewer = await _served(stage, b"hang")
        for counter in (2, 3):
            await viewer.send("ECHO", counter)
        await viewer.read()
        ids = []
        for counter in (9, 10):
            await disk.claim(session_key("t", "s"))
            await stage.emit("CUSTOM", {"n": 1})  # here it finds out
            await viewer.read()
            assert stage.directory.find("t", "s") is None
            viewer = await (await stage.attach(inbox=viewer.inbox)).read()
            ids += [item.envelope[COUNTER] for item in viewer.items if item.envelope[KIND] == "RUN_ERROR"]
            await viewer.send("USER_MESSAGE", counter, body=b"hang", run=f"r{counter}")
            await viewer.read()
        go_on.set()
        await viewer.send("INTERRUPT", 11)
        await stage.settle(lambda: stage.dispatcher.statistics().pending == 0)
        assert sorted(set(begun)) == [2, 3]
        assert begun[-2:] == [2, 3]
        assert (await stage.home()).statistics().pending == 0
        assert len(ids) == len(set(ids)) == 2
        await stage.close()

    run(main())


def test_closing_writes_what_was_held() -> None:
    """A delta that waited for company is in the log when `close` returns; later emits raise its error."""

    async def main() -> None:
        disk = Disk()
        stage = await Stage(disk).start()
        await stage.emit("TEXT_MESSAGE_CONTENT", "first, ")
        await stage.emit("TEXT_MESSAGE_CONTENT", "x")
        home = await stage.home()
        assert home.outbound.rings[1].head == 1
        await home.finish()
        home.close(Draining("over"))
        assert len(await disk.read(session_key("t", "s"), 1, 1)) == 2
        with pytest.raises(Draining):
            await home.outbound.emit(stage.event("CUSTOM"))
        await stage.close()

    run(main())


def test_logs_are_trimmed_to_their_retention() -> None:
    """Behind what memory holds a stream keeps no more than its retention; who asks for less gets a snapshot."""

    async def main() -> None:
        disk = Disk()
        stage = await Stage(disk, ring_events=16, retention_bytes=4_000).start()
        viewer = await stage.attach()
        await viewer.attachment.receive({"grant": 1_000_000}, ())
        await stage.emit("TEXT_MESSAGE_START", {"messageId": "m", "role": "assistant"})
        for number in range(200):
            await stage.emit("TEXT_MESSAGE_CONTENT", f"sentence number {number} in full. ")
            await asyncio.sleep(0.05)
        await viewer.read()
        home = await stage.home()
        await home.maintain()
        kept = await disk.read(home_key := session_key("t", "s"), 1, 1)
        assert kept[0].seq == home.outbound.rings[1].first > 100
        gone = await (await stage.attach("late", inbox=Inbox(Cursor(home.epoch, 0, 3)))).read()
        assert (gone.welcome["resume"], gone.welcome["reason"]) == ("failed", "OUT_OF_WINDOW")
        assert gone.kinds == ["MESSAGES_SNAPSHOT"]
        held = Cursor(home.epoch, 0, kept[0].seq - 1)
        back = await (await stage.attach("back", inbox=Inbox(held))).read()
        assert back.welcome["resume"] == "resumed"
        await stage.close()
        stage = await Stage(disk, ring_events=16).start()  # a later home knows the floor too
        again = await (await stage.attach("late", inbox=Inbox(Cursor(home.epoch, 0, 3)))).read()
        assert again.welcome["reason"] == "OUT_OF_WINDOW"
        assert (await disk.read(home_key, 1, 1))[0].seq == kept[0].seq
        await stage.close()

    run(main())


def test_the_journal_is_trimmed_to_its_checkpoint() -> None:
    """However much comes in, the inbound log stays short, and what it forgot is still a duplicate."""

    async def main() -> None:
        disk = Disk()
        stage = await Stage(disk, checkpoint_records=30).start()
        home = await stage.home()
        caller = Caller()
        for counter in range(1, 41):
            home.ingest(caller, [an_event(counter, "INTERRUPT")])
            await asyncio.sleep(0.1)
            await home.maintain()
        assert len(await disk.read(session_key("t", "s"), INBOUND, 1)) <= 62
        await stage.close()
        stage = await Stage(disk).start()
        (await stage.home()).ingest(caller, [an_event(1, "INTERRUPT")])
        await stage.settle()
        assert caller.ok[-1] == (1, "duplicate")
        await stage.close()

    run(main())


def test_a_home_is_idle_when_nothing_would_be_lost() -> None:
    """Not while there is a link, work or recent traffic."""

    async def main() -> None:
        stage = await Stage(pools=[RUNS], idle_s=10.0).start()
        home: SessionHome = await stage.home()
        assert not home.idle
        await asyncio.sleep(10)
        assert home.idle
        viewer = await stage.attach()
        await asyncio.sleep(20)
        assert not home.idle
        await viewer.send("USER_MESSAGE", 1, body=b"hang", run="r1")
        await viewer.read()
        await viewer.attachment.close()
        await asyncio.sleep(20)
        assert not home.idle
        stage.dispatcher.cancel("t", "s", run="r1")
        await asyncio.sleep(20)
        assert home.idle
        await stage.close()

    run(main())


def test_everything_that_passes_can_be_watched() -> None:
    """The observer is shown each accepted event and each emitted one, in order, and nothing that was refused."""

    async def main() -> None:
        shown: list[tuple[str, str]] = []
        stage = Stage(pools=[RUNS], observe=lambda direction, envs: shown.extend((direction, env[2]) for env in envs))
        await stage.start()
        viewer = await stage.attach()
        counters = itertools.count(1)
        for kind in ("RUN_STARTED", "NO_SUCH", "USER_MESSAGE"):
            await viewer.send(kind, next(counters), body=b"hi", run="r1")
        await viewer.read()
        assert shown[0] == ("in", "USER_MESSAGE")
        assert [direction for direction, _ in shown[1:]] == ["out"] * 5
        assert shown[-1] == ("out", "RUN_FINISHED")
        await stage.close()

    run(main())


def test_who_asks_for_a_run_by_its_id_reads_all_of_it() -> None:
    """A late link begins where the run began, and not with what was said before, also in the next process."""

    async def main() -> None:
        disk = Disk()
        stage = await Stage(disk, pools=[RUNS]).start()
        viewer = await _served(stage, b"before")
        await viewer.send("USER_MESSAGE", 2, body=b"good morning", run="r2")
        await viewer.read()
        late = await stage.attach("late", run="r2")
        await late.read()
        assert (late.welcome["resume"], late.kinds[0], late.text) == ("run", "RUN_STARTED", "good morning ")
        assert (await stage.attach("new", run="r3")).attachment._opening[0].header["welcome"]["resume"] == "new"
        await stage.close()
        stage = await Stage(disk, pools=[RUNS]).start()
        later = await stage.attach("later", run="r2")
        await later.read()
        assert (later.welcome["resume"], later.kinds, later.text) == ("run", late.kinds, late.text)
        await stage.close()

    run(main())


def test_a_run_that_has_left_the_log_cannot_be_read_from_its_beginning() -> None:
    """The link is told OUT_OF_WINDOW and gets the transcript instead."""

    async def main() -> None:
        stage = await Stage(pools=[RUNS], ring_events=4, retention_bytes=16).start()
        viewer = await _served(stage, b"one two three four five six seven eight")
        await viewer.send("USER_MESSAGE", 2, body=b"word " * 40, run="r2")
        await viewer.read()
        home = await stage.home()
        await home.flush()
        await home.maintain()
        late = await stage.attach("late", run="r1")
        await late.read()
        assert (late.welcome["resume"], late.welcome["reason"]) == ("failed", "OUT_OF_WINDOW")
        assert late.told("snapshot") == [True]
        await stage.close()

    run(main())


def test_who_sleeps_goes_at_once() -> None:
    """A home that was put to sleep, and a link that was left, are gone with the last who asks, not when garbage is
    collected: nothing of them is left for the collector.
    """

    async def main() -> None:
        stage = await Stage(pools=[RUNS], idle_s=1.0).start()
        viewer = await _served(stage, b"some words")
        home, link = weakref.ref(await stage.home()), weakref.ref(viewer.attachment.link)
        await viewer.attachment.receive({"bye": True}, ())
        try:
            await viewer.attachment.frames()
        except LinkClosed as error:
            error.with_traceback(None)
        await viewer.attachment.close()
        del viewer
        await asyncio.sleep(0.1)
        assert link() is None
        await asyncio.sleep(2.0)
        await stage.directory.sweep()
        await asyncio.sleep(0.1)
        assert stage.directory.find("t", "s") is None
        assert home() is None
        await stage.close()

    gc.collect()
    gc.disable()
    try:
        run(main())
    finally:
        gc.enable()


def test_who_is_put_to_sleep_twice_is_let_go_once() -> None:
    """Who comes second, while the log is still being written, takes nothing from it."""

    async def main() -> None:
        disk = Disk()
        stage = await Stage(disk, pools=[RUNS], idle_s=1.0).start()
        disk.append_s = 0.5
        await stage.emit("TEXT_MESSAGE_START", {"messageId": "m", "role": "assistant"})
        await stage.emit("TEXT_MESSAGE_CONTENT", "the last words")
        home = await stage.home()
        await asyncio.gather(stage.directory._sleep(home), stage.directory._sleep(home))
        viewer = await stage.attach()
        await viewer.read()
        snapshot = next(item for item in viewer.items if item.envelope[KIND] == "MESSAGES_SNAPSHOT")
        (message,) = msgpack.unpackb(snapshot.envelope[BODY])["messages"]
        assert message["content"] == "the last words"
        await stage.close()

    run(main())
