"""The account of what receivers got, and what the books of a process say while it works."""

from __future__ import annotations

import asyncio

from laneway.actors.pools.pool import PoolSpec
from laneway.actors.ports import Context, Out
from laneway.routing.envelope import Envelope, envelope
from laneway.routing.inbox import SNAPSHOT, Received
from laneway.routing.items import Gap
from tests.simulation.conservation import Account, received, unbalanced
from tests.simulation.history import Segment
from tests.simulation.loop import run
from tests.simulation.stage import Stage


def _item(first: int, last: int, kind: str = "CUSTOM", *, whole: bool = True, gap: Gap | None = None) -> Received:
    env = envelope(kind, producer="e", counter=first, tenant="t", session="s", lane=2)
    return Received(1, first, last, whole, env, gap)


def _segment(start: int, *items: Received) -> Segment:
    return Segment("t", "s", "c", "e", (0, start), list(items))


def test_every_way_a_seq_can_go_is_a_term() -> None:
    """Before, alone, merged, left out, gapped, voided, cut in half and completed, passed by a fresh start, pending."""
    gap = Gap({"PROGRESS": 3}, 0, "OVERLOAD")
    snapshot = _item(0, 0)._replace(stream=SNAPSHOT)
    first = _segment(10, _item(11, 11), _item(12, 14, "TEXT_MESSAGE_CONTENT"), _item(15, 18), _item(19, 21, gap=gap))
    first.items += [_item(24, 25, "TEXT_MESSAGE_CONTENT", whole=False), _item(25, 25, "TEXT_MESSAGE_CONTENT")]
    second = _segment(30, snapshot, _item(31, 31))
    account = received([first, second], 1, 35)
    assert account == Account(35, 10, 8, 3, 3, 2, 5, 4)
    assert sum(account[1:]) == account.issued
    assert received([first, second], 0, 0) == Account(0, 0, 0, 0, 0, 0, 0, 0)


def test_a_book_that_lies_is_found() -> None:
    """A link that sends what was not committed, a dispatcher that forgets an event."""

    async def handle(env: Envelope, context: Context) -> Out:
        return Out("CUSTOM", b"x")

    async def main() -> None:
        stage = await Stage(pools=[PoolSpec("echo", ["ECHO"], handle)]).start()
        viewer = await stage.attach()
        await viewer.send("ECHO", 1)
        await viewer.read()
        assert unbalanced(stage.dispatcher, stage.directory) == []
        viewer.attachment.link._data.next += 1
        found = unbalanced(stage.dispatcher, stage.directory)
        assert "2 sent of stream 1, 1 are committed" in found[-1]
        viewer.attachment.link._data.next -= 1
        stage.dispatcher._books.accepted[2] += 1
        found = unbalanced(stage.dispatcher, stage.directory)
        assert "accepted 2 events" in found[0]
        stage.dispatcher._books.accepted[2] -= 1
        await asyncio.sleep(0)
        await stage.close()

    run(main())
