"""Event streams in memory: welcome, ids, resume, refusals, what ends them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from laneway.engine.edge.exchange import ABORT
from laneway.routing.handshake import LinkPolicy
from tests.engine.edge.double import Engine
from tests.engine.edge.driver import Call, ask, scope
from tests.engine.edge.stage import EVENTS, JSON, Stage

ADA, BOB = {"authorization": "ada"}, {"authorization": "bob"}


class Events:
    """One event stream, read message by message."""

    def __init__(self, stage: Stage, given: dict[str, Any], body: bytes = b"") -> None:
        self.call = Call(stage.app, given)
        self.call.feed(body)
        self.pings = 0
        self.id = ""

    async def begun(self) -> dict[str, str]:
        start = await self.call.next()
        assert start["status"] == 200, start
        return {name.decode(): value.decode() for name, value in start["headers"]}

    async def next(self) -> dict[str, Any]:
        """The next frame."""
        while True:
            raw = (await self.call.next())["body"]
            assert b"\r" not in raw
            if raw == b": ping\n\n":
                self.pings += 1
                continue
            assert raw.endswith(b"\n\n"), raw
            lines = raw.decode().strip().split("\n")
            self.id = lines[0].removeprefix("id: ")
            frame: dict[str, Any] = json.loads(lines[-1].removeprefix("data: "))
            return frame

    async def until(self, kind: str) -> list[dict[str, Any]]:
        """Events up to and including one of this kind."""
        found: list[dict[str, Any]] = []
        while not found or found[-1]["kind"] != kind:
            frame = await self.next()
            assert not frame["header"].get("notice", {}).get("fatal"), frame
            found += frame["events"]
        return found

    async def leave(self) -> None:
        self.call.leave()
        async with asyncio.timeout(20):
            await self.call.task


def get(query: str, headers: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    return scope("GET", f"/v1/stream?{query}", {**ADA, "accept": "text/event-stream", **(headers or {})}, **more)


def opened(stage: Stage, **body: Any) -> Events:
    return Events(stage, scope("POST", "/v1/stream", {**ADA, **EVENTS}), json.dumps(body).encode())


def message(text: str, counter: int = 1) -> dict[str, Any]:
    return {"counter": counter, "kind": "USER_MESSAGE", "text": text, "run": f"r{counter}"}


def test_the_first_message_is_the_welcome_and_ids_are_cursors() -> None:
    """Then answers and events; when the client leaves nothing of it stays."""

    async def main() -> None:
        stage = Stage()
        events = opened(stage, session="s1", client="c1", events=[message("one two")])
        headers = await events.begun()
        assert headers["content-type"] == "text/event-stream"
        welcome = (await events.next())["header"]["welcome"]
        assert events.id == "epoch-s1.0.0"
        assert len(stage.links) == len(stage.streams) == 1
        said = await events.until("RUN_FINISHED")
        assert "".join(event.get("text", "") for event in said) == "one two "
        assert events.id == "epoch-s1.0.4"
        assert stage.links.find(welcome["link"], next(iter(stage.engine.sessions.values())).attachments["c1"].principal)
        await events.leave()
        assert len(stage.links) == len(stage.streams) == 0
        assert stage.engine.session("s1").attachments == {}
        await stage.engine.close()

    asyncio.run(main())


def test_it_resumes_after_the_last_event_id() -> None:
    """The header, before the query's cursor; each seq comes once."""

    async def main() -> None:
        stage = Stage()
        caps = {"grants": False, "chunk_chars": 16, "max_items": 1}
        first = opened(stage, session="s1", client="c1", caps=caps, events=[message("word " * 4 + "x" * 50)])
        await first.begun()
        said: list[dict[str, Any]] = []
        while "+" not in first.id:  # in the middle of a seq
            said += (await first.next())["events"]
        await first.leave()
        again = Events(stage, get("session=s1&client=c1&cursor=epoch-s1.0.0", {"last-event-id": first.id}))
        await again.begun()
        assert (await again.next())["header"]["welcome"]["resume"] == "resumed"
        said += await again.until("RUN_FINISHED")
        assert [event["kind"] for event in said].count("RUN_STARTED") == 1
        assert "".join(event.get("text", "") for event in said) == "word " * 4 + "x" * 50 + " "
        await again.leave()
        lost = Events(stage, get("session=s1&client=c1&cursor=other.0.3"))
        await lost.begun()
        assert (await lost.next())["header"]["welcome"]["resume"] == "failed"
        await lost.leave()
        await stage.engine.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("query", "headers", "status", "reason"),
    [
        ("", {}, 400, "BAD_TYPE"),
        ("session=../x", {}, 400, "BAD_ID"),
        ("session=s1&client=" + "c" * 41, {}, 400, "BAD_ID"),
        ("session=s1&cursor=nonsense", {}, 400, "BAD_TYPE"),
        ("session=s1&sesion=s2", {}, 400, "BAD_TYPE"),
        ("session=s1&topics=user:bob", {}, 400, "BAD_TOPIC"),
        ("session=s1", {"accept": "application/json"}, 406, "NOT_ACCEPTABLE"),
        ("session=s1", {"authorization": ""}, 401, ""),
        ("session=s1", {"origin": "https://evil.example"}, 403, "BAD_ORIGIN"),
        ("session=s1", {"sec-fetch-site": "cross-site"}, 403, "BAD_ORIGIN"),
        ("session=s1&ticket=guess", {}, 401, "TICKET"),
    ],
)
def test_a_refusal_is_a_status(query: str, headers: dict[str, str], status: int, reason: str) -> None:
    """With our error; no session is made for it."""

    async def main() -> None:
        stage = Stage()
        sent = {**ADA, "accept": "text/event-stream", **headers}
        answer = await ask(stage.app, "GET", f"/v1/stream?{query}", sent)
        assert (answer.status, answer.json["reason"]) == (status, reason)
        assert len(stage.streams) == 0
        assert stage.engine.attached == 0

    asyncio.run(main())


