"""The queue between the link and the application."""

from __future__ import annotations

import asyncio

import pytest

from laneway.engine.client_events import EventQueue
from laneway.engine.delivery import Event
from laneway.routing.envelope import envelope
from laneway.routing.errors import Superseded
from laneway.routing.inbox import SNAPSHOT, Received
from laneway.routing.items import Gap


def received(text: bytes, stream: int = 1, gap: Gap | None = None) -> Received:
    env = envelope("TEXT_MESSAGE_CONTENT", producer="e", counter=1, tenant="", session="", lane=2, body=text)
    return Received(stream, 1, 1, True, env, gap)


def test_events_come_in_order_and_count_until_taken() -> None:
    """Unread bytes fall as the application takes events, and the link hears of it."""

    async def main() -> None:
        events = EventQueue()
        events.put([received(b"one"), received(b"three")])
        assert events.unread_bytes == 8
        assert (await events.get()).text == "one"
        assert events.unread_bytes == 5
        assert not events.taken.is_set()
        assert (await events.get()).text == "three"
        assert events.taken.is_set()

    asyncio.run(main())


def test_what_came_before_the_end_is_given_first() -> None:
    """Then the error, again and again; after an orderly end the iteration stops."""

    async def main() -> None:
        events = EventQueue()
        events.put([received(b"last")])
        events.end(Superseded("newer"))
        assert (await events.get()).text == "last"
        for _ in range(2):
            with pytest.raises(Superseded):
                await events.get()
        quiet = EventQueue()
        quiet.end(None)
        with pytest.raises(StopAsyncIteration):
            await quiet.get()

    asyncio.run(main())


def test_a_flood_outside_of_credit_waits_for_room() -> None:
    """Beyond the bound `room` waits until the application has caught up."""

    async def main() -> None:
        events = EventQueue(max_bytes=10)
        events.put([received(b"x" * 11)])
        waiting = asyncio.create_task(events.room())
        await asyncio.sleep(0)
        assert not waiting.done()
        await events.get()
        await waiting

    asyncio.run(main())


def test_what_an_event_shows() -> None:
    """Snapshot and GAP are told apart from what was streamed."""
    assert Event(received(b"", SNAPSHOT)).snapshot
    plain = Event(received(b"raw"))
    assert (plain.snapshot, dict(plain.dropped)) == (False, {})
    assert plain.text.endswith("raw")
    gap = Event(received(b"", gap=Gap({"LOG": 3}, 48, "OVERLOAD")))
    assert gap.dropped == {"LOG": 3}
