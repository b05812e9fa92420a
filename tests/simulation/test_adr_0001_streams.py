"""ADR 1: two numbered streams; a link is a cursor, and urgent news does not wait behind data."""

from __future__ import annotations

import asyncio

import msgpack

from tests.simulation.loop import run
from tests.simulation.stage import Stage


def test_urgent_news_passes_a_client_that_has_stopped_reading() -> None:
    """With its credit used up a client gets no data, but RUN_ERROR at once, naming the data seq it stands after."""

    async def main() -> None:
        stage = await Stage().start()
        slow = await stage.attach()
        await slow.read()
        pump = asyncio.create_task(_talk_for_ever(stage))
        await slow.read()  # up to the credit, and nothing beyond
        before = slow.inbox.cursor
        await stage.emit("RUN_ERROR", {"message": "interrupted", "code": "CANCELLED"})
        await slow.read()
        assert slow.items[-1].stream == 0
        assert slow.items[-1].envelope[2] == "RUN_ERROR"
        assert slow.inbox.cursor.data == before.data, "no data was sent without credit"
        home = await stage.home()
        assert msgpack.unpackb(slow.items[-1].envelope[11])["after"] >= before.data
        assert home.outbound.rings[0].head == 1
        pump.cancel()
        await asyncio.gather(pump, return_exceptions=True)
        await stage.close()

    run(main())


async def _talk_for_ever(stage: Stage) -> None:
    while True:
        await stage.emit("TEXT_MESSAGE_CONTENT", "x" * 2000)


def test_a_slow_member_slows_nobody_and_all_read_the_same_numbers() -> None:
    """A link is a cursor, not a queue: one client stands still, the other reads on; later both have the same log."""

    async def main() -> None:
        stage = await Stage(ring_bytes=8192).start()
        fast, slow = await stage.attach("fast"), await stage.attach("slow")
        for number in range(60):
            await stage.emit("CUSTOM", {"number": number, "pad": "x" * 3000})
            await fast.read(1)
            await fast.ack(grant=10_000_000)
        await fast.read()
        assert len([item for item in fast.items if item.stream == 1]) == 60
        home = await stage.home()
        assert home.outbound.rings[1].bytes <= 8192, "nothing is kept for the slow one"
        await slow.read()
        await slow.ack(grant=10_000_000)
        await slow.read()
        assert [(i.first, i.envelope[:12]) for i in slow.items] == [(i.first, i.envelope[:12]) for i in fast.items]
        await stage.close()

    run(main())


def test_the_streams_number_by_themselves() -> None:
    """Each stream counts from 1 without a hole, whatever goes on in the other."""

    async def main() -> None:
        stage = await Stage().start()
        viewer = await stage.attach()
        for number in range(5):
            await stage.emit("CUSTOM", {"number": number})
            await stage.emit("RUN_ERROR", {"message": "no", "code": "X"}, run=f"r{number}")
        await viewer.read()
        for stream in (0, 1):
            assert [item.first for item in viewer.items if item.stream == stream] == [1, 2, 3, 4, 5]
        await stage.close()

    run(main())
