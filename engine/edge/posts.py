"""The POSTs beside an event stream: credit, and events in.

Law of this file: a link is found by its id and the principal that opened it; a bad field is the
trouble of its request only, and every event gets an answer of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from laneway.actors.ports import Principal
from laneway.engine.edge.exchange import Exchange, error_document
from laneway.engine.edge.gateway import Gateway
from laneway.engine.edge.hosting import origin
from laneway.engine.edge.jsonframes import JsonFrames
from laneway.engine.edge.sse import EventLinks
from laneway.engine.values import refuse
from laneway.routing.envelope import COUNTER, Envelope
from laneway.routing.errors import DeadlineExceeded, LanewayError
from laneway.routing.failures import error_of_code

__all__ = ["Answers", "GrantPost", "SendPost"]

_ANSWER_S: Final = 30.0
_GRANT_FIELDS: Final = frozenset({"ack", "grant", "ping", "pong", "bye"})


class Answers:
    """Collects what becomes of events that one request sent in (`Gateway.ingest`'s speaker).

    Args:
        client: the producer of the events. transport: what their spans say.
    """

    def __init__(self, client: str, principal: Principal, envelopes: Sequence[Envelope], transport: str) -> None:
        self.client = client
        self.principal = principal
        self.origin = origin(transport)
        self._counters = [env[COUNTER] for env in envelopes]
        if len(set(self._counters)) != len(self._counters):
            refuse("DUPLICATE_COUNTER", "two events of one request have the same counter")
        self._given: dict[int, str | LanewayError] = {}
        self._whole = asyncio.Event()

    def tell(self, **fields: Any) -> None:
        """Take answers; what is not one of ours is dropped."""
        for first, count, grade in fields.get("ok", ()):
            self._given.update(dict.fromkeys(range(first, first + count), grade))
        for counters, code, reason, message, retry_after_ms in fields.get("refused", ()):
            error = error_of_code(code, message, reason=reason, retry_after_ms=retry_after_ms)
            self._given.update(dict.fromkeys(counters, error))
        if all(counter in self._given for counter in self._counters):
            self._whole.set()

    async def wait(self, timeout_s: float = _ANSWER_S) -> None:
        """Wait for the last one. Raises DeadlineExceeded."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._whole.wait()
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"no answer within {timeout_s:g} s; the events may have been taken: send them again with the same "
                "counters, repeats are harmless"
            ) from error

    @property
    def refusal(self) -> LanewayError | None:
        """The first refusal, if every event was refused; else None."""
        given = [self._given[counter] for counter in self._counters]
        errors = [each for each in given if isinstance(each, LanewayError)]
        return errors[0] if errors and len(errors) == len(given) else None

    def document(self) -> list[dict[str, Any]]:
        """Return one object per event, in their order."""
        rows = []
        for counter in self._counters:
            given = self._given[counter]
            answer = {"error": error_document(given)} if isinstance(given, LanewayError) else {"status": given}
            rows.append({"counter": counter, **answer})
        return rows


class GrantPost:
    """`POST /v1/stream/{link}/grant`: ack, grant, pong, bye of an event stream's client."""

    def __init__(self, links: EventLinks) -> None:
        self._links = links

    async def __call__(self, exchange: Exchange) -> None:
        """Hand the fields to the link and answer 204."""
        link = self._links.find(exchange.params["link"], exchange.principal)
        fields = await exchange.json()
        if not isinstance(fields, Mapping) or not fields.keys() <= _GRANT_FIELDS:
            refuse("BAD_TYPE", f"the body is an object of {', '.join(sorted(_GRANT_FIELDS))}")
        await link.stream.take(fields)
        await exchange.respond(204)


class SendPost:
    """`POST /v1/stream/{link}/send`: events in from an event stream's client."""

    def __init__(self, gateway: Gateway, frames: JsonFrames, links: EventLinks) -> None:
        self._gateway = gateway
        self._frames = frames
        self._links = links

    async def __call__(self, exchange: Exchange) -> None:
        """Answer 202 with what became of each event, or the first refusal if all were refused."""
        link = self._links.find(exchange.params["link"], exchange.principal)
        body = await exchange.json()
        if not isinstance(body, Mapping) or body.keys() != {"events"} or not body["events"]:
            refuse("BAD_TYPE", 'the body is {"events": [...]} with at least one')
        envelopes = self._frames.events(body["events"], exchange.trace)
        answers = Answers(link.client, exchange.principal, envelopes, "sse")
        await self._gateway.ingest(link.session, answers, envelopes)
        await answers.wait()
        refusal = answers.refusal
        if refusal is None:
            await exchange.reply({"answers": answers.document()}, 202)
        else:
            await exchange.fail(refusal, {"answers": answers.document()})
