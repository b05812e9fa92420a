"""Who waits for the result of a tool call."""

from __future__ import annotations

import asyncio
from typing import Any

import msgpack
import pytest

from laneway.engine.client_calls import CallDesk
from laneway.engine.delivery import Event
from laneway.routing.envelope import envelope
from laneway.routing.errors import DeadlineExceeded, LinkClosed, RateLimited
from laneway.routing.inbox import Received
from tests.simulation.loop import run


def result(call_id: str, content: str = "1", kind: str = "TOOL_CALL_RESULT") -> Event:
    fields = {"messageId": "m", "toolCallId": call_id, "content": content, "role": "tool"}
    env = envelope(
        kind, producer="e", counter=1, tenant="", session="", lane=2, entity=call_id, body=msgpack.packb(fields)
    )
    return Event(Received(1, 1, 1, True, env, None))


class Sends:
    """Takes what is sent; says no when told to."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any], str, str]] = []
        self.refusal: Exception | None = None

    async def __call__(self, kind: str, body: bytes, *, entity: str, run: str) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.sent.append((kind, msgpack.unpackb(body), entity, run))


def test_a_result_finds_its_call() -> None:
    """Whatever else arrives is passed over; the id names the event, its run and its body."""

    async def main() -> None:
        sends = Sends()
        desk = CallDesk(sends)
        one = asyncio.create_task(desk.call("add", {"x": 1}, "c1", "", 9.0))
        two = asyncio.create_task(desk.call("add", {"x": 2}, None, "once", 9.0))
        await asyncio.sleep(0)
        assert sends.sent[0] == ("TOOL_CALL", {"name": "add", "arguments": {"x": 1}, "call_id": "c1"}, "c1", "c1")
        _, body, fresh, _ = sends.sent[1]
        assert (body["idempotency_key"], body["call_id"]) == ("once", fresh)
        for event in (result("c1", kind="TOOL_CALL_END"), result("other"), result(fresh, "2"), result("c1", "3")):
            desk.take(event)
        desk.take(result("c1", "again"))
        assert [(await each)["content"] for each in (one, two)] == ["3", "2"]

    run(main())


def test_a_call_ends_without_a_result_too() -> None:
    """By the refusal, by its own timeout, or by what ended the receiving; nothing is left waiting."""

    async def main() -> None:
        sends = Sends()
        desk = CallDesk(sends)
        with pytest.raises(DeadlineExceeded, match="'add' did not answer within 2 s"):
            await desk.call("add", {}, "c1", "", 2.0)
        waiting = asyncio.create_task(desk.call("add", {}, "c1", "", 9.0))
        await asyncio.sleep(0)
        desk.fail(LinkClosed("over"))
        with pytest.raises(LinkClosed):
            await waiting
        sends.refusal = RateLimited("later")
        with pytest.raises(RateLimited):
            await desk.call("add", {}, "c1", "", 9.0)

    run(main())
