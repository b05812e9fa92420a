"""One exchange: bodies within bounds, answers with safe headers, streams that end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from laneway.engine.edge.asgi import Asgi, Endpoint
from laneway.engine.edge.exchange import ABORT, Exchange
from laneway.engine.limits import Limits
from tests.engine.edge.driver import Call, app, ask, scope

JSON = {"content-type": "application/json"}


async def echo(exchange: Exchange) -> None:
    await exchange.reply({"got": await exchange.json()})


def echoing(**options: Any) -> Asgi:
    return app(Endpoint("POST", "/echo", echo), **options)


@pytest.mark.parametrize(
    ("headers", "body", "status", "reason"),
    [
        (JSON, b'{"a": 1}', 200, None),
        ({"content-type": "application/json; charset=utf-8"}, b"[]", 200, None),
        ({}, b"{}", 415, "UNSUPPORTED_MEDIA"),
        ({"content-type": "text/plain"}, b"{}", 415, "UNSUPPORTED_MEDIA"),
        ({**JSON, "content-encoding": "gzip"}, b"\x1f\x8b", 415, "ENCODED"),
        ({**JSON, "content-length": "99999999999999999999"}, b"", 413, "TOO_LARGE"),
        (JSON, b'"' + b"x" * 2000 + b'"', 413, "TOO_LARGE"),
        (JSON, b"{", 400, "TRUNCATED"),
        (JSON, b"[" * 33 + b"]" * 33, 400, "DEPTH_EXCEEDED"),
        (JSON, b"[" * 900, 400, "DEPTH_EXCEEDED"),
        (JSON, b"[1e400]", 400, "NON_FINITE"),
        (JSON, b"[NaN]", 400, "NON_FINITE"),
        (JSON, b'"\xff"', 400, "BAD_UTF8"),
        (JSON, b"\xef\xbb\xbf{}", 400, "BAD_UTF8"),
        (JSON, b"{} {}", 400, "TRAILING_BYTES"),
    ],
)
def test_bodies(headers: dict[str, str], body: bytes, status: int, reason: str | None) -> None:
    """JSON that says so, within the limits; everything else is a typed error."""

    async def main() -> None:
        answer = await ask(echoing(limits=Limits(body_bytes=1024)), "POST", "/echo", headers, body)
        assert (answer.status, answer.json.get("reason")) == (status, reason)

    asyncio.run(main())


def test_a_body_in_parts_is_counted_as_it_comes() -> None:
    """Without a length the refusal comes at the limit, not at the end."""

    async def main() -> None:
        call = Call(echoing(limits=Limits(body_bytes=1024)), scope("POST", "/echo", JSON))
        for _ in range(3):
            call.feed(b"x" * 500, more=True)
        assert (await call.answer()).status == 413
        assert call.incoming.empty()

    asyncio.run(main())


def test_a_slow_body_is_given_up() -> None:
    """408 after the deadline."""

    async def main() -> None:
        call = Call(echoing(body_s=0.05), scope("POST", "/echo", JSON))
        call.feed(b"{", more=True)
        answer = await call.answer()
        assert (answer.status, answer.json["reason"]) == (408, "SLOW_BODY")

    asyncio.run(main())


def test_a_client_that_leaves_in_its_body_gets_no_answer() -> None:
    """And is no error."""

    async def main() -> None:
        call = Call(echoing(), scope("POST", "/echo", JSON))
        call.feed(b"{", more=True)
        call.leave()
        async with asyncio.timeout(20):
            await call.task
        assert call.outgoing.empty()

    asyncio.run(main())


def test_answers_carry_safe_headers_and_routes_may_choose_their_own() -> None:
    """nosniff, no framing, no storing; a page sets its own policy."""

    async def page(exchange: Exchange) -> None:
        await exchange.respond(200, {"content-security-policy": "default-src 'self'"}, b"hi")

    async def main() -> None:
        answer = await ask(app(Endpoint("GET", "/page", page)), "GET", "/page")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"] == "default-src 'self'"
        assert answer.headers["content-length"] == "2"

    asyncio.run(main())


def test_a_stream_learns_that_its_client_left() -> None:
    """`disconnected` is done, and sending is a ConnectionError, which needs no handling."""

    async def stream(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.start_stream(200)
        await exchange.send(b"one")
        await exchange.disconnected
        await exchange.send(b"two")

    async def main() -> None:
        call = Call(app(Endpoint("GET", "/stream", stream)), scope("GET", "/stream"))
        call.feed(b"")
        assert (await call.next())["status"] == 200
        assert (await call.next())["body"] == b"one"
        call.leave()
        async with asyncio.timeout(20):
            await call.task
        assert call.outgoing.empty()

    asyncio.run(main())


def test_a_stream_that_nobody_reads_is_cut_off() -> None:
    """Its end cannot be written: the connection is reset after a second."""
    aborted: list[bool] = []

    async def stream(exchange: Exchange) -> None:
        await exchange.start_stream(200)
        await exchange.disconnected

    async def main() -> None:
        given = scope("GET", "/stream", extensions={ABORT: lambda: aborted.append(True)})
        call = Call(app(Endpoint("GET", "/stream", stream)), given)
        await call.next()
        call.flowing.clear()
        call.leave()
        async with asyncio.timeout(20):
            await call.task
        assert aborted == [True]

    asyncio.run(main())
