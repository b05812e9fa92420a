"""The asking side of sessions that are at home with another front: links, and events beside them.

Law of this file: everything that was asked of a front ends: by its answer, at a deadline, or with that
front. What it may have taken before it was lost is not known, and is sent again by whoever asked: events
are known by their counters, and links by their cursors.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from typing import Any, Final

from laneway.actors.fronts.flow import Flow
from laneway.actors.fronts.parcels import Parcels, hello_fields, principal_row, size_bytes
from laneway.actors.fronts.relayed import RelayedLink
from laneway.actors.hosts.peers import ATTACH, ATTACHED, ENDED, INGEST, LINK_OUT, NEXT, TOLD, Message, Peer
from laneway.actors.ports import Principal
from laneway.actors.sessions.arrivals import Speaker
from laneway.actors.spans import SpanValue
from laneway.routing.envelope import Envelope
from laneway.routing.errors import DeadlineExceeded, HostLost, LanewayError, RuntimeUnavailable
from laneway.routing.failures import error_of_fields
from laneway.routing.handshake import Hello

__all__ = ["Relay"]

_ATTACH_S: Final = 12.0
"""More than a home may take to open (10 s), so that its own error comes first."""
_AHEAD: Final = 2
"""Batches of frames under way on a link: one travels while the other is written."""
_RETRY_MS: Final = 100


class _Asked:
    """Events that were passed on: who is told, and which have no answer yet (by counter)."""

    __slots__ = ("over", "speaker", "waiting")

    def __init__(self, speaker: Speaker, waiting: dict[int, Envelope]) -> None:
        self.speaker = speaker
        self.waiting = waiting
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class _Line:
    """What is under way over one connection."""

    __slots__ = ("asked", "links")

    def __init__(self) -> None:
        self.links: dict[int, RelayedLink] = {}
        self.asked: dict[int, _Asked] = {}


class Relay:
    """A `switchboard.Part` for ATTACHED, LINK_OUT, ENDED and TOLD. Lives on one event loop."""

    def __init__(self, flow: Flow, parcels: Parcels) -> None:
        self._flow = flow
        self._parcels = parcels
        self._lines: dict[Peer, _Line] = {}
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        """Links that go through here to other fronts."""
        return sum(len(line.links) for line in self._lines.values())

    async def attach(
        self, peer: Peer, hello: Hello, principal: Principal, origin: Mapping[str, SpanValue]
    ) -> RelayedLink:
        """Open a link there. Raises what refused it, HostLost, and DeadlineExceeded after 12 s."""
        line = self._line(peer)
        number = next(self._numbers)
        link = line.links[number] = RelayedLink(peer, number, self._flow, self._parcels)
        peer.send((ATTACH, number, hello_fields(hello), principal_row(principal), dict(origin)))
        for _ in range(_AHEAD):
            peer.send((NEXT, number))
        try:
            async with asyncio.timeout(_ATTACH_S):
                await link.opened
        except TimeoutError:
            await link.close()
            late = f"front {peer.name!r} did not open session {hello.session!r} within {_ATTACH_S:g} s"
            raise DeadlineExceeded(late, retry_after_ms=_RETRY_MS) from None
        except asyncio.CancelledError:
            await link.close()
            raise
        return link

    async def ingest(
        self,
        peer: Peer,
        session: str,
        speaker: Speaker,
        waiting: dict[int, Envelope],
    ) -> None:
        """Pass events on; returns once each was answered to the speaker.

        Args:
            waiting: by counter, in order; what was answered is removed from it.

        Raises HostLost, and what kept the session from being reached; the rest of `waiting` may then have
        been taken or not.
        """
        line = self._line(peer)
        items = self._parcels.pack(list(waiting.values()))
        await self._flow.room(peer, size_bytes(items))
        number = next(self._numbers)
        asked = line.asked[number] = _Asked(speaker, waiting)
        who = (speaker.client, principal_row(speaker.principal), dict(speaker.origin))
        peer.send((INGEST, number, session, *who, items))
        try:
            await asked.over
        finally:
            line.asked.pop(number, None)

    def _line(self, peer: Peer) -> _Line:
        line = self._lines.get(peer)
        if line is None or not peer.alive:
            raise RuntimeUnavailable(f"front {peer.name!r} is not connected", retry_after_ms=_RETRY_MS)
        return line

    # -- the part -------------------------------------------------------------------------------

    def handlers(self) -> Mapping[int, Callable[[Peer, Message], None]]:
        """The verbs that a session's home sends."""
        return {ATTACHED: self._attached, LINK_OUT: self._link_out, ENDED: self._ended, TOLD: self._told}

    def connected(self, peer: Peer) -> None:
        """Sessions there can be reached."""
        self._lines[peer] = _Line()

    def lost(self, peer: Peer, error: LanewayError) -> None:
        """Its links are over, and what was asked of it has no answer."""
        line = self._lines.pop(peer, None)
        if line is None:
            return
        for link in line.links.values():
            link.end(_lost(peer))
        for asked in line.asked.values():
            if not asked.over.done():
                asked.over.set_exception(_lost(peer))
                asked.over.exception()

    def _attached(self, peer: Peer, message: Message) -> None:
        link = self._lines[peer].links.get(message[1])
        if link is not None and not link.opened.done():
            link.opened.set_result(None)

    def _link_out(self, peer: Peer, message: Message) -> None:
        frames, size = self._parcels.frames(message[2])
        self._flow.taken(peer, size)
        link = self._lines[peer].links.get(message[1])
        if link is not None:
            link.take(frames)

    def _ended(self, peer: Peer, message: Message) -> None:
        link = self._lines[peer].links.pop(message[1], None)
        if link is not None:
            link.end(error_of_fields(message[2]))

    def _told(self, peer: Peer, message: Message) -> None:
        asked = self._lines[peer].asked.get(message[1])
        if asked is None:
            return
        fields: dict[str, Any] = message[2]
        if "error" in fields:
            if not asked.over.done():
                asked.over.set_exception(error_of_fields(fields["error"]))
            return
        for first, count, _ in fields.get("ok", ()):
            for counter in range(first, first + count):
                asked.waiting.pop(counter, None)
        for counters, *_ in fields.get("refused", ()):
            for counter in counters:
                asked.waiting.pop(counter, None)
        asked.speaker.tell(**fields)
        if not asked.waiting and not asked.over.done():
            asked.over.set_result(None)


def _lost(peer: Peer) -> HostLost:
    return HostLost(
        f"front {peer.name!r}, where this session is at home, was lost; connect again and resume",
        reason="FRONT_LOST",
        retry_after_ms=_RETRY_MS,
    )
