"""What may be left out of a hello that comes over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from laneway.engine.edge.asgi import Endpoint
from laneway.engine.edge.exchange import Exchange
from laneway.engine.edge.offers import events_of_body, hello_of_body, hello_of_query
from laneway.routing.errors import PeerProtocolError
from tests.engine.edge.driver import app, ask

JSON = {"content-type": "application/json"}


async def by_query(exchange: Exchange) -> None:
    await exchange.reply(hello_of_query(exchange))


async def by_body(exchange: Exchange) -> None:
    hello, rest = await hello_of_body(exchange)
    await exchange.reply({"hello": hello, "rest": rest})


SERVED = (Endpoint("GET", "/", by_query), Endpoint("POST", "/", by_body))


def asked(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Any:
    async def main() -> Any:
        return (await ask(app(*SERVED), method, path, headers, body)).json

    return asyncio.run(main())


def test_a_query_is_a_hello() -> None:
    """Version and grants are known, a client id is made up if none is given."""
    hello = asked("GET", "/?session=s1&topics=topic:a,topic:b&cursor=e.1.2%2B3&run=r", {})
    assert hello.pop("client").startswith("http-")
    assert hello == {
        "v": [1],
        "session": "s1",
        "caps": {"grants": False},
        "topics": ["topic:a", "topic:b"],
        "cursor": ["e", 1, 2],
        "skip": 3,
        "run": "r",
    }


def test_a_message_is_one_event() -> None:
    """Whoever only wants to say something needs to know nothing of events; both at once is a mistake."""
    said = [{"counter": 1, "kind": "USER_MESSAGE", "text": "hi"}]
    assert events_of_body({"message": "hi"}) == said
    assert events_of_body({"events": said}) == said
    assert events_of_body({}) == []
    for wrong in ({"message": "hi", "events": said}, {"message": 7}):
        with pytest.raises(PeerProtocolError, match="not both"):
            events_of_body(wrong)


def test_a_body_is_a_hello_and_more() -> None:
    """A cursor as word or as list; what the client says counts; the remembered id is newer than both."""
    said = asked(
        "POST", "/", JSON, b'{"v": [1, 2], "client": "c1", "session": "s1", "cursor": "e.1.2", "message": "hi"}'
    )
    assert said["hello"]["cursor"] == ["e", 1, 2]
    assert (said["hello"]["v"], said["rest"]) == ([1, 2], {"message": "hi"})
    said = asked("POST", "/", {**JSON, "last-event-id": "e.0.9"}, b'{"session": "s1", "cursor": ["e", 1, 2]}')
    assert said["hello"]["cursor"] == ["e", 0, 9]
    said = asked("POST", "/", JSON, b'{"session": "s1", "caps": {"grants": true}, "cursor": null}')
    assert said["hello"]["caps"] == {"grants": True}


@pytest.mark.parametrize("body", [b"{}", b'{"session": null}', b'{"session": ""}'])
def test_a_session_that_nobody_named_is_asked_for(body: bytes) -> None:
    """By a sentence that says which field, for who never saw a hello."""
    for answer in (asked("POST", "/", JSON, body), asked("GET", "/?session=", {})):
        assert answer["reason"] == "BAD_TYPE"
        assert answer["message"].startswith("name the session")
