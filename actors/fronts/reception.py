"""The home's side of links and events that other fronts take in: served from the directory, as local ones are.

Law of this file: a link that another front took in is a link like any other: the same welcome, credit,
order and end. Its frames are asked for before they are made, so what its client does not read stays in
the session's rings. The loss of its front is a disconnect, never a cancel.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from laneway.actors.directory.directory import SessionDirectory
from laneway.actors.fronts.flow import Flow
from laneway.actors.fronts.parcels import Parcels, hello_of, principal_of, size_bytes
from laneway.actors.hosts.peers import (
    ATTACH,
    ATTACHED,
    ENDED,
    INGEST,
    LEAVE,
    LINK_IN,
    LINK_OUT,
    NEXT,
    TOLD,
    Message,
    Peer,
)
from laneway.actors.ports import Principal
from laneway.actors.sessions.attachment import Attachment
from laneway.actors.spans import SpanValue
from laneway.routing.envelope import Envelope
from laneway.routing.errors import Draining, HandlerFailed, LanewayError, LinkClosed, Overloaded, PeerProtocolError
from laneway.routing.failures import error_fields, error_of_fields
from laneway.routing.link import LinkFrame

__all__ = ["Reception"]

_T = TypeVar("_T")
_log: Final = logging.getLogger(__name__)
_LINGER_S: Final = 2.0
"""How long the last frames of a link may take to be asked for; an edge waits 1 s for them."""


_OPENING_BYTES: Final = 1_048_576
"""Of events that wait for one session to open: as much as one frame of a client holds."""
_OPENING_RETRY_MS: Final = 500


class _Guest:
    """One link of another front's client."""

    __slots__ = ("attachment", "linger", "task", "turns", "waiter")

    def __init__(self) -> None:
        self.attachment: Attachment | None = None
        self.task: asyncio.Task[LanewayError] | None = None
        self.linger: asyncio.TimerHandle | None = None
        self.turns = 0
        self.waiter: asyncio.Future[None] | None = None

    async def turn(self) -> None:
        """Wait until another LINK_OUT may be sent, and use that up."""
        while not self.turns:
            self.waiter = asyncio.get_running_loop().create_future()
            try:
                await self.waiter
            finally:
                self.waiter = None
        self.turns -= 1


class _Voice:
    """A speaker whose answers go back to the front that it speaks through."""

    def __init__(self, peer: Peer, number: int, client: str, principal: Principal, origin: Mapping[str, Any]) -> None:
        self.client = client
        self.principal = principal
        self.origin: Mapping[str, SpanValue] = origin
        self._peer = peer
        self._number = number

    def tell(self, **fields: object) -> None:
        """Pass an answer on."""
        self._peer.send((TOLD, self._number, fields))


class _Opening:
    """What has come for a session that is being opened."""

    __slots__ = ("bytes", "waiting")

    def __init__(self) -> None:
        self.waiting: list[tuple[_Voice, list[Envelope]]] = []
        self.bytes = 0

    def add(self, voice: _Voice, envelopes: list[Envelope], size: int) -> None:
        """Let events wait; what does not fit is refused, and none of it is taken."""
        if self.waiting and self.bytes + size > _OPENING_BYTES:
            refusal = Overloaded("too much waits for this session to open; try again", retry_after_ms=_OPENING_RETRY_MS)
            voice.tell(error=error_fields(refusal))
            return
        self.bytes += size
        self.waiting.append((voice, envelopes))