def test_a_ticket_opens_an_event_source() -> None:
    """Its principal is the stream's, and the POSTs beside it need that one."""

    async def main() -> None:
        stage = Stage()
        given = await ask(stage.app, "POST", "/v1/handshake", {**BOB, **JSON}, b"{}")
        query = f"session=s1&ticket={given.json['ticket']}"
        events = Events(stage, scope("GET", f"/v1/stream?{query}", {"accept": "text/event-stream"}))
        await events.begun()
        link = (await events.next())["header"]["welcome"]["link"]
        body = json.dumps({"events": [message("hi")]}).encode()
        for who, status in ((ADA, 404), (BOB, 202)):
            assert (await ask(stage.app, "POST", f"/v1/stream/{link}/send", {**who, **JSON}, body)).status == status
        await events.leave()
        await stage.engine.close()

    asyncio.run(main())


def test_comments_keep_it_alive_and_a_drain_says_when_to_come_back() -> None:
    """One comment a heartbeat; the notice carries `retry:` for the browser."""

    async def main() -> None:
        stage = Stage(Engine(LinkPolicy(heartbeat_s=0.05)))
        events = Events(stage, get("session=s1"))
        await events.begun()
        await events.next()
        while events.pings < 2:
            raw = (await events.call.next())["body"]
            events.pings += raw == b": ping\n\n"
        draining = asyncio.create_task(stage.app.drain(0.2))
        raw = b""
        while b"DRAINING" not in raw:
            raw = (await events.call.next())["body"]
        assert b"\nretry: " in raw
        await draining
        async with asyncio.timeout(20):
            await events.call.task
        answer = await ask(stage.app, "GET", "/v1/stream?session=s1", {**ADA, "accept": "text/event-stream"})
        assert (answer.status, answer.json["code"]) == (503, "DRAINING")

    asyncio.run(main())


def test_who_does_not_read_is_cut_off() -> None:
    """A write that waits longer than stall_s ends the stream; the session goes on."""
    aborted: list[bool] = []

    async def main() -> None:
        stage = Stage(stall_s=0.2)
        events = Events(stage, get("session=s1", extensions={ABORT: lambda: aborted.append(True)}))
        await events.begun()
        await events.next()
        events.call.flowing.clear()
        await stage.engine.session("s1").emit("TEXT_MESSAGE_CONTENT", b"unread", "m")
        async with asyncio.timeout(20):
            await events.call.task
        assert aborted
        assert stage.engine.session("s1").attachments == {}

    asyncio.run(main())


def test_the_newest_stream_of_a_client_wins() -> None:
    """The older one is told, and ends."""

    async def main() -> None:
        stage = Stage()
        first = Events(stage, get("session=s1&client=c1"))
        await first.begun()
        await first.next()
        second = Events(stage, get("session=s1&client=c1"))
        await second.begun()
        notice = (await first.next())["header"]["notice"]
        assert (notice["code"], notice["fatal"]) == ("SUPERSEDED", True)
        async with asyncio.timeout(20):
            await first.call.task
        await second.leave()

    asyncio.run(main())
