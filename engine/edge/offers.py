"""What a client asks for when it opens a session over HTTP: a hello from a query or a JSON body.

Law of this file: the same hello as on every wire, with what a browser may leave out filled in:
version 1, a fresh client id, and no grants, since an EventSource cannot send any.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

from laneway.engine.edge.cursors import hello_cursor
from laneway.engine.edge.exchange import Exchange
from laneway.engine.values import refuse

__all__ = ["EXTRA_FIELDS", "events_of_body", "hello_of_body", "hello_of_query"]

EXTRA_FIELDS: Final = frozenset({"deadline_ms", "events", "message", "runs"})
"""Fields of a body that are not the hello's."""
_HELLO_FIELDS: Final = frozenset({"v", "client", "session", "cursor", "skip", "grant", "caps", "topics", "run"})
_QUERY_FIELDS: Final = frozenset({"session", "client", "cursor", "run", "ticket", "topics"})


def hello_of_query(exchange: Exchange) -> dict[str, Any]:
    """Return the hello of a GET. Raises PeerProtocolError for unknown fields and a bad cursor."""
    query = exchange.query
    _known(query, _QUERY_FIELDS)
    hello: dict[str, Any] = {"session": query.get("session"), "client": query.get("client") or _fresh_client()}
    if run := query.get("run"):
        hello["run"] = run
    if topics := query.get("topics"):
        hello["topics"] = topics.split(",")
    return _completed(hello, exchange, query.get("cursor") or None)


async def hello_of_body(exchange: Exchange) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (hello, other fields) of a POST. Raises PeerProtocolError."""
    body = await exchange.json()
    if not isinstance(body, dict):
        refuse("BAD_TYPE", "the body is an object of hello fields and `events` or `message`")
    _known(body, _HELLO_FIELDS | EXTRA_FIELDS)
    hello = {key: value for key, value in body.items() if key in _HELLO_FIELDS}
    hello.setdefault("client", _fresh_client())
    word = hello.pop("cursor") if isinstance(hello.get("cursor"), str) else None
    rest = {key: value for key, value in body.items() if key in EXTRA_FIELDS}
    return _completed(hello, exchange, word), rest


def events_of_body(fields: Mapping[str, Any]) -> object:
    """Return the list of events that a POST brings: its `events`, or one user message. Raises PeerProtocolError."""
    message, given = fields.get("message"), fields.get("events", [])
    if message is None:
        return given
    if given or not isinstance(message, str):
        refuse("BAD_TYPE", "send `message`, a text, or `events`, not both")
    return [{"counter": 1, "kind": "USER_MESSAGE", "text": message}]


def _completed(hello: dict[str, Any], exchange: Exchange, word: str | None) -> dict[str, Any]:
    """The id that the browser remembered is newer than what stands in the URL."""
    if not hello.get("session"):
        refuse("BAD_TYPE", "name the session that you want to be in: `session`, 1 to 64 of A-Z a-z 0-9 _ . : -")
    word = exchange.headers.get("last-event-id") or word
    if word is not None:
        hello |= hello_cursor(word)
    return {"v": [1], "caps": {"grants": False}, **hello}


def _known(fields: Mapping[str, Any], known: frozenset[str]) -> None:
    for name in fields:
        if name not in known:
            refuse("BAD_TYPE", f"{name[:64]!r} is not a field here; there are {', '.join(sorted(known))}")


def _fresh_client() -> str:
    return f"http-{uuid.uuid4().hex[:16]}"
