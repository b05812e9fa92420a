"""One client of a session, as an edge holds it: frames in, frames out, whatever the wire.

Law of this file: a short loop around the sans-IO `Link`. It waits for commits, grants and
deadlines, reads the log where the link has fallen behind the ring, and holds no data itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from laneway.actors.alarm import Alarm
from laneway.actors.ports import Clock, Principal
from laneway.actors.sessions.stretches import Stretches
from laneway.actors.spans import SpanValue
from laneway.routing.envelope import Envelope
from laneway.routing.errors import LanewayError, SlowConsumer, StoreError
from laneway.routing.link import Link, LinkFrame

__all__ = ["Attachment", "LinkOwner"]


class LinkOwner(Protocol):
    """What an attachment needs of its session's home."""

    def ingest(self, speaker: Attachment, envelopes: Sequence[Envelope]) -> None:
        """Take client events in; answers go out through `attachment.tell`."""
        ...

    def moved(self, attachment: Attachment) -> None:
        """The link's acks, grants or position moved."""
        ...

    def detached(self, attachment: Attachment) -> None:
        """The link is over."""
        ...

    def snapshot(self) -> Envelope:
        """The event that tells what was said so far."""
        ...

    async def read_log(self, stream: int, first: int) -> list[tuple[int, int, Envelope]]:
        """(seq, position, envelope) from `first` on, out of the store."""
        ...


class Attachment:
    """A live link and the waiting around it.

    Args:
        owner: the session's home.
        link: its protocol state.
        client: the client's own id; a newer attachment of the same id supersedes this one.
        principal: who it is.
        opening: frames to send before anything else (welcome, snapshot).
        stretches: told what was written, if sampled events are traced.
        origin: what the spans of its events say about the wire.
    """

    def __init__(
        self,
        owner: LinkOwner,
        link: Link,
        *,
        client: str,
        principal: Principal,
        clock: Clock,
        opening: Sequence[LinkFrame],
        stretches: Stretches | None = None,
        origin: Mapping[str, SpanValue] = {},
    ) -> None:
        self.link = link
        self.client = client
        self.principal = principal
        self.origin = origin
        self._owner = owner
        self._clock = clock
        self._opening = list(opening)
        self._stretches = stretches
        self._writing: Sequence[LinkFrame] = ()
        self._awake = False
        self._waiter: asyncio.Future[None] | None = None
        self._alarm = Alarm(clock, self._look)
        self._detached = False

    @property
    def live(self) -> bool:
        """True until the link is closed."""
        return not self._detached and self.link.closed is None

    @property
    def waits(self) -> bool:
        """True while somebody waits for frames, and was not called."""
        return self._waiter is not None and not self._waiter.done()

    def wake(self) -> None:
        """Something to send may have arrived."""
        self._awake = True
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def tell(self, **fields: object) -> None:
        """Put header content (ok, refused, notice) into the next frame."""
        self.link.tell(self._clock.now(), **fields)
        if self.link.speaks:
            self.wake()
        elif self._waiter is not None:
            self._plan()

    async def receive(self, header: Mapping[str, object], envelopes: Sequence[Envelope]) -> None:
        """Take one frame from the client. Raises PeerProtocolError if it breaks the contract."""
        self.take(header, envelopes)

    def take(self, header: Mapping[str, object], envelopes: Sequence[Envelope]) -> None:
        """As `receive`, for who cannot wait."""
        self.link.receive(header, self._clock.now())
        if "ack" in header or "grant" in header:
            self._owner.moved(self)
        if header and not self.link.idle:
            self.wake()
        if envelopes:
            self._owner.ingest(self, envelopes)

    async def frames(self) -> list[LinkFrame]:
        """Wait for and return the frames due now, in order.

        Raises the LanewayError that closed the link, once everything due before it was returned.
        Single consumer.
        """
        if self._writing:
            self._written()
        if self._opening:
            opening, self._opening = self._opening, []
            return opening
        while True:
            if not self._awake and self.link.idle:
                await self._call()
            self._awake = False
            due = self.link.poll(self._clock.now())
            if due:
                self._owner.moved(self)  # a link without grants lets producers go on as it sends
                if self._stretches is not None:
                    self._writing = due
                return due
            if self.link.closed is not None:
                self.leave()
                raise self.link.closed.with_traceback(None)  # one error may end many links
            if not await self._fill() and not self._awake:
                await self._call()

    async def close(self, error: LanewayError | None = None) -> None:
        """Leave the session; idempotent. A disconnect is not a cancel: runs go on."""
        self.leave(error)

    def leave(self, error: LanewayError | None = None) -> None:
        """As `close`, for who cannot wait."""
        if error is not None:
            self.link.close(error)
        if not self._detached:
            self._detached = True
            self._written()
            if self._stretches is not None:
                self._stretches.leave(self)
            self._owner.detached(self)
        self._alarm.close()
        self.wake()

    def end(self, error: LanewayError) -> None:
        """Close from the session's side: `frames` gives what is due, then raises `error`."""
        self.link.close(error)
        self.wake()

    def _written(self) -> None:
        """Who asks for the next frames, or leaves, has written those before."""
        frames, self._writing = self._writing, ()
        if frames and self._stretches is not None:
            about = {"messaging.client.id": self.client, **self.origin}
            self._stretches.delivered(self, about, (frame.envelopes for frame in frames))

    async def _fill(self) -> bool:
        missing = self.link.missing()
        if missing is None:
            return False
        try:
            entries = await self._owner.read_log(*missing)
        except StoreError as error:
            self.link.close(error)
            return True
        if not entries or entries[0][0] > missing[1]:
            self.link.close(
                SlowConsumer("this link fell behind what the log still holds; resume to get a snapshot and go on")
            )
        else:
            self.link.fill(missing[0], entries)
        return True

    def _call(self) -> asyncio.Future[None]:
        """Return what `wake` will end; no coroutine, which would be 200 bytes of every link that waits."""
        self._plan()
        self._waiter = waiter = asyncio.get_running_loop().create_future()
        return waiter

    def _look(self) -> None:
        """Who waits for frames is woken only if some are due."""
        deadline = self.link.deadline()
        if deadline is not None and deadline > self._clock.now():
            self._alarm.set(deadline)
        else:
            self.wake()

    def _plan(self) -> None:
        """Look again when something is due."""
        deadline = self.link.deadline()
        if deadline is not None:
            self._alarm.set(deadline)
