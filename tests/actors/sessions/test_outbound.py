"""The outbound half: numbering, commit, waiting for credit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import msgpack
import pytest

from laneway.actors.meters import SessionMeters
from laneway.actors.ports import Clock
from laneway.actors.sessions.committer import Committer
from laneway.actors.sessions.outbound import DATA, URGENT, Outbound
from laneway.engine.stores.memory import MemoryStore
from laneway.routing.classify import KindTable
from laneway.routing.envelope import Envelope, envelope
from laneway.routing.errors import Draining, SlowConsumer
from tests.simulation.loop import VirtualClock, run

KINDS = KindTable()


def _event(kind: str, body: bytes = b"", run_id: str = "r") -> Envelope:
    lane = KINDS.lane(kind)
    return envelope(
        kind, producer="engine/r", counter=1, tenant="t", session="s", lane=lane, run=run_id, entity="m", body=body
    )


class _Half:
    """An Outbound over a memory store."""

    def __init__(self, outbound: Outbound, committer: Committer, commits: list[int]) -> None:
        self.outbound = outbound
        self.committer = committer
        self.commits = commits


async def _half(
    granted: Callable[[], int | None] = lambda: None,
    budget_bytes: int = 100_000,
    on_number: Callable[[Sequence[Envelope]], None] = lambda envs: None,
    clock: Clock | None = None,
) -> _Half:
    store = MemoryStore()
    claim = await store.claim("t/session/s")
    committer = Committer(store, claim, clock=VirtualClock(asyncio.get_running_loop()), on_fenced=lambda error: None)
    commits: list[int] = []
    outbound = Outbound(
        committer, lambda env: env[11], clock or VirtualClock(asyncio.get_running_loop()), ring_events=100,
        ring_bytes=100_000, budget_bytes=budget_bytes, stall_s=60.0, on_commit=lambda: commits.append(1),
        on_number=on_number,
    )  # fmt: skip
    outbound.bind_grants(granted)
    return _Half(outbound, committer, commits)


def test_links_and_snapshot_learn_of_an_event_at_the_same_moment() -> None:
    """Before the commit an event is in neither the readable ring nor the transcript; afterwards it is in both."""

    async def main() -> None:
        half = await _half()
        await half.outbound.emit(_event("TEXT_MESSAGE_START", msgpack.packb({"messageId": "m"})))
        assert (half.outbound.rings[DATA].committed, len(half.outbound.transcript), half.commits) == (0, 0, [])
        await half.committer.flush()
        assert (half.outbound.rings[DATA].committed, len(half.outbound.transcript), half.commits) == (1, 1, [1])

    run(main())


def test_run_error_flushes_what_is_held_and_names_the_seq_it_stands_after() -> None:
    """Held deltas are numbered before an urgent event, which tells the data seq behind which it stands."""

    async def main() -> None:
        half = await _half()
        for text in (b"first, ", b"a", b"b"):
            await half.outbound.emit(_event("TEXT_MESSAGE_CONTENT", text))
        assert half.outbound.rings[DATA].head == 1
        await half.outbound.emit(_event("RUN_ERROR", msgpack.packb({"code": "X"})))
        await half.committer.flush()
        error = half.outbound.rings[URGENT].get(1)
        assert error is not None
        assert msgpack.unpackb(error[11]) == {"code": "X", "after": 2}
        assert half.outbound.rings[DATA].get(2)[11] == b"ab"  # type: ignore[index]

    run(main())


def test_a_held_delta_goes_out_by_itself_after_a_while() -> None:
    """15 ms after it came, a delta without company is numbered."""

    async def main() -> None:
        half = await _half()
        await half.outbound.emit(_event("TEXT_MESSAGE_CONTENT", b"first, "))
        await half.outbound.emit(_event("TEXT_MESSAGE_CONTENT", b"a"))
        await asyncio.sleep(0.1)
        assert half.outbound.rings[DATA].committed == 2

    run(main())


def test_events_that_come_together_are_numbered_together_as_far_as_there_is_room() -> None:
    """In order, urgent ones in their own stream; where the credit ends the rest waits like any other event."""

    async def main() -> None:
        grant = [200]
        half = await _half(lambda: grant[0])
        together = [_event("CUSTOM", b"1" * 150), _event("RUN_ERROR"), _event("CUSTOM", b"2" * 150)]
        emitting = asyncio.create_task(half.outbound.emit_all([*together, _event("CUSTOM", b"3")]))
        await asyncio.sleep(0.01)
        assert (half.outbound.issued[URGENT], half.outbound.issued[DATA], half.outbound.paused) == (1, 2, 1)
        grant[0] = 1000
        half.outbound.wake_producers()
        await emitting
        ring = half.outbound.rings[DATA]
        assert [ring.get(seq)[11][:1] for seq in (1, 2, 3)] == [b"1", b"2", b"3"]  # type: ignore[index]
        half.outbound.fail(Draining("over"))
        with pytest.raises(Draining):
            await half.outbound.emit_all([_event("CUSTOM")])

    run(main())


def test_what_need_not_wait_is_taken_at_once() -> None:
    """Up to the first event without credit; urgent ones have it always, and after the end nothing is taken."""

    async def main() -> None:
        room = 0
        half = await _half(granted=lambda: room)
        urgent, other = _event("RUN_ERROR"), _event("CUSTOM", b"1")
        assert half.outbound.emit_ready([urgent, other, urgent]) == 1
        room = 1_000
        half.outbound.taken(0)
        assert half.outbound.emit_ready([other, urgent]) == 2
        assert [half.outbound.rings[stream].head for stream in (URGENT, DATA)] == [2, 1]
        half.outbound.fail(Draining("over"))
        assert half.outbound.emit_ready([urgent]) == 0

    run(main())


def test_a_held_delta_of_several_goes_out_by_itself() -> None:
    """Its timer runs while nothing else is emitted."""

    async def main() -> None:
        half = await _half()
        await half.outbound.emit_all([_event("TEXT_MESSAGE_CONTENT", text) for text in (b"first, ", b"a", b"b")])
        await asyncio.sleep(0.1)
        assert half.outbound.rings[DATA].get(2)[11] == b"ab"  # type: ignore[index]

    run(main())


def test_a_cancelled_waiter_hands_its_turn_on() -> None:
    """A producer that is cancelled in the moment it is woken does not leave the next one asleep."""

    async def main() -> None:
        grant = [10]
        half = await _half(lambda: grant[0])
        await half.outbound.emit(_event("CUSTOM", b"x"))
        waiting = [asyncio.create_task(half.outbound.emit(_event("CUSTOM", b"x"))) for _ in range(2)]
        await asyncio.sleep(0.01)
        assert half.outbound.paused == 2
        grant[0] = 1000
        half.outbound.wake_producers()
        waiting[0].cancel()
        await asyncio.wait(waiting)
        assert waiting[0].cancelled()
        assert half.outbound.rings[DATA].head == 2
        assert half.outbound.paused == 0
        await half.committer.flush()

    run(main())


def test_a_producer_that_gives_up_leaves_no_trace() -> None:
    """A cancelled or timed-out wait is not counted any more, however long nobody reads."""

    async def main() -> None:
        half = await _half(lambda: 0)
        cancelled = asyncio.create_task(half.outbound.emit(_event("CUSTOM")))
        late = asyncio.create_task(half.outbound.emit(_event("CUSTOM")))
        await asyncio.sleep(0.01)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        assert half.outbound.paused == 1
        with pytest.raises(SlowConsumer, match="UNREAD"):
            await late
        assert half.outbound.paused == 0

    run(main())


def test_the_end_reaches_every_waiting_and_later_producer() -> None:
    """After `fail` nobody waits and nothing is numbered."""

    async def main() -> None:
        half = await _half(lambda: 0)
        waiting = asyncio.create_task(half.outbound.emit(_event("CUSTOM")))
        await asyncio.sleep(0.01)
        half.outbound.fail(Draining("over"))
        with pytest.raises(Draining):
            await waiting
        with pytest.raises(Draining):
            await half.outbound.emit(_event("RUN_ERROR"))
        assert half.outbound.issued == [0, 0]

    run(main())


def test_numbering_goes_on_after_an_empty_tail() -> None:
    """A log whose entries were all trimmed still says where to go on."""

    async def main() -> None:
        half = await _half()
        half.outbound.restore(DATA, [], (41, 5_000))
        ring = half.outbound.rings[DATA]
        assert (ring.head, ring.head_position, ring.committed) == (41, 5_000, 41)
        assert half.outbound.acked_position == 5_000

    run(main())


def test_a_session_that_nobody_reads_gives_its_producers_up() -> None:
    """With no link a producer runs the budget ahead, waits `stall_s`, and ends with SlowConsumer(UNREAD)."""

    async def main() -> None:
        half = await _half(budget_bytes=200)
        for _ in range(2):
            await half.outbound.emit(_event("CUSTOM", b"x" * 100))
        began = asyncio.get_running_loop().time()
        with pytest.raises(SlowConsumer) as caught:
            await half.outbound.emit(_event("CUSTOM"))
        assert (caught.value.reason, caught.value.retryable) == ("UNREAD", True)
        assert asyncio.get_running_loop().time() - began == pytest.approx(60.0)
        assert half.outbound.rings[DATA].head == 2
        await half.outbound.emit(_event("RUN_ERROR"))  # its end can still be told
        assert half.outbound.rings[URGENT].head == 1
        await half.committer.flush()

    run(main())


def test_waiters_wake_in_lane_order() -> None:
    """When there is room again the most urgent lane goes on first, and inside a lane who came first."""

    async def main() -> None:
        grant = [0]
        half = await _half(lambda: grant[0])
        waiting = []
        for number, kind in enumerate(["LOG", "CUSTOM", "TOOL_CALL_START", "LOG", "CUSTOM", "TOOL_CALL_START"]):
            waiting.append(asyncio.create_task(half.outbound.emit(_event(kind, b"%d" % number, f"r{number}"))))
            await asyncio.sleep(0)
        for step in range(1, 7):
            grant[0] = half.outbound.rings[DATA].head_position + 1
            half.outbound.wake_producers()
            await asyncio.sleep(0.001)
            assert half.outbound.rings[DATA].head == step
        await asyncio.gather(*waiting)
        await half.committer.flush()
        assert [env[11] for _, _, env in half.outbound.rings[DATA].read(1, 10)] == [b"2", b"5", b"1", b"4", b"0", b"3"]

    run(main())


def test_nobody_overtakes_who_waits() -> None:
    """An event that comes when there is room again queues behind the producers that wait for it."""

    async def main() -> None:
        grant = [0]
        half = await _half(lambda: grant[0])
        first = asyncio.create_task(half.outbound.emit(_event("CUSTOM", b"first")))
        await asyncio.sleep(0)
        grant[0] = 10_000
        later = asyncio.create_task(half.outbound.emit(_event("CUSTOM", b"later")))
        await asyncio.sleep(0)
        half.outbound.wake_producers()
        await asyncio.gather(first, later)
        await half.committer.flush()
        assert [env[11] for _, _, env in half.outbound.rings[DATA].read(1, 10)] == [b"first", b"later"]

    run(main())


def test_a_turn_that_comes_too_late_is_handed_on() -> None:
    """A producer whose time ends in the moment it is woken does not leave the next one asleep."""

    async def main() -> None:
        grant = [0]
        half = await _half(lambda: grant[0])
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + 60.0
        doomed = asyncio.create_task(half.outbound.emit(_event("CUSTOM", b"doomed")))
        await asyncio.sleep(30)
        next_one = asyncio.create_task(half.outbound.emit(_event("CUSTOM", b"next")))

        def wake() -> None:
            grant[0] = 10_000
            half.outbound.wake_producers()

        loop.call_at(ends_at - 5e-10, wake)  # less than a tick: both timers fire in one turn of the loop
        (ended,) = await asyncio.gather(doomed, return_exceptions=True)
        assert isinstance(ended, SlowConsumer)
        async with asyncio.timeout(1):
            await next_one
        await half.committer.flush()

    run(main())


def test_the_first_text_of_a_run_is_timed_at_its_commit(rig: SimpleNamespace) -> None:
    """Once per run, from its acceptance, when the log has the text and not when it was emitted."""
    probe = rig.Probe()

    async def main() -> None:
        store = MemoryStore()
        claim = await store.claim("t/session/s")
        clock = VirtualClock(asyncio.get_running_loop())
        committer = Committer(store, claim, clock=clock, on_fenced=lambda error: None)
        outbound = Outbound(
            committer, lambda env: env[11], clock, ring_events=100, ring_bytes=100_000,
            budget_bytes=100_000, stall_s=60.0, on_commit=lambda: None, meters=SessionMeters(probe),
        )  # fmt: skip
        outbound.awaited["r"] = clock.now()
        await outbound.emit(_event("TEXT_MESSAGE_START", msgpack.packb({"messageId": "m"})))
        await committer.flush()
        assert probe.measured == []
        await asyncio.sleep(2)
        for text in (b"first", b"second"):
            await outbound.emit(_event("TEXT_MESSAGE_CONTENT", text))
        assert probe.measured == []
        await committer.flush()
        assert [(name, round(seconds, 1)) for name, _, seconds in probe.measured] == [("run.first_text", 2.0)]
        assert not outbound.awaited
        outbound.flush()
        await committer.flush()

    run(main())


def _gathers(half: _Half, text: bytes) -> bool:
    add = half.outbound.gathering("r", "TEXT_MESSAGE_CONTENT", "m")
    return add is not None and add(text)


async def _half_that_holds() -> _Half:
    """One delta is numbered and not taken yet, the next is held."""
    half = await _half()
    await half.outbound.emit(_event("TEXT_MESSAGE_CONTENT", b"first, "))
    await half.outbound.emit(_event("TEXT_MESSAGE_CONTENT", b"second, "))
    assert half.outbound.rings[DATA].head == 1
    return half


def test_a_delta_that_extends_what_is_held_takes_no_number() -> None:
    """The text comes as one event, in order, and is told of once."""

    async def main() -> None:
        half = await _half()
        assert not _gathers(half, b"nothing is held")
        half = await _half_that_holds()
        for text in (b"third, ", b"fourth"):
            assert _gathers(half, text)
        await half.outbound.emit(_event("TEXT_MESSAGE_END"))
        await half.committer.flush()
        ring = half.outbound.rings[DATA]
        assert ring.get(2)[11] == b"second, third, fourth"  # type: ignore[index]
        assert ring.head == 3

    run(main())


def test_a_delta_without_credit_is_not_gathered() -> None:
    """It has to be emitted, which waits; the order among those who wait stays."""

    async def main() -> None:
        grant = [60]
        half = await _half(lambda: grant[0])
        await half.outbound.emit(_event("TEXT_MESSAGE_CONTENT", b"first, "))
        await half.outbound.emit(_event("TEXT_MESSAGE_CONTENT", b"second, "))
        assert _gathers(half, b"a third that uses up the credit")
        assert not _gathers(half, b"a fourth")
        waiting = asyncio.create_task(half.outbound.emit(_event("TEXT_MESSAGE_CONTENT", b"a fourth")))
        await asyncio.sleep(0.001)
        grant[0] = 1000
        assert not _gathers(half, b"a fifth")
        half.outbound.taken(0)
        await waiting

    run(main())


def test_after_the_end_nothing_is_gathered() -> None:
    """A delta that only would extend what was held raises like every other."""

    async def main() -> None:
        half = await _half_that_holds()
        add = half.outbound.gathering("r", "TEXT_MESSAGE_CONTENT", "m")
        half.outbound.fail(Draining("over"))
        assert not _gathers(half, b"third")
        assert add is not None
        assert not add(b"third")

    run(main())


def test_what_a_link_took_lets_the_next_delta_pass_at_once() -> None:
    """Deltas gather behind one that nobody has taken; a reader that keeps up gets each as it comes."""

    async def main() -> None:
        half = await _half()
        for text in (b"first, ", b"second, ", b"third"):
            await half.outbound.emit(_event("TEXT_MESSAGE_CONTENT", text))
            half.outbound.taken(0)
            await asyncio.sleep(0.02)
        assert half.outbound.rings[DATA].head == 3
        await half.outbound.emit(_event("TEXT_MESSAGE_CONTENT", b", fourth"))
        await asyncio.sleep(0.05)
        await half.outbound.emit(_event("TEXT_MESSAGE_CONTENT", b", fifth"))
        assert half.outbound.rings[DATA].head == 4

    run(main())


def test_every_event_that_gets_a_number_is_told_once() -> None:
    """Also an urgent one; what is gathered is told of as the one event it becomes."""

    async def main() -> None:
        told: list[bytes] = []
        half = await _half(on_number=lambda envs: told.extend(env[11] for env in envs))
        for kind, text in (("TEXT_MESSAGE_CONTENT", b"a"), ("TEXT_MESSAGE_CONTENT", b"b"), ("TEXT_MESSAGE_END", b"")):
            await half.outbound.emit(_event(kind, text))
        assert not _gathers(half, b"c")
        await half.committer.flush()
        assert told == [b"a", b"b", b""]

    run(main())


def test_a_late_loop_gathers_longer_up_to_a_bound() -> None:
    """Whoever calls the timer late has too much to do: the next deltas wait longer, 20 ms at most."""

    async def main() -> None:
        clock = _LateClock(VirtualClock(asyncio.get_running_loop()))
        half = await _half(clock=clock)
        waits = []
        for _ in range(12):
            await half.outbound.emit(_event("TEXT_MESSAGE_CONTENT", b"held, "))
            if (due := half.outbound._coalescer.deadline()) is not None:
                waits.append(round(due - clock.now(), 4))
            await asyncio.sleep(0.005)
            clock.ahead_s += 0.010
            await asyncio.sleep(0.030)
        assert waits[0] == 0.010
        assert max(waits) == 0.020

    run(main())


class _LateClock:
    """Jumps ahead while the loop believes that it is in time."""

    def __init__(self, clock: VirtualClock) -> None:
        self.ahead_s = 0.0
        self._clock = clock

    def now(self) -> float:
        return self._clock.now() + self.ahead_s
