"""One request, one JSON answer."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.engine.edge.double import Engine
from tests.engine.edge.driver import Answer, Call, ask, scope
from tests.engine.edge.stage import JSON, Stage
from tests.engine.edge.test_sse import ADA, Events, get


async def post(stage: Stage, **body: Any) -> Answer:
    return await ask(stage.app, "POST", "/v1/stream", {**ADA, **JSON}, json.dumps(body).encode())


def test_a_message_is_answered_with_its_run() -> None:
    """Text, events and the cursor behind them; nothing of the request stays."""

    async def main() -> None:
        stage = Stage()
        answer = await post(
            stage, session="s1", client="c1", events=[{"counter": 1, "kind": "USER_MESSAGE", "text": "a b", "run": "r"}]
        )
        assert answer.status == 200
        said = answer.json
        assert (said["text"], said["cursor"], said["client"]) == ("a b ", "epoch-s1.0.4", "c1")
        kinds = [event["kind"] for event in said["events"]]
        assert (kinds[0], kinds[-1]) == ("RUN_STARTED", "RUN_FINISHED")
        assert said["answers"] == [{"counter": 1, "status": "volatile"}]
        assert len(stage.streams) == 0
        assert stage.engine.session("s1").attachments == {}
        await stage.engine.close()

    asyncio.run(main())


def test_a_deadline_says_how_to_go_on() -> None:
    """504 with the cursor from which a stream reads everything."""

    async def main() -> None:
        stage = Stage()
        endless = {"counter": 1, "kind": "TOOL_CALL", "text": "x", "run": "r"}
        answer = await post(stage, session="s1", client="c1", events=[endless], runs=["never"], deadline_ms=50)
        assert (answer.status, answer.json["code"], answer.json["runs"]) == (504, "DEADLINE_EXCEEDED", ["never"])
        events = Events(stage, get(f"session=s1&client=c1&cursor={answer.json['cursor']}"))
        await events.begun()
        assert (await events.until("TOOL_CALL_RESULT"))[0]["entity"] == "t1"
        await events.leave()
        await stage.engine.close()

    asyncio.run(main())


def test_an_answer_that_grows_too_long_is_for_a_stream() -> None:
    """503 ANSWER_TOO_LONG; the run is not hurt."""

    async def main() -> None:
        stage = Stage()
        answer = await post(
            stage, session="s1", events=[{"counter": 1, "kind": "USER_MESSAGE", "text": "flood 12000", "run": "r"}]
        )
        assert (answer.status, answer.json["reason"]) == (503, "ANSWER_TOO_LONG")
        assert answer.json["cursor"] == "epoch-s1.0.0"
        await stage.engine.close()

    asyncio.run(main())


def test_a_refusal_is_the_answer() -> None:
    """With its status and delay."""

    async def main() -> None:
        stage = Stage()
        stage.engine.session("s1").refuse_next = 1
        answer = await post(stage, session="s1", message="hi")
        assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == (429, "RATE_LIMITED", "1")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"session": "s1"}, "NOTHING_TO_DO"),
        ({"message": "hi"}, "BAD_TYPE"),
        ({"session": "s1", "message": 7}, "BAD_TYPE"),
        ({"session": "s1", "message": "hi", "events": [{}]}, "BAD_TYPE"),
        ({"session": "s1", "message": "hi", "deadline_ms": "soon"}, "BAD_TYPE"),
        ({"session": "s1", "message": "hi", "runs": "r"}, "BAD_TYPE"),
        ({"session": "s1", "message": "hi", "colour": "red"}, "BAD_TYPE"),
        ({"session": "s1", "message": "hi", "v": [7]}, "UNKNOWN_VERSION"),
        ([], "BAD_TYPE"),
    ],
)
def test_bad_requests(body: Any, reason: str) -> None:
    """Named, before anything is sent in."""

    class Strict(Engine):
        async def ingest(self, *arguments: Any) -> None:
            raise AssertionError

    async def main() -> None:
        stage = Stage(Strict())
        answer = await ask(stage.app, "POST", "/v1/stream", {**ADA, **JSON}, json.dumps(body).encode())
        assert (answer.status, answer.json["reason"]) == (400, reason)

    asyncio.run(main())


def test_who_leaves_cancels_nothing() -> None:
    """The request ends, the link too, and the run goes on."""

    async def main() -> None:
        stage = Stage()
        call = Call(stage.app, scope("POST", "/v1/stream", {**ADA, **JSON}))
        call.feed(json.dumps({"session": "s1", "message": "hi", "runs": ["never"]}).encode())
        session = stage.engine.session("s1")
        while not session.handled:  # noqa: ASYNC110 (the double has no event for it)
            await asyncio.sleep(0)
        call.leave()
        async with asyncio.timeout(20):
            await call.task
        assert session.attachments == {}
        assert call.outgoing.empty()
        await stage.engine.close()

    asyncio.run(main())


def test_a_drain_ends_the_waiting() -> None:
    """After its grace, with DRAINING."""

    async def main() -> None:
        stage = Stage()
        call = Call(stage.app, scope("POST", "/v1/stream", {**ADA, **JSON}))
        call.feed(json.dumps({"session": "s1", "message": "hi", "runs": ["never"]}).encode())
        while not stage.engine.session("s1").handled:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await stage.app.drain(0.05)
        answer = await call.answer()
        assert (answer.status, answer.json["code"]) == (503, "DRAINING")
        await stage.engine.close()

    asyncio.run(main())
