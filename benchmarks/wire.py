"""A lean client of one session over gRPC: frames as the protocol has them, and nothing between.

Law of this file: it keeps the protocol (order, acks, credit, pongs) by the product's own codec and
inbox; what is slow in a client of its own make is not measured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from laneway.engine.client_errors import error_of_notice
from laneway.engine.frames import Frames
from laneway.engine.proto.message import SESSION_METHOD, unwrap, wrap
from laneway.routing.classify import KindTable
from laneway.routing.envelope import NO_DEADLINE, Envelope
from laneway.routing.errors import LanewayError, LinkClosed
from laneway.routing.inbox import Given, Inbox

__all__ = ["Item", "Wire"]


class Item(NamedTuple):
    """An event to send."""

    kind: str
    lane: int
    body: bytes = b""
    entity: str = ""
    deadline: float = NO_DEADLINE


class Wire:
    """One stream of one session; one reader, any number of writers.

    Args:
        token: who opens it, as the server's `authenticate` hook reads it; empty = nobody is asked.

    Attributes:
        inbox: its place in the session's streams.
        sent: events sent so far; the newest has this counter.
        session: its name.
    """

    def __init__(self, channel: Any, session: str, kinds: KindTable, producer: str = "bench", token: str = "") -> None:
        self.inbox = Inbox()
        self.sent = 0
        self.producer = producer
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._call = channel.stream_stream(SESSION_METHOD)(metadata=metadata)
        self.session = session
        self._frames = Frames(kinds, time.monotonic)
        self._pong: int | None = None
        self._writing = asyncio.Lock()  # a call takes one write at a time; acks come in between

    async def hello(self, heartbeat_s: float = 0.0) -> None:
        """Open the link. `heartbeat_s`: our wish, 0 = none. Raises the LanewayError that the engine refused it with."""
        caps = {"grants": True, **({"heartbeat_ms": int(heartbeat_s * 1e3)} if heartbeat_s else {})}
        await self._write({"hello": {"v": [1], "client": self.producer, "session": self.session, "caps": caps}}, [])
        header, _ = await self.receive() or ({}, None)
        if "welcome" not in header:
            raise error_of_notice(header["notice"]) if "notice" in header else LinkClosed("ended instead of welcomed")

    async def lost(self, patience_s: float) -> LanewayError | None:
        """Wait for the end of a link from which nothing else is to come; return why, or None if it lives."""
        try:
            async with asyncio.timeout(patience_s):
                header, _ = await self.receive() or ({}, None)
        except TimeoutError:
            return None
        return error_of_notice(header["notice"]) if "notice" in header else LinkClosed("ended without a word")

    async def send(self, events: Sequence[Item]) -> None:
        """Send one frame."""
        us, first = self.producer, self.sent + 1
        self.sent += len(events)
        envelopes = [
            (us, counter, kind, "", "", "", entity, lane, deadline, "", "", body, 0.0)
            for counter, (kind, lane, body, entity, deadline) in enumerate(events, first)
        ]
        await self._write({}, envelopes)

    async def receive(self) -> tuple[dict[str, Any], Given] | None:
        """Wait for one frame: its header and what is new in it; None when the engine has ended the stream."""
        message = await self._call.read()
        if not isinstance(message, bytes):
            return None
        header, envelopes = self._frames.decode(unwrap(message))
        self._pong = header.get("ping", self._pong)
        return header, self.inbox.receive(header, envelopes, time.monotonic())

    async def answer(self, unread_bytes: int = 0) -> None:
        """Send the ack, grant or pong that is due; `unread_bytes` hold back the grant."""
        header = self.inbox.ack_due(time.monotonic(), unread_bytes) or {}
        if self._pong is not None:
            header["pong"], self._pong = self._pong, None
        if header:
            await self._write(header, [])

    async def close(self) -> None:
        """Say goodbye; the reader then gets None."""
        await self._write({"bye": True}, [])
        await self._call.done_writing()

    async def _write(self, header: dict[str, Any], envelopes: Sequence[Envelope]) -> None:
        async with self._writing:
            await self._call.write(wrap(self._frames.encode(header, envelopes)))