class Reception:
    """A `switchboard.Part` for ATTACH, NEXT, LINK_IN, LEAVE and INGEST. Lives on one event loop."""

    def __init__(self, directory: SessionDirectory, flow: Flow, parcels: Parcels) -> None:
        self._directory = directory
        self._flow = flow
        self._parcels = parcels
        self._guests: dict[Peer, dict[int, _Guest]] = {}
        self._opening: dict[tuple[str, str], _Opening] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._last: LanewayError = LinkClosed("the link was left")

    def __len__(self) -> int:
        """Links of other fronts' clients."""
        return sum(map(len, self._guests.values()))

    async def close(self) -> None:
        """End what is left here; idempotent. The directory closes first, so that links end as it says."""
        self._last = Draining("the front of this session has shut down; connect again", retry_after_ms=0)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LINGER_S)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- the part -------------------------------------------------------------------------------

    def handlers(self) -> Mapping[int, Callable[[Peer, Message], None]]:
        """The verbs that the front of a client sends."""
        return {
            ATTACH: self._attach,
            NEXT: self._next,
            LINK_IN: self._link_in,
            LEAVE: self._leave,
            INGEST: self._ingest,
        }

    def connected(self, peer: Peer) -> None:
        """Its clients may come."""
        self._guests[peer] = {}

    def lost(self, peer: Peer, error: LanewayError) -> None:
        """Its clients are disconnected."""
        for guest in self._guests.pop(peer, {}).values():
            if guest.task is not None:
                guest.task.cancel()

    def _start(self, work: Coroutine[Any, Any, _T], name: str) -> asyncio.Task[_T]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- links ------------------------------------------------------------------------------------

    def _attach(self, peer: Peer, message: Message) -> None:
        _, number, fields, row, origin = message
        hello = hello_of(fields)
        guest = self._guests[peer][number] = _Guest()
        attach = partial(self._directory.attach, hello, principal_of(row), origin, relayed=True)
        guest.task = self._start(self._serve(peer, number, guest, attach), f"relay {hello.session} to {peer.name}")
        guest.task.add_done_callback(partial(self._over, peer, number, guest))

    async def _serve(
        self, peer: Peer, number: int, guest: _Guest, attach: Callable[[], Coroutine[Any, Any, Attachment]]
    ) -> LanewayError:
        """See one link through, and return what ended it."""
        try:
            attachment = guest.attachment = await attach()
            peer.send((ATTACHED, number))
            while True:
                if attachment.link.state != "CLOSED":  # else there are no more frames, only their end
                    await guest.turn()
                await self._pass_on(peer, number, guest, await attachment.frames())
        except LanewayError as error:
            return error.with_traceback(None)  # the link keeps it, and would be kept by it
        except Exception as error:
            _log.exception("a relayed link failed")
            return HandlerFailed(f"relaying raised {type(error).__name__}; see the log of the session's front")

    async def _pass_on(self, peer: Peer, number: int, guest: _Guest, frames: Sequence[LinkFrame]) -> None:
        """Send frames, in as many messages as they need; the first one's turn is used up already."""
        for index, (rows, size) in enumerate(self._parcels.out(frames)):
            if index:
                await guest.turn()
            await self._flow.room(peer, size)
            peer.send((LINK_OUT, number, rows))

    def _over(self, peer: Peer, number: int, guest: _Guest, task: asyncio.Task[LanewayError]) -> None:
        """A link has ended, or was left: its front is told in any case."""
        if guest.attachment is not None:
            guest.attachment.leave()
        if guest.linger is not None:
            guest.linger.cancel()
        self._guests.get(peer, {}).pop(number, None)
        peer.send((ENDED, number, error_fields(self._last if task.cancelled() else task.result())))

    def _next(self, peer: Peer, message: Message) -> None:
        guest = self._guests[peer].get(message[1])
        if guest is not None:
            guest.turns += 1
            if guest.waiter is not None and not guest.waiter.done():
                guest.waiter.set_result(None)

    def _link_in(self, peer: Peer, message: Message) -> None:
        _, number, header, items = message
        self._flow.taken(peer, size_bytes(items))
        guest = self._guests[peer].get(number)
        if guest is None or guest.attachment is None:
            return  # it is over
        try:
            guest.attachment.take(header, self._parcels.unpack(items))
        except PeerProtocolError as error:  # the client's fault, not its front's
            guest.attachment.leave(error)

    def _leave(self, peer: Peer, message: Message) -> None:
        _, number, fields = message
        guest = self._guests[peer].get(number)
        if guest is None or guest.task is None:
            return
        if fields is None or guest.attachment is None:
            guest.task.cancel()
        else:
            guest.attachment.leave(error_of_fields(fields))
            guest.linger = asyncio.get_running_loop().call_later(_LINGER_S, guest.task.cancel)

    # -- events beside links ------------------------------------------------------------------------

    def _ingest(self, peer: Peer, message: Message) -> None:
        _, number, session, client, row, origin, items = message
        size = size_bytes(items)
        self._flow.taken(peer, size)
        voice = _Voice(peer, number, client, principal_of(row), origin)
        envelopes = self._parcels.unpack(items)
        key = (voice.principal.tenant, session)
        home = self._directory.find(*key)
        if key in self._opening:  # what came before goes first
            self._opening[key].add(voice, envelopes, size)
        elif home is not None:
            home.ingest(voice, envelopes)
        else:
            opening = self._opening[key] = _Opening()
            opening.add(voice, envelopes, size)
            self._start(self._open(key), f"open {session} for {peer.name}")

    async def _open(self, key: tuple[str, str]) -> None:
        """Open a session and give it what has come for it meanwhile, in order; or say why not."""
        home, refusal = None, None
        try:
            home = await self._directory.open(*key)
        except LanewayError as error:
            refusal = error
        except Exception as error:
            _log.exception("a session could not be opened for another front")
            refusal = HandlerFailed(f"opening raised {type(error).__name__}; see the log of the session's front")
        finally:
            waiting = self._opening.pop(key).waiting
        for voice, envelopes in waiting:
            if home is not None:
                home.ingest(voice, envelopes)
            elif refusal is not None:
                voice.tell(error=error_fields(refusal))
