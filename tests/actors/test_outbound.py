"""The outbound half: numbering, commit, waiting for credit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgpack
import pytest

from laneway.actors.committer import Committer
from laneway.actors.outbound import DATA, URGENT, Outbound
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


async def _half(granted: Callable[[], int | None] = lambda: None, budget_bytes: int = 100_000) -> _Half:
    store = MemoryStore()
    claim = await store.claim("t/session/s")
    committer = Committer(store, claim, on_fenced=lambda error: None)
    commits: list[int] = []
    outbound = Outbound(
        committer, lambda env: env[11], VirtualClock(asyncio.get_running_loop()), ring_events=100, ring_bytes=100_000,
        budget_bytes=budget_bytes, stall_s=60.0, on_commit=lambda: commits.append(1),
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
