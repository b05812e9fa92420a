"""The application: what is looked at in which order, what a route gets, what a client hears."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from laneway.actors.ports import Principal
from laneway.engine.edge.asgi import Endpoint, SocketEndpoint
from laneway.engine.edge.exchange import ABORT, Exchange
from laneway.engine.edge.origins import Origins
from laneway.engine.edge.tickets import Tickets
from laneway.engine.edge.websocket import WebSocket
from laneway.routing.errors import RateLimited, Unauthenticated
from tests.engine.edge.double import SystemClock
from tests.engine.edge.driver import Call, Socket, app, ask, scope


async def who(exchange: Exchange) -> None:
    await exchange.reply({"subject": exchange.principal.subject, "params": exchange.params, "path": exchange.path})


def hook(metadata: Mapping[str, str]) -> Principal:
    if metadata.get("authorization") != "Bearer good":
        raise Unauthenticated("no credentials")
    return Principal("ada")


def run(main: Any) -> None:
    asyncio.run(main())


def test_exact_paths_and_placeholders() -> None:
    """A placeholder is one segment that is not empty; other methods of a path are named."""

    async def main() -> None:
        routes = [
            Endpoint("GET", "/a", who),
            Endpoint("POST", "/x/{link}/go", who),
            Endpoint("GET", "/x/{link}/go", who),
        ]
        served = app(*routes)
        assert (await ask(served, "GET", "/a")).json["path"] == "/a"
        assert (await ask(served, "POST", "/x/l1/go")).json["params"] == {"link": "l1"}
        assert (await ask(served, "HEAD", "/a")).status == 200
        for path in ("/", "/a/", "/x//go", "/x/l1/go/on", "/b"):
            answer = await ask(served, "GET", path)
            assert (answer.status, answer.json["reason"]) == (404, "NO_ROUTE")
            assert answer.json["message"].endswith("there are /a")
        answer = await ask(served, "DELETE", "/x/l1/go")
        assert (answer.status, answer.headers["allow"]) == (405, "GET, POST")

    run(main)


def test_a_mount_point_is_taken_off() -> None:
    """Whether the server leaves it in the path or not."""

    async def main() -> None:
        served = app(Endpoint("GET", "/a", who))
        assert (await ask(served, "GET", "/deep/er/a", root_path="/deep/er")).json["path"] == "/a"
        assert (await ask(served, "GET", "/a", root_path="/deep/er")).json["path"] == "/a"
        assert (await ask(served, "GET", "/deeper/a", root_path="/deep")).status == 404

    run(main)


def test_credentials_come_before_the_route() -> None:
    """401 with our error and a challenge; public routes ask nobody; a hook that breaks lets nobody in."""

    async def main() -> None:
        served = app(Endpoint("GET", "/a", who), Endpoint("GET", "/healthz", who, public=True), authenticate=hook)
        refused = await ask(served, "GET", "/a")
        assert (refused.status, refused.json["code"]) == (401, "UNAUTHENTICATED")
        assert refused.headers["www-authenticate"] == "Bearer"
        assert (await ask(served, "GET", "/a", {"authorization": "Bearer good"})).json["subject"] == "ada"
        assert (await ask(served, "GET", "/healthz")).status == 200

        def broken(metadata: Mapping[str, str]) -> Principal:
            raise ZeroDivisionError

        assert (await ask(app(Endpoint("GET", "/a", who), authenticate=broken), "GET", "/a")).status == 401

    run(main)


def test_tickets_stand_in_for_headers_on_get_only() -> None:
    """Once, for their path; a POST needs the header."""

    async def main() -> None:
        tickets = Tickets(SystemClock())
        routes = [Endpoint("GET", "/a", who), Endpoint("POST", "/a", who)]
        served = app(*routes, authenticate=hook, tickets=tickets)
        ticket = tickets.issue(Principal("bob"), "/a")
        assert (await ask(served, "POST", f"/a?ticket={ticket}")).status == 401
        assert (await ask(served, "GET", f"/a?ticket={ticket}")).json["subject"] == "bob"
        spent = await ask(served, "GET", f"/a?ticket={ticket}")
        assert (spent.status, spent.json["reason"]) == (401, "TICKET")

    run(main)


def test_errors_of_routes_are_typed(caplog: pytest.LogCaptureFixture) -> None:
    """A refusal carries its delay, a bug says nothing of itself and is logged, silence is a bug."""

    async def busy(exchange: Exchange) -> None:
        raise RateLimited("too fast", retry_after_ms=1500)

    async def bug(exchange: Exchange) -> None:
        raise ZeroDivisionError("secret detail")

    async def silent(exchange: Exchange) -> None:
        return

    async def main() -> None:
        served = app(*(Endpoint("GET", f"/{route.__name__}", route) for route in (busy, bug, silent)))
        answer = await ask(served, "GET", "/busy")
        assert (answer.status, answer.headers["retry-after"], answer.json["retry_after_ms"]) == (429, "2", 1500)
        answer = await ask(served, "GET", "/bug")
        assert (answer.status, answer.json["code"]) == (500, "HANDLER_FAILED")
        assert b"secret" not in answer.body
        assert (await ask(served, "GET", "/silent")).json["code"] == "HANDLER_FAILED"

    run(main)
    assert "secret detail" in caplog.text


def test_an_error_after_the_answer_began_cuts_the_connection() -> None:
    """A body that merely ended would look complete."""
    aborted = []

    async def half(exchange: Exchange) -> None:
        await exchange.start_stream(200)
        await exchange.send(b"half of ")
        raise RateLimited("no more")

    async def main() -> None:
        given = scope("GET", "/half", extensions={ABORT: lambda: aborted.append(True)})
        call = Call(app(Endpoint("GET", "/half", half)), given)
        answer = await call.answer()
        assert (answer.status, answer.body, aborted) == (200, b"half of ", [True])

    run(main)


def test_a_page_of_an_allowed_origin_reads_answers_and_errors() -> None:
    """Also the errors; the preflight says what is allowed, never a star."""

    async def main() -> None:
        routes = [Endpoint("POST", "/a", who)]
        served = app(*routes, authenticate=hook, origins=Origins(["https://app.example"]))
        page = {"origin": "https://app.example", "host": "api.example"}
        asked = await ask(served, "OPTIONS", "/a", {**page, "access-control-request-method": "POST"})
        assert asked.status == 204
        assert asked.headers["access-control-allow-origin"] == "https://app.example"
        assert asked.headers["access-control-allow-methods"] == "POST"
        assert "authorization" in asked.headers["access-control-allow-headers"]
        refused = await ask(served, "POST", "/a", page)
        assert (refused.status, refused.headers["access-control-allow-origin"]) == (401, "https://app.example")
        other = {"origin": "https://evil.example", "host": "api.example"}
        for method, extra in (("OPTIONS", {"access-control-request-method": "POST"}), ("POST", {})):
            answer = await ask(served, method, "/a", {**other, "authorization": "Bearer good", **extra})
            assert (answer.status, answer.json["reason"]) == (403, "BAD_ORIGIN")
            assert "access-control-allow-origin" not in answer.headers

    run(main)


def test_an_upgrade_is_refused_by_status_or_by_close_code() -> None:
    """Origin, path and subprotocol before the upgrade; credentials by a code that a page can see."""

    async def echo(socket: WebSocket) -> None:
        while (message := await socket.receive()) is not None:
            await socket.send(message)

    async def main() -> None:
        served = app(sockets=[SocketEndpoint("/s", echo, ("laneway.v1",))], authenticate=hook)
        for headers, path, offered, status in (
            ({"origin": "https://evil.example"}, "/s", ["laneway.v1"], 403),
            ({"origin": "null"}, "/s", ["laneway.v1"], 403),
            ({"host": "evil.example"}, "/s", ["laneway.v1"], 421),
            ({}, "/other", ["laneway.v1"], 404),
            ({}, "/s", [], 400),
            ({}, "/s", ["graphql-ws"], 400),
            ({}, "/s?token=x", ["laneway.v1"], 400),
        ):
            socket = Socket(served, path, headers, subprotocols=offered)
            assert (await socket.next())["status"] == status
            await socket.task
        socket = Socket(served, "/s")
        assert (await socket.next())["subprotocol"] == "laneway.v1"
        assert (await socket.next())["code"] == 4401
        socket = Socket(served, "/s", {"authorization": "Bearer good"})
        await socket.next()
        socket.give("hi")
        assert (await socket.next())["text"] == "hi"
        socket.leave()
        await socket.task
        old = Socket(served, "/other", extensions={})  # a server that can only say 403
        assert (await old.next())["type"] == "websocket.close"

    run(main)


def test_lifespan_is_answered() -> None:
    """Some servers refuse to start without it."""

    async def main() -> None:
        call = Call(app(), {"type": "lifespan"})
        call.incoming.put_nowait({"type": "lifespan.startup"})
        assert (await call.next())["type"] == "lifespan.startup.complete"
        call.incoming.put_nowait({"type": "lifespan.shutdown"})
        assert (await call.next())["type"] == "lifespan.shutdown.complete"
        await call.task

    run(main)
