"""Handshake, catalogue, and which answer a request gets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from laneway.actors.ports import Principal
from tests.engine.edge.double import Engine
from tests.engine.edge.driver import ask
from tests.engine.edge.stage import JSON, Stage
from tests.engine.edge.test_sse import ADA


class WithTools(Engine):
    """Everybody has a tool of their own."""

    async def call(self, name: str, header: Mapping[str, Any], items: Sequence[bytes], principal: Principal) -> Any:
        assert name == "tools"
        return [{"name": f"of-{principal.subject}", "description": "", "schema": {}}]


def test_the_catalogue_of_a_principal_has_a_tag() -> None:
    """304 to who has it; another principal has another one."""

    async def main() -> None:
        stage = Stage(WithTools())
        answer = await ask(stage.app, "GET", "/v1/tools", ADA)
        assert answer.json == {"tools": [{"name": "of-ada", "description": "", "schema": {}}]}
        tag = answer.headers["etag"]
        known = await ask(stage.app, "GET", "/v1/tools", {**ADA, "if-none-match": f'"x", W/{tag}'})
        assert (known.status, known.body) == (304, b"")
        other = await ask(stage.app, "GET", "/v1/tools", {"authorization": "bob", "if-none-match": tag})
        assert other.status == 200
        assert "private" in answer.headers["cache-control"]

    asyncio.run(main())


def test_an_offer_gets_its_plan() -> None:
    """What the link would follow, what there is, and a ticket."""

    async def main() -> None:
        stage = Stage()
        body = json.dumps({"caps": {"chunk_chars": 50, "grants": False}}).encode()
        answer = (await ask(stage.app, "POST", "/v1/handshake", {**ADA, **JSON}, body)).json
        assert (answer["plan"]["chunk_chars"], answer["plan"]["grants"]) == (50, False)
        assert {each["transport"] for each in answer["transports"]} == {"websocket", "sse", "answer", "grpc"}
        assert answer["limits"]["items"] == 1024
        assert stage.tickets.redeem(answer["ticket"], "/v1/stream") == Principal("ada")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ([], "BAD_TYPE"),
        ({"v": [7]}, "UNKNOWN_VERSION"),
        ({"caps": {"chunk_chars": -1}}, "NUMBER_RANGE"),
        ({"ticket_for": "/metrics"}, "BAD_TYPE"),
        ({"ticket_for": []}, "BAD_TYPE"),
        ({"ticket_for": {}}, "BAD_TYPE"),
        ({"caps": [1]}, "BAD_TYPE"),
        ({"token": "x"}, "BAD_TYPE"),
    ],
)
def test_a_bad_offer(body: Any, reason: str) -> None:
    """Named; no ticket is made."""

    async def main() -> None:
        stage = Stage()
        answer = await ask(stage.app, "POST", "/v1/handshake", {**ADA, **JSON}, json.dumps(body).encode())
        assert (answer.status, answer.json["reason"]) == (400, reason)
        assert len(stage.tickets) == 0

    asyncio.run(main())


@pytest.mark.parametrize(
    ("accept", "status"),
    [("application/json", 200), ("*/*", 200), ("text/html", 406), ("text/html;q=1, application/json;q=0", 406)],
)
def test_the_accept_header_decides(accept: str, status: int) -> None:
    """JSON for who takes anything; 406 for who takes neither."""

    async def main() -> None:
        stage = Stage()
        body = json.dumps(
            {"session": "s1", "events": [{"counter": 1, "kind": "USER_MESSAGE", "text": "a", "run": "r"}]}
        )
        answer = await ask(stage.app, "POST", "/v1/stream", {**ADA, **JSON, "accept": accept}, body.encode())
        assert answer.status == status
        await stage.engine.close()

    asyncio.run(main())


def test_a_form_is_refused() -> None:
    """What a page of anybody may post without asking is not JSON."""

    async def main() -> None:
        stage = Stage()
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            for path in ("/v1/stream", "/v1/handshake"):
                answer = await ask(stage.app, "POST", path, {**ADA, "content-type": kind}, b'{"session": "s1"}')
                assert answer.status == 415

    asyncio.run(main())


def test_a_head_opens_no_stream() -> None:
    """It would be a link that nobody reads."""

    async def main() -> None:
        stage = Stage()
        answer = await ask(stage.app, "HEAD", "/v1/stream?session=s1", {**ADA, "accept": "text/event-stream"})
        assert answer.status == 406
        assert stage.engine.attached == 0

    asyncio.run(main())
