"""Credit and events by POST beside an event stream."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.engine.edge.driver import Answer, ask
from tests.engine.edge.stage import JSON, Stage
from tests.engine.edge.test_sse import ADA, Events, message, opened


async def live(stage: Stage, **body: Any) -> tuple[Events, str]:
    events = opened(stage, **{"session": "s1", "client": "c1", **body})
    await events.begun()
    return events, (await events.next())["header"]["welcome"]["link"]


async def post(stage: Stage, path: str, body: Any) -> Answer:
    return await ask(stage.app, "POST", f"/v1/stream/{path}", {**ADA, **JSON}, json.dumps(body).encode())


def test_events_are_answered_one_by_one() -> None:
    """202 with a status or an error each; a repeat is a duplicate; all refused is the first refusal's status."""

    async def main() -> None:
        stage = Stage()
        events, link = await live(stage)
        stage.engine.session("s1").refuse_next = 1
        answer = await post(stage, f"{link}/send", {"events": [message("a", 1), message("b", 2)]})
        assert answer.status == 202
        refused, taken = answer.json["answers"]
        assert (refused["error"]["code"], refused["error"]["retry_after_ms"]) == ("RATE_LIMITED", 5)
        assert taken == {"counter": 2, "status": "volatile"}
        again = await post(stage, f"{link}/send", {"events": [message("b", 2)]})
        assert again.json["answers"] == [{"counter": 2, "status": "duplicate"}]
        only_out = {"counter": 3, "kind": "RUN_FINISHED"}
        answer = await post(stage, f"{link}/send", {"events": [only_out]})
        assert (answer.status, answer.json["code"]) == (403, "PERMISSION_DENIED")
        await events.leave()
        await stage.engine.close()

    asyncio.run(main())


def test_a_grant_lets_a_run_go_on() -> None:
    """Without it the run stops at the window; with ack and grant the rest comes."""

    async def main() -> None:
        stage = Stage()
        events, link = await live(stage, caps={"grants": True}, events=[message("flood 1000")])
        session = stage.engine.session("s1")
        while int(events.id.rsplit(".", 1)[1].partition("+")[0]) < 500:
            await events.next()
        assert session.rings[1].head < 700
        for _ in range(2):
            ack = ["epoch-s1", 0, int(events.id.rsplit(".", 1)[1].partition("+")[0])]
            assert (await post(stage, f"{link}/grant", {"ack": ack, "grant": 10_000_000})).status == 204
        await events.until("RUN_FINISHED")
        await events.leave()
        await stage.engine.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    [
        ("{}/grant", {"ack": ["epoch-s1", 0, 99]}, 400, "OUT_OF_RANGE"),
        ("{}/grant", {"ack": ["other", 0, 0]}, 400, "EPOCH_MISMATCH"),
        ("{}/grant", {"grant": -1}, 400, "NUMBER_RANGE"),
        ("{}/grant", {"grant": "many"}, 400, "BAD_TYPE"),
        ("{}/grant", {"hello": {}}, 400, "BAD_TYPE"),
        ("{}/grant", [], 400, "BAD_TYPE"),
        ("none/grant", {"grant": 1}, 404, ""),
        ("none/send", {"events": [message("a")]}, 404, ""),
        ("{}/send", {"events": []}, 400, "BAD_TYPE"),
        ("{}/send", {"events": [message("a")], "hello": {}}, 400, "BAD_TYPE"),
        ("{}/send", {"events": [{"kind": "USER_MESSAGE"}]}, 400, "NUMBER_RANGE"),
        ("{}/send", {"events": [message("a"), message("b")]}, 400, "DUPLICATE_COUNTER"),
    ],
)
def test_a_bad_request_is_the_trouble_of_itself_only(path: str, body: Any, status: int, reason: str) -> None:
    """The stream lives on."""

    async def main() -> None:
        stage = Stage()
        events, link = await live(stage)
        answer = await post(stage, path.format(link), body)
        assert (answer.status, answer.json["reason"]) == (status, reason)
        assert (await post(stage, f"{link}/send", {"events": [message("still here", 9)]})).status == 202
        await events.until("RUN_FINISHED")
        assert (await post(stage, f"{link}/grant", {"bye": True})).status == 204
        async with asyncio.timeout(20):
            await events.call.task
        assert (await post(stage, f"{link}/grant", {"grant": 1})).status == 404
        await stage.engine.close()

    asyncio.run(main())
