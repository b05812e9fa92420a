"""`/v1/stream`, `/v1/handshake`, `/v1/tools`: which answer a request wants, and what it may choose from.

Law of this file: the Accept header decides, nothing else: an event stream, or one JSON document.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from laneway.engine.edge.answer import SingleAnswers
from laneway.engine.edge.exchange import Exchange
from laneway.engine.edge.gateway import Gateway
from laneway.engine.edge.jsonframes import JsonFrames
from laneway.engine.edge.offers import events_of_body, hello_of_body, hello_of_query
from laneway.engine.edge.sockets import SUBPROTOCOLS
from laneway.engine.edge.sse import EventStreams
from laneway.engine.edge.tickets import TICKET_S, Tickets
from laneway.engine.limits import Limits
from laneway.engine.values import refuse
from laneway.routing.handshake import LinkPolicy, negotiate, parse_hello

__all__ = ["Handshake", "OpenByGet", "OpenByPost", "ToolList"]

_EVENTS: Final = "text/event-stream"
_JSON: Final = "application/json"
_STREAM: Final = "/v1/stream"
_OFFER_FIELDS: Final = frozenset({"v", "client", "session", "caps", "ticket_for"})


class OpenByGet:
    """`GET /v1/stream`: an event stream, for EventSource."""

    def __init__(self, streams: EventStreams) -> None:
        self._streams = streams

    async def __call__(self, exchange: Exchange) -> None:
        """Serve the stream."""
        if exchange.method != "GET" or not exchange.request.accepts(_EVENTS):
            refuse("NOT_ACCEPTABLE", f"a GET is answered with a stream: send `accept: {_EVENTS}`")
        await self._streams.serve(exchange, hello_of_query(exchange))


class OpenByPost:
    """`POST /v1/stream`: an event stream, or one JSON answer."""

    def __init__(self, streams: EventStreams, answers: SingleAnswers, frames: JsonFrames) -> None:
        self._streams = streams
        self._answers = answers
        self._frames = frames

    async def __call__(self, exchange: Exchange) -> None:
        """Serve what is accepted; who accepts anything gets JSON."""
        request = exchange.request
        streaming = request.accepts(_EVENTS)
        if not streaming and not request.accepts(_JSON) and not request.accepts_anything():
            refuse("NOT_ACCEPTABLE", f"there are {_EVENTS} and {_JSON}")
        hello, fields = await hello_of_body(exchange)
        if not streaming:
            await self._answers.serve(exchange, hello, fields)
            return
        if fields.keys() - {"events", "message"}:
            refuse(
                "BAD_TYPE", "a stream is opened with hello fields and `events` or `message`; it has no end to wait for"
            )
        await self._streams.serve(exchange, hello, self._frames.events(events_of_body(fields), exchange.trace))


class Handshake:
    """`POST /v1/handshake`: what a client offers -> the plan it would get, the transports, the limits, a ticket.

    Args:
        policy: what links are offered.
        paths: for which of them a ticket may be asked.
    """

    def __init__(self, policy: LinkPolicy, limits: Limits, tickets: Tickets, paths: frozenset[str]) -> None:
        self._policy = policy
        self._limits = limits
        self._tickets = tickets
        self._paths = paths

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one offer."""
        offer = await exchange.json()
        if not isinstance(offer, Mapping) or not offer.keys() <= _OFFER_FIELDS:
            refuse("BAD_TYPE", f"an offer is an object of {', '.join(sorted(_OFFER_FIELDS))}")
        path = offer.get("ticket_for", _STREAM)
        if not isinstance(path, str) or path not in self._paths:
            refuse("BAD_TYPE", f"`ticket_for` is one of {', '.join(sorted(self._paths))}")
        hello = parse_hello({"v": [1], "client": "offer", "session": "offer", **offer})
        plan = negotiate(hello, self._policy)
        await exchange.reply(
            {
                "v": 1,
                "plan": plan.describe(),
                "transports": _transports(),
                "limits": {name: getattr(self._limits, name) for name in Limits.__dataclass_fields__},
                "ticket": self._tickets.issue(exchange.principal, path),
                "ticket_for": path,
                "ticket_s": TICKET_S,
            }
        )


class ToolList:
    """`GET /v1/tools`: the catalogue, as this principal may use it."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, exchange: Exchange) -> None:
        """Answer with the list, or 304 if the client has it."""
        from pydantic_core import to_json

        body = to_json({"tools": await self._gateway.call("tools", {}, (), exchange.principal)})
        tag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
        headers = {"etag": tag, "cache-control": "private, no-cache", "content-type": _JSON}
        known = [each.strip().removeprefix("W/") for each in exchange.headers.get("if-none-match", "").split(",")]
        if tag in known or "*" in known:
            await exchange.respond(304, headers)
        else:
            await exchange.respond(200, headers, body)


def _transports() -> list[dict[str, Any]]:
    return [
        {"transport": "websocket", "path": _STREAM, "subprotocols": list(SUBPROTOCOLS), "grants": True},
        {"transport": "sse", "path": _STREAM, "methods": ["GET", "POST"], "accept": _EVENTS, "grants": "by POST"},
        {"transport": "answer", "path": _STREAM, "methods": ["POST"], "accept": _JSON, "grants": False},
        {"transport": "grpc", "service": "laneway.v1.Edge", "grants": True},
    ]
