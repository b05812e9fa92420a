"""Slow readers: what they cost the others of their session (nothing), and what becomes of them, in which order."""

from __future__ import annotations

import asyncio
from typing import Any

from laneway.routing.errors import LanewayError, SlowConsumer
from laneway.routing.window import INITIAL_WINDOW_BYTES
from tests.simulation.loop import run
from tests.simulation.stage import Stage, Viewer

BODY = b"x" * 1000


async def _produce(stage: Stage, count: int) -> float:
    """Emit as fast as it is taken; returns when it was done."""
    for _ in range(count):
        await stage.emit("CUSTOM", BODY)
        await asyncio.sleep(0.001)
    return asyncio.get_running_loop().time()


async def _follow(viewer: Viewer) -> None:
    """Read everything at once, and grant a window beyond it."""
    while True:
        frames = await viewer.attachment.frames()
        now = asyncio.get_running_loop().time()
        for frame in frames:
            viewer.headers.append(frame.header)
            viewer.items += viewer.inbox.receive(frame.header, frame.envelopes, now)
        due = viewer.inbox.ack_due(now)
        if due is not None:
            await viewer.attachment.receive(due, [])


async def _ended(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_link_that_never_reads_costs_the_others_nothing() -> None:
    """The reader gets every event at the very time it would without; the other has it from the log when it reads."""

    async def alone(stalled: int) -> tuple[float, list[Viewer], Viewer, Stage]:
        stage = await Stage(ring_events=16).start()
        others = [await stage.attach(f"stalled-{number}") for number in range(stalled)]
        reader = await stage.attach("reader")
        following = asyncio.create_task(_follow(reader))
        done_at = await _produce(stage, 1_000)
        await asyncio.sleep(1)
        await _ended(following)
        assert len(reader.items) == 1_000
        return done_at, others, reader, stage

    async def main() -> None:
        begun = asyncio.get_running_loop().time()
        without_s, _, _, first = await alone(0)
        await first.close()
        middle = asyncio.get_running_loop().time()
        with_s, others, _, stage = await alone(3)
        assert round(with_s - middle, 6) == round(without_s - begun, 6)
        for other in others:
            following = asyncio.create_task(_follow(other))
            await asyncio.sleep(5)
            await _ended(following)
            assert [item.first for item in other.items] == list(range(1, 1_001))
            assert not any(item.gap for item in other.items)
        await stage.close()

    run(main())


def test_a_run_pauses_only_while_no_live_link_has_credit() -> None:
    """One reader is enough, whichever it is; when that one leaves, those that do not read hold it again."""

    async def main() -> None:
        stage = await Stage().start()
        home = await stage.home()
        await stage.attach("stalled")
        producer = asyncio.create_task(_produce(stage, 10_000))
        await stage.settle(lambda: home.outbound.paused == 1)
        reader = await stage.attach("reader")
        following = asyncio.create_task(_follow(reader))
        await asyncio.sleep(1)
        head = home.outbound.rings[1].head_position
        assert head > 4 * INITIAL_WINDOW_BYTES
        await _ended(following)
        await reader.attachment.close()
        await asyncio.sleep(1)
        assert home.outbound.paused == 1, "the one that is left has no credit"
        assert home.outbound.rings[1].head_position < head + 10_000
        await _ended(producer)
        await stage.close()

    run(main())


def test_a_slow_link_is_paused_for_then_merged_for_then_gapped_then_closed_and_can_resume() -> None:
    """In this order and no other: each means comes only when the one before is not enough."""

    async def main() -> None:
        limits = {"ring_bytes": 60_000, "budget_bytes": 10_000, "retention_bytes": 200_000}
        stage = await Stage(**limits).start()
        home = await stage.home()
        slow = await stage.attach("slow")

        def means() -> tuple[bool, bool, bool]:
            counted = slow.attachment.link.statistics()
            return counted.merged > 0, sum(counted.gapped) > 0, slow.attachment.link.closed is not None

        # 1. it alone reads, and does not: its run waits, and nothing is lost or changed
        producer = asyncio.create_task(_produce(stage, 100))
        await stage.settle(lambda: home.outbound.paused == 1)
        await slow.read()
        assert means() == (False, False, False)

        # 2. another reads, so the run goes on: what waits for the slow one is merged
        fast = await stage.attach("fast")
        following = asyncio.create_task(_follow(fast))
        await producer
        await stage.emit("TEXT_MESSAGE_START", {"messageId": "m"})
        for _ in range(300):
            await stage.emit("TEXT_MESSAGE_CONTENT", "some words ")
            await asyncio.sleep(0.02)
        await slow.ack(grant=home.outbound.rings[1].head_position)  # what there is, and nothing beyond
        await slow.read()
        assert means() == (True, False, False)
        assert slow.text == "some words " * 300
        assert slow.attachment.link.sent.data == home.outbound.rings[1].head

        # 3. more than the ring holds, and some of it may go: what is low becomes a GAP, all else is there
        await slow.ack()
        before = len(slow.items)
        for number in range(100):
            await stage.emit("PROGRESS", {"n": number, "of": "y" * 700})
            await stage.emit("CUSTOM", f"{number:03d}")
            await asyncio.sleep(0.005)
        await asyncio.sleep(1)
        await slow.ack(grant=home.outbound.rings[1].head_position)
        await slow.read()
        assert means() == (True, True, False)
        late = slow.items[before:]
        assert {kind for item in late if item.gap for kind in item.gap.by_kind} == {"PROGRESS"}
        assert [i.envelope[11] for i in late if i.envelope[2] == "CUSTOM"] == [f"{n:03d}".encode() for n in range(100)]
        covered = [seq for item in late for seq in range(item.first, item.last + 1)]
        assert covered == list(range(covered[0], covered[0] + 200)), "the GAPs cover their seqs"

        # 4. more than the log keeps, and nothing of it may go: it is closed, and told that it can resume
        await _produce(stage, 400)
        await asyncio.sleep(1)
        await home.maintain()
        await slow.ack(grant=4_000_000)
        ended: LanewayError | None = None
        try:
            while True:
                await slow.attachment.frames()
        except LanewayError as error:
            ended = error
        assert isinstance(ended, SlowConsumer)
        assert ended.retryable
        again = await stage.attach("slow", inbox=slow.inbox)
        await again.read()
        assert (again.welcome["resume"], again.welcome["reason"]) == ("failed", "OUT_OF_WINDOW")
        assert again.headers[1].get("snapshot") is True
        assert fast.inbox.gapped == 0, "the fast one was never told of any of this"
        await _ended(following)
        await stage.close()

    run(main())
