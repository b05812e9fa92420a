"""`/v1/stream` as server-sent events: frames as JSON, one a message, resumable by its id.

Law of this file: lines end with LF only (a CRLF reaches no AG-UI client), the id is the cursor after
the message, and a link is reached by POST only by the principal that opened it. The first message
is the welcome; before it a refusal is an HTTP status.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from laneway.actors.ports import Principal
from laneway.engine.edge.cursors import cursor_word
from laneway.engine.edge.exchange import Exchange
from laneway.engine.edge.hosting import Hosting
from laneway.engine.edge.jsonframes import JsonFrames
from laneway.engine.edge.stream import SessionStream
from laneway.engine.frames import Frame
from laneway.routing.envelope import Envelope
from laneway.routing.errors import SlowConsumer, UnknownSession
from laneway.routing.handshake import parse_cursor
from laneway.routing.replay import Cursor

__all__ = ["EventLink", "EventLinks", "EventStreams"]

_PING: Final = b": ping\n\n"
_HEADERS: Final = {"content-type": "text/event-stream", "cache-control": "no-store", "x-accel-buffering": "no"}
"""`x-accel-buffering` keeps nginx from holding events back."""
_DATA: Final = 1


@dataclass(frozen=True, slots=True)
class EventLink:
    """One open event stream, as the POSTs beside it reach it."""

    stream: SessionStream
    session: str
    client: str


class EventLinks:
    """The open event streams of one edge by link id."""

    def __init__(self) -> None:
        self._links: dict[str, EventLink] = {}

    def __len__(self) -> int:
        return len(self._links)

    def enter(self, link_id: str, link: EventLink) -> None:
        """Add one."""
        self._links[link_id] = link

    def leave(self, link_id: str) -> None:
        """Forget one; unknown ones are no error."""
        self._links.pop(link_id, None)

    def find(self, link_id: str, principal: Principal) -> EventLink:
        """Return the link. Raises UnknownSession, alike for one that is not there and one of somebody else."""
        link = self._links.get(link_id)
        if link is not None:
            owner = link.stream.principal
            if (owner.tenant, owner.subject) == (principal.tenant, principal.subject):
                return link
        raise UnknownSession("there is no such link; open a new one with your cursor")


class EventStreams:
    """Serves sessions as event streams."""

    def __init__(self, hosting: Hosting, frames: JsonFrames, links: EventLinks) -> None:
        self._hosting = hosting
        self._frames = frames
        self._links = links

    async def serve(self, exchange: Exchange, hello: Mapping[str, Any], events: Sequence[Envelope] = ()) -> None:
        """Serve one stream from its hello. Raises what refused it, before the answer began."""
        await exchange.body()
        wire = _EventWire(exchange, self._frames, self._links, ({"hello": dict(hello)}, list(events)))
        wire.stream = self._hosting.stream(wire, exchange.principal, "sse")
        try:
            reason = await self._hosting.serve(wire.stream)
        finally:
            await wire.close()
        if reason is not None and not exchange.started:
            raise reason
        if isinstance(reason, SlowConsumer):
            exchange.abort()


class _EventWire:
    """The frames of one event stream.

    Attributes:
        stream: what it carries; set before it is served.
    """

    stream: SessionStream

    def __init__(self, exchange: Exchange, frames: JsonFrames, links: EventLinks, opening: Frame) -> None:
        self._exchange = exchange
        self._frames = frames
        self._opening: Frame | None = opening
        self._hello: Mapping[str, Any] = opening[0]["hello"]
        self._cursor = Cursor()
        self._link_id = ""
        self._links = links
        self._pinging: asyncio.Task[None] | None = None

    async def read(self) -> Frame | None:
        opening, self._opening = self._opening, None
        if opening is None:
            await self._exchange.disconnected
        return opening

    async def write(self, header: Mapping[str, Any], envelopes: Sequence[Envelope]) -> None:
        if "welcome" in header:
            await self._begin(header["welcome"])
        elif not self._exchange.started:
            return  # a refusal before the welcome: the HTTP status says it
        self._advance(header, len(envelopes))
        notice = header.get("notice")
        delay_ms = notice.get("retry_after_ms") if isinstance(notice, Mapping) else None
        retry = b"retry: %d\n" % delay_ms if isinstance(delay_ms, int) else b""
        data = self._frames.encode(header, envelopes)
        await self._exchange.send(b"id: %s\n%sdata: %s\n\n" % (cursor_word(self._cursor).encode(), retry, data))

    async def close(self) -> None:
        """Forget the link and stop pinging."""
        self._links.leave(self._link_id)
        if self._pinging is not None:
            self._pinging.cancel()
            await asyncio.gather(self._pinging, return_exceptions=True)

    async def _begin(self, welcome: Mapping[str, Any]) -> None:
        resumed = welcome["resume"] == "resumed"
        self._cursor = parse_cursor(welcome["cursor"], "welcome.cursor")
        self._cursor = self._cursor._replace(skip=self._hello.get("skip") or 0 if resumed else 0)
        self._link_id = welcome["link"]
        self._links.enter(self._link_id, EventLink(self.stream, welcome["session"], str(self._hello["client"])))
        await self._exchange.start_stream(200, _HEADERS)
        self._pinging = asyncio.create_task(self._ping(float(welcome["plan"]["heartbeat_s"])))

    async def _ping(self, pause_s: float) -> None:
        """Comments keep proxies from closing an idle stream, and find out that a client is gone."""
        try:
            while True:
                await asyncio.sleep(pause_s)
                await self._exchange.send(_PING)
        except ConnectionError:
            return

    def _advance(self, header: Mapping[str, Any], items: int) -> None:
        """Move the cursor over the items of a frame; see `routing/items.py` for their shape."""
        first = header.get("first")
        if not isinstance(first, int):
            return
        seq, tail = first, 0
        for span, tail, *_ in header.get("shape") or [(1, 0)] * items:
            seq += span - 1 if tail else span
        if header["stream"] == _DATA:
            self._cursor = self._cursor._replace(data=seq - 1, skip=tail)
        else:
            self._cursor = self._cursor._replace(urgent=seq - 1)
