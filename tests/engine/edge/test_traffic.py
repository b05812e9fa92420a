"""Connections and bytes of a transport."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from laneway.engine.edge.traffic import Traffic
from laneway.engine.telemetry.counters import Counters
from laneway.routing.errors import Draining, LanewayError, LinkClosed, Overloaded, SlowConsumer


class _Clock:
    at = 0.0

    def now(self) -> float:
        return self.at


@pytest.mark.parametrize(
    ("reason", "established", "goodbye", "result"),
    [
        (None, True, True, "left"),
        (LinkClosed("bye"), True, False, "left"),
        (None, True, False, "lost"),
        (Draining("down"), True, False, "ended"),
        (Draining("down"), False, False, "refused"),
        (Overloaded("full"), False, False, "refused"),
        (SlowConsumer("slow"), True, False, "failed"),
    ],
)
def test_every_connection_is_counted_once_by_how_it_ended(
    reason: LanewayError | None, established: bool, goodbye: bool, result: str
) -> None:
    """With its duration, and the code of what went wrong."""
    clock, counters = _Clock(), Counters()
    traffic = Traffic("grpc", clock, counters)
    with traffic.connection() as connection:
        assert (traffic.opened, traffic.active) == (1, 1)
        clock.at = 5.0
        connection.established = established
        connection.over(reason, goodbye=goodbye)
    assert (traffic.opened, traffic.active) == (1, 0)
    assert {name: count for name, count in traffic.closed.items() if count} == {result: 1}
    recorded = counters.snapshot()
    assert recorded["connection.duration{transport=grpc}"]["sum"] == 5.0
    wrong = [name for name in recorded if name.startswith("connection.error")]
    assert wrong == ([f"connection.error{{code={reason.code}}}"] if result in ("refused", "failed") and reason else [])


@pytest.mark.parametrize(
    ("raised", "result"),
    [
        (ZeroDivisionError(), "failed"),
        (ConnectionError(), "lost"),
        (Overloaded("full"), "refused"),
        (asyncio.CancelledError(), "ended"),
    ],
)
def test_what_breaks_out_is_counted_and_goes_on(raised: BaseException, result: str) -> None:
    """A bug in an edge does not leave a connection active for ever."""
    traffic = Traffic("http", _Clock())
    with pytest.raises(type(raised)), traffic.connection():
        raise raised
    assert (traffic.active, traffic.closed[result]) == (0, 1)


def test_who_is_turned_away_at_the_door_was_a_connection() -> None:
    """So that a success rate sees it."""
    counters = Counters()
    traffic = Traffic("grpc", _Clock(), counters)
    traffic.refused(Overloaded("full"))
    assert (traffic.opened, traffic.active, traffic.closed["refused"]) == (1, 0, 1)
    assert counters.snapshot()["connection.error{code=OVERLOADED}"] == 1


def test_bodies_and_messages_are_counted() -> None:
    """Of requests, answers and both sorts of WebSocket messages; what has no body counts nothing."""
    traffic = Traffic("http", _Clock())
    inbox = [{"type": "http.request", "body": b"12345"}, {"type": "websocket.receive", "text": "\u00e9"}]
    sent: list[object] = []

    async def main() -> None:
        async def receive() -> MutableMapping[str, Any]:
            return inbox.pop(0)

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        receiving, sending = traffic.counted(receive, send)
        await receiving()
        await receiving()
        await sending({"type": "http.response.start", "status": 200})
        await sending({"type": "websocket.send", "bytes": b"123", "text": None})

    asyncio.run(main())
    assert (traffic.received_bytes, traffic.sent_bytes, len(sent)) == (7, 3, 2)
