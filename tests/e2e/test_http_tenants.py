"""What belongs to another tenant does not exist over HTTP, whatever is named: session, link, run or cursor."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from websockets.asyncio.client import connect

from laneway.engine.frames import decode_call, encode_call
from tests.e2e.doors import Answer, Door, door, hmac, token

ADA, BOB, EVE = token("ada", "a"), token("bob", "b"), token("eve", "a")
SECRET_TEXT = "the word is xyzzy"


async def _said(here: Door, bearer: str, session: str, **more: Any) -> Answer:
    return await here.post("/v1/stream", bearer, {"session": session, "client": "c1", **more})


async def _welcome(here: Door, subprotocol: str, bearer: str, hello: dict[str, Any]) -> Any:
    """The first frame of a WebSocket."""
    uri, headers = f"ws://localhost:{here.port}/v1/stream", {"authorization": f"Bearer {bearer}"}
    text = subprotocol.endswith("json")
    async with connect(uri, subprotocols=[subprotocol], additional_headers=headers) as socket:  # type: ignore[list-item]
        await socket.send(json.dumps({"header": {"hello": hello}}) if text else encode_call({"hello": hello}))
        frame = await socket.recv()
        return json.loads(frame)["header"]["welcome"] if isinstance(frame, str) else decode_call(frame)[0]["welcome"]


def test_another_tenant_sees_a_session_of_its_own_under_the_same_name() -> None:
    """By single answer, events and both sorts of WebSocket; a stolen cursor or run id gives nothing either."""

    async def main() -> None:
        async with door(hmac()) as here:
            mine = (await _said(here, ADA, "s", message=SECRET_TEXT)).json
            epoch = mine["cursor"].rpartition(".")[0].rpartition(".")[0]
            theirs = await _said(here, BOB, "s", message="hello")
            assert theirs.status == 200
            assert "xyzzy" not in theirs.body.decode()
            stolen = await _said(here, BOB, "s", runs=["c1-1"], cursor=f"{epoch}.0.0", deadline_ms=1)
            assert stolen.status in (200, 504)
            assert "xyzzy" not in stolen.body.decode()
            hello = {"v": [1], "client": "c2", "session": "s", "caps": {"grants": False}}
            async with here.events(BOB, {**hello, "cursor": f"{epoch}.0.0"}) as events:
                first = (await events.next(), await events.next())
                assert "xyzzy" not in json.dumps(first)
            async with here.events(BOB, {**hello, "client": "c3", "session": "t", "run": "c1-1"}) as events:
                assert (await events.next())["header"]["welcome"]["resume"] == "new"
            for subprotocol in ("laneway.v1", "laneway.v1.json"):
                welcome = await _welcome(here, subprotocol, BOB, {**hello, "session": "t", "run": "c1-1"})
                assert (welcome["resume"], welcome["cursor"][1:]) == ("new", [0, 0])
                welcome = await _welcome(here, subprotocol, ADA, {**hello, "run": "c1-1"})
                assert welcome["resume"] == "run"

    asyncio.run(main())


def test_a_link_is_reached_by_its_own_principal_only() -> None:
    """Of another tenant or another subject it answers as if it were not there, byte for byte; then it still works."""

    async def main() -> None:
        async with door(hmac()) as here:
            async with here.events(ADA, {"session": "s", "client": "c1"}) as events:
                link = (await events.next())["header"]["welcome"]["link"]
                for bearer in (BOB, EVE, token("ada", "b"), token("bob", "a")):
                    for path, document in (("grant", {"bye": True}), ("send", {"events": [{"kind": "USER_MESSAGE"}]})):
                        foreign = await here.post(f"/v1/stream/{link}/{path}", bearer, document)
                        absent = await here.post(f"/v1/stream/none/{path}", bearer, document)
                        assert (foreign.status, foreign.body) == (404, absent.body)
                ours = await here.post(f"/v1/stream/{link}/grant", ADA, {"grant": 1_000_000})
                assert ours.status == 204
                event = {"counter": 1, "kind": "USER_MESSAGE", "text": "hello"}
                sent = await here.post(f"/v1/stream/{link}/send", ADA, {"events": [event]})
                assert sent.json["answers"][0]["counter"] == 1
            assert here.sessions == 1

    asyncio.run(main())


def _started(here: Door) -> int:
    rows = here.engine.metrics().splitlines()
    return int(float(next(row for row in rows if row.startswith("laneway_runs_started_total")).split()[-1]))


def test_a_run_id_of_another_tenant_is_a_run_of_ones_own() -> None:
    """Over AG-UI: the same thread, run id and input runs once for each tenant; another input is no mismatch."""

    async def main() -> None:
        async with door(hmac()) as here:
            for bearer, text, runs in ((ADA, SECRET_TEXT, 1), (BOB, "hello", 2), (BOB, "hello", 2)):
                asked = {
                    "threadId": "t",
                    "runId": "r",
                    "messages": [{"id": "m", "role": "user", "content": text}],
                    "state": {},
                    "tools": [],
                    "context": [],
                    "forwardedProps": {},
                }
                answer = await here.post("/agui", bearer, asked, accept="text/event-stream")
                assert answer.status == 200
                assert b"RUN_FINISHED" in answer.body
                assert _started(here) == runs
            place = {"last-event-id": "e" * 16 + ".0.1"}
            assert (await here.post("/agui", BOB, asked, **place)).json["code"] == "RESUME_FAILED"
            assert here.sessions == 2

    asyncio.run(main())


def test_a_ticket_is_its_principals() -> None:
    """It opens a stream of the tenant that fetched it, once."""

    async def main() -> None:
        async with door(hmac()) as here:
            await _said(here, ADA, "s", message=SECRET_TEXT)
            ticket = (await here.post("/v1/handshake", BOB, {})).json["ticket"]
            uri = f"ws://localhost:{here.port}/v1/stream?ticket={ticket}"
            async with connect(uri, subprotocols=["laneway.v1.json"]) as socket:  # type: ignore[list-item]
                await socket.send(json.dumps({"header": {"hello": {"v": [1], "client": "c1", "session": "s"}}}))
                assert json.loads(await socket.recv())["header"]["welcome"]["cursor"][1:] == [0, 0]
            again = await here.ask("GET", f"/v1/stream?session=s&ticket={ticket}", {"accept": "text/event-stream"})
            assert (again.status, again.json["reason"]) == (401, "TICKET")

    asyncio.run(main())
