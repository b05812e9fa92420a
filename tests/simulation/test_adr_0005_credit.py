"""ADR 5: credit is an absolute position in the data stream, a pure function of the log."""

from __future__ import annotations

import asyncio

from laneway.routing.replay import SEQ_COST_BYTES
from laneway.routing.window import INITIAL_WINDOW_BYTES
from tests.simulation.loop import run
from tests.simulation.stage import Stage

BODY = b"x" * 1000
WEIGHT = len(BODY) + SEQ_COST_BYTES


async def _produce(stage: Stage, count: int, run_id: str = "r") -> None:
    for _ in range(count):
        await stage.emit("CUSTOM", BODY, run=run_id)


def test_nothing_that_starts_beyond_the_grant_is_sent() -> None:
    """The first grant is 64 KiB past the start; at most one seq overshoots."""

    async def main() -> None:
        stage = await Stage().start()
        viewer = await stage.attach()
        producer = asyncio.create_task(_produce(stage, 500))
        await viewer.read()
        assert viewer.welcome["grant"] == INITIAL_WINDOW_BYTES
        assert viewer.inbox.position is not None
        assert INITIAL_WINDOW_BYTES <= viewer.inbox.position < INITIAL_WINDOW_BYTES + WEIGHT
        assert viewer.inbox.position == len(viewer.items) * WEIGHT
        producer.cancel()
        await asyncio.gather(producer, return_exceptions=True)
        await stage.close()

    run(main())


def test_a_lower_repeated_or_reordered_grant_is_harmless() -> None:
    """Grants only rise, so what the network does to them does not matter."""

    async def main() -> None:
        stage = await Stage().start()
        viewer = await stage.attach()
        producer = asyncio.create_task(_produce(stage, 150))
        await viewer.read()
        for grant in (100_000, 20, 100_000, 70_000):
            await viewer.ack(grant=grant)
        await viewer.read()
        assert viewer.inbox.position is not None
        assert 100_000 <= viewer.inbox.position < 100_000 + WEIGHT
        await viewer.ack(grant=1_000_000)
        await viewer.read()
        await producer
        assert len(viewer.items) == 150
        await stage.close()

    run(main())


def test_the_producer_pauses_at_the_furthest_grant() -> None:
    """A run goes on while the head lies below the furthest grant of any live link: the fastest reader sets the pace."""

    async def main() -> None:
        stage = await Stage().start()
        slow, fast = await stage.attach("slow"), await stage.attach("fast")
        producer = asyncio.create_task(_produce(stage, 500))
        await stage.settle()
        home = await stage.home()
        ring = home.outbound.rings[1]
        assert INITIAL_WINDOW_BYTES <= ring.head_position < INITIAL_WINDOW_BYTES + WEIGHT
        assert home.outbound.paused == 1
        await fast.read()
        await fast.ack(grant=200_000)
        await stage.settle()
        assert 200_000 <= ring.head_position < 200_000 + WEIGHT
        await slow.read()
        assert slow.inbox.position is not None
        assert slow.inbox.position < INITIAL_WINDOW_BYTES + WEIGHT, "another's grant is not mine"
        producer.cancel()
        await asyncio.gather(producer, return_exceptions=True)
        await stage.close()

    run(main())


def test_without_a_live_link_a_run_goes_on_for_the_unacked_budget() -> None:
    """256 KiB past the last ack by default: a disconnect is not a cancel, and not a licence either."""

    async def main() -> None:
        stage = await Stage(budget_bytes=50_000).start()
        producer = asyncio.create_task(_produce(stage, 500))
        await stage.settle()
        home = await stage.home()
        assert 50_000 <= home.outbound.rings[1].head_position < 50_000 + WEIGHT
        producer.cancel()
        await asyncio.gather(producer, return_exceptions=True)
        await stage.close()

    run(main())


def test_a_client_that_never_grants_is_paced_and_never_blocks_the_run() -> None:
    """Stock clients neither ack nor grant: they are sent at a rate, and the producer follows."""

    async def main() -> None:
        stage = await Stage().start()
        viewer = await stage.attach(grants=False)
        producer = asyncio.create_task(_produce(stage, 500))
        await viewer.read()
        await producer
        assert len(viewer.items) == 500
        await stage.close()

    run(main())


def test_waiting_producers_wake_in_lane_order() -> None:
    """When credit returns, the more urgent lane goes first, whoever waited longer."""

    async def main() -> None:
        stage = await Stage().start()
        viewer = await stage.attach()
        await _produce(stage, INITIAL_WINDOW_BYTES // WEIGHT + 1)
        waiting = [
            asyncio.create_task(stage.emit(kind, {"n": 1}, run=kind))
            for kind in ("PROGRESS", "CUSTOM", "TOOL_CALL_START")
        ]
        await stage.settle()
        await viewer.read()
        await viewer.ack(grant=1_000_000)
        await viewer.read()
        await asyncio.gather(*waiting)
        assert viewer.kinds[-3:] == ["TOOL_CALL_START", "CUSTOM", "PROGRESS"]
        await stage.close()

    run(main())


def test_merging_does_not_change_positions() -> None:
    """The same events read in 200-character and in 16-character items end at the same position."""

    async def main() -> None:
        stage = await Stage().start()
        wide, narrow = await stage.attach("wide"), await stage.attach("narrow", chunk_chars=16)
        for _ in range(40):
            await stage.emit("TEXT_MESSAGE_CONTENT", "some words of text ")
        await wide.read()
        await narrow.read()
        home = await stage.home()
        assert wide.inbox.position == narrow.inbox.position == home.outbound.rings[1].head_position
        assert len(wide.items) < len(narrow.items)
        await stage.close()

    run(main())
