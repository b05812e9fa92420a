"""ADR 6: two sums that hold at every moment, inbound per event and outbound per link and seq."""

from __future__ import annotations

import asyncio

import msgpack

from laneway.actors.dispatch.accounts import DispatcherStatistics
from laneway.actors.pools.pool import PoolSpec
from laneway.actors.ports import Context
from laneway.routing.envelope import Envelope
from tests.simulation.loop import run
from tests.simulation.stage import Stage, Viewer


def _inbound(books: DispatcherStatistics) -> int:
    return books.handled + books.expired + books.dropped + books.cancelled + books.failed + books.dead + books.pending


async def _moody(env: Envelope, context: Context) -> None:
    await asyncio.sleep(0.05)
    if env[1] % 3 == 0:
        raise ValueError("every third fails")


def test_every_accepted_event_is_in_exactly_one_account() -> None:
    """accepted = handled + expired + dropped + cancelled + failed + dead + pending, looked at all the time,
    zero pending at the end; a refused event is in none."""

    async def main() -> None:
        stage = await Stage(pools=[PoolSpec("moody", ["ECHO"], _moody, concurrency=2)]).start()
        viewer = await stage.attach()
        now = asyncio.get_running_loop().time()
        for counter in range(1, 13):
            await viewer.send("ECHO", counter, **({"deadline": now + 0.01} if counter > 9 else {}))
        await viewer.send("DOC_PATCH", 13)
        await viewer.send("CANCEL", 14, entity="c:8")
        while (books := stage.dispatcher.statistics()).accepted < 12 or books.pending:
            assert books.accepted == _inbound(books)
            await asyncio.sleep(0.01)
        assert books.accepted == _inbound(books) == 12
        assert (books.handled, books.failed, books.cancelled, books.expired) == (5, 3, 1, 3)
        await viewer.read()
        assert [answer[:3] for answers in viewer.told("refused") for answer in answers] == [
            [[13], "MALFORMED", "UNKNOWN_KIND"]
        ]
        await stage.close()

    run(main())


def _outbound(viewer: Viewer, stage_committed: int) -> None:
    books = viewer.attachment.link.statistics()
    assert books.delivered[1] + books.conflated[1] + books.gapped[1] + books.pending[1] == stage_committed


def test_every_seq_of_a_link_is_delivered_gapped_or_pending() -> None:
    """Also while droppable events turn into a GAP and text is merged: an item that spans three seqs delivers three."""

    async def main() -> None:
        stage = await Stage(ring_bytes=6_000).start()
        viewer = await stage.attach()
        await viewer.read()
        home = await stage.home()
        for number in range(20):
            await stage.emit("PROGRESS", {"n": number, "pad": "x" * 900})
            await stage.emit("TEXT_MESSAGE_CONTENT", f"text {number} ", entity="m")
            _outbound(viewer, home.outbound.rings[1].committed)
        await stage.settle()
        for _ in range(50):
            await viewer.read(1)
            _outbound(viewer, home.outbound.rings[1].committed)
        books = viewer.attachment.link.statistics()
        assert books.pending[1] == 0
        assert viewer.text == "".join(f"text {number} " for number in range(20))
        await stage.close()

    run(main())


def test_a_gap_tells_exactly_what_it_hides_and_only_droppable_kinds() -> None:
    """Dropped progress events come as one GAP item with their kinds and their weight; the text around is whole."""

    async def main() -> None:
        stage = await Stage(ring_bytes=20_000).start()
        viewer = await stage.attach()
        await viewer.read()
        await stage.emit("TEXT_MESSAGE_CONTENT", "before ")
        for number in range(40):
            await stage.emit("PROGRESS", {"n": number, "pad": "x" * 900})
        await stage.emit("TEXT_MESSAGE_CONTENT", "after")
        await viewer.read()
        gaps = [item for item in viewer.items if item.gap is not None]
        assert gaps
        for item in gaps:
            assert item.gap is not None
            assert dict(item.gap.by_kind) == {"PROGRESS": item.last - item.first + 1}
        assert viewer.text == "before after"
        home = await stage.home()
        assert viewer.inbox.position == home.outbound.rings[1].head_position, "the weight of the GAP is exact"
        assert viewer.inbox.gapped == viewer.attachment.link.statistics().gapped[1]
        await stage.close()

    run(main())


def test_state_that_was_left_out_is_counted_and_its_weight_is_exact() -> None:
    """A client that did not read gets the newest value of what was set a hundred times; seqs and credit add up, also
    over a reconnect in between."""

    async def main() -> None:
        stage = await Stage().start()
        viewer = await stage.attach()
        await viewer.read()
        home = await stage.home()
        for number in range(100):
            await stage.emit("STATE_DELTA", {"delta": [{"op": "replace", "path": "/done", "value": number}]})
            _outbound(viewer, home.outbound.rings[1].committed)
        await stage.settle()
        await viewer.read(1)
        told = [msgpack.unpackb(item.envelope[11])["delta"][0]["value"] for item in viewer.items]
        assert told[-1] == 99
        books = viewer.attachment.link.statistics()
        assert len(told) <= 2 + 100 // 64, "64 are looked at together"
        assert books.conflated[1] == viewer.inbox.conflated == 100 - len(told)
        assert books.delivered[1] == len(told)
        _outbound(viewer, home.outbound.rings[1].committed)
        assert viewer.inbox.position == home.outbound.rings[1].head_position
        await viewer.attachment.close()
        assert home.statistics().conflated == books.conflated[1]
        for number in range(3):
            await stage.emit("STATE_SNAPSHOT", {"snapshot": {"done": number}})
        await stage.settle()
        again = await (await stage.attach(inbox=viewer.inbox)).read()
        assert again.welcome["resume"] == "resumed"
        assert [item.envelope[11] for item in again.items] == [msgpack.packb({"snapshot": {"done": 2}})]
        assert again.inbox.position == home.outbound.rings[1].head_position
        await stage.close()

    run(main())
