"""One client's stream, whatever carries it: frames in, frames out, and who watches it.

Law of this file: two tasks per stream. The reader takes frames in, the writer sends what the
link says is due; a timer ends what takes too long. Reads are never cancelled nor wrapped in
a timeout (a cancelled gRPC read leaks memory, https://github.com/grpc/grpc/issues/43360): the
stream ends, and the pending read ends with it. Whatever is wrong is told in a `notice` with
`fatal` before the wire's own status, and is the trouble of this stream only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from laneway.actors.alarm import Alarm
from laneway.actors.ports import Clock, Principal
from laneway.engine.edge.gateway import Attachment, Gateway
from laneway.engine.frames import Frame
from laneway.engine.limits import DEFAULT_LIMITS, Limits
from laneway.routing.envelope import Envelope
from laneway.routing.errors import (
    HandlerFailed,
    LanewayError,
    LinkClosed,
    LinkLost,
    PeerProtocolError,
    SessionExpired,
    SlowConsumer,
    UnknownSession,
)
from laneway.routing.handshake import parse_hello
from laneway.routing.link import LinkFrame

__all__ = ["SessionStream", "StreamPolicy", "Wire", "notice"]

_log: Final = logging.getLogger(__name__)

_READS: Final = "laneway stream reads"
_WRITES: Final = "laneway stream writes"
"""One name for all: each of its own would be 57 bytes of every stream."""
_LATE_S: Final = 0.25
_AGAIN_S: Final = 1.0
"""A look that comes so late means that this process stood still, and what came meanwhile is read first."""
_FAREWELL_S: Final = 1.0
"""How long the last frames may take; a peer that does not read them gets the status only."""


class Wire(Protocol):
    """What carries the frames of one stream."""

    async def read(self) -> Frame | None:
        """Return the next frame, or None when there will be no more. Raises PeerProtocolError."""
        ...

    async def write(self, header: Mapping[str, Any], envelopes: Sequence[Envelope]) -> None:
        """Send one frame; waits for the transport. Raises ConnectionError when it is gone."""
        ...


@dataclass(frozen=True, slots=True)
class StreamPolicy:
    """Bounds of one stream.

    Attributes:
        hello_s: how long a client may take to introduce itself.
        stall_s: how long one write may wait for a client that does not read.
        expiry_grace_s: from SESSION_EXPIRED to the end, for a reconnect with fresh credentials.
        limits: of frames and bodies.
    """

    hello_s: float = 5.0
    stall_s: float = 30.0
    expiry_grace_s: float = 25.0
    limits: Limits = DEFAULT_LIMITS


def notice(error: LanewayError, *, fatal: bool) -> dict[str, Any]:
    """Return the header content that tells a client about an error."""
    return {
        "code": error.code,
        "reason": error.reason,
        "message": error.message,
        "retryable": error.retryable,
        "retry_after_ms": error.retry_after_ms,
        "fatal": fatal,
    }


class SessionStream:
    """Serves one stream from its hello to its end.

    Args:
        wire: its bytes.
        principal: who is speaking, checked already.
        expires_at: monotonic seconds at which the principal's credentials end, or infinity.
        origin: what the spans of its events say about the wire (`laneway.transport`, `rpc.method`).
    """

    def __init__(
        self,
        wire: Wire,
        gateway: Gateway,
        principal: Principal,
        *,
        clock: Clock,
        policy: StreamPolicy,
        expires_at: float = float("inf"),
        origin: Mapping[str, str] = {},
    ) -> None:
        self.principal = principal
        self.goodbye = False
        self._wire = wire
        self._gateway = gateway
        self._clock = clock
        self._policy = policy
        self._expires_at = expires_at
        self._origin = origin
        self._expiry_told = False
        self._hello_by = clock.now() + policy.hello_s
        self._attachment: Attachment | None = None
        self._over: asyncio.Future[LanewayError | None] = asyncio.get_running_loop().create_future()
        self._write_lock = asyncio.Lock()
        self._writing_since = float("inf")
        self._fatal_told = False
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._telling: dict[asyncio.Task[None], None] = {}  # an empty set is three times as large
        self._alarm = Alarm(clock, self._look)

    @property
    def established(self) -> bool:
        """Whether the client was welcomed."""
        return self._attachment is not None

    @property
    def reader(self) -> asyncio.Task[None] | None:
        """The reading task; it ends after the wire does, and the wire's owner then awaits it."""
        return self._reader

    def end(self, error: LanewayError | None) -> None:
        """End the stream from outside; the first reason counts."""
        if error is not None:
            error.with_traceback(None)  # a reason is kept, and its traceback would keep the stream
        if not self._over.done():
            self._over.set_result(error)

    def tell(self, error: LanewayError) -> None:
        """Send a notice that is not fatal, past whatever the link has to send."""
        self._telling_task(error, fatal=False)

    async def take(self, header: Mapping[str, Any]) -> None:
        """Take a header that came beside the wire (a grant by POST). Raises what is wrong with it."""
        if self._attachment is None or self._over.done():
            raise UnknownSession("there is no such link; open a new one with your cursor")
        await self._attachment.receive(header, ())

    async def serve(self) -> LanewayError | None:
        """Serve until the client leaves (None) or something ends it (the reason). Never raises a LanewayError."""
        self._reader = asyncio.create_task(self._read(), name=_READS)
        reason: LanewayError | None = None
        self._look()
        try:
            reason = await self._over
            await self._farewell(reason)
        finally:
            self.end(reason)
            self._alarm.close()
            tasks = [*self._telling, *([self._writer] if self._writer else [])]
            for task in tasks:
                task.cancel()
            if self._attachment is not None:
                await self._attachment.close(reason)
            await asyncio.gather(*tasks, return_exceptions=True)
        return reason

    # ---- in ---------------------------------------------------------------------------------

    async def _read(self) -> None:
        try:
            while (frame := await self._wire.read()) is not None:
                header, envelopes = frame
                if self._attachment is None:
                    self._attachment = await self._open(header)
                await self._attachment.receive(header, envelopes)
                self.goodbye = "bye" in header
                if self.goodbye or self._over.done():
                    break
                del frame, header, envelopes  # who waits for the next holds none
            self.end(None)
        except LanewayError as error:
            self.end(error)
        except asyncio.CancelledError:
            self.end(None)
            raise
        except Exception:
            self._broken("taking a frame in")

    async def _open(self, header: Mapping[str, Any]) -> Attachment:
        """Attach by the first frame's hello; its other content is for the link, like any frame's."""
        if "hello" not in header:
            raise PeerProtocolError("the first frame must carry `hello`; see docs/protocol.md", reason="NO_HELLO")
        self._hello_by = float("inf")
        attachment = await self._gateway.attach(parse_hello(header["hello"]), self.principal, self._origin)
        if self._over.done():
            await attachment.close()
        else:
            self._writer = asyncio.create_task(self._write(attachment), name=_WRITES)
        return attachment

    # ---- out --------------------------------------------------------------------------------

    async def _write(self, attachment: Attachment) -> None:
        frame: LinkFrame | None
        try:
            while True:
                for frame in await attachment.frames():
                    await self._send(frame.header, frame.envelopes)
                frame = None  # who waits for the next holds none
        except (LinkClosed, ConnectionError) as error:
            error.with_traceback(None)  # the link keeps it, and it the link
            self.end(None)
        except LanewayError as error:
            self.end(error)
        except Exception:
            self._broken("sending")

    def _broken(self, doing: str) -> None:
        """A bug, ours or the engine's: it ends this stream, and the log has it."""
        _log.exception("session stream failed while %s", doing)
        self.end(HandlerFailed(f"the engine failed while {doing}; see its log"))

    async def _send(self, header: Mapping[str, Any], envelopes: Sequence[Envelope]) -> None:
        async with self._write_lock:
            self._writing_since = now = self._clock.now()
            self._alarm.set(now + self._policy.stall_s)
            try:
                await self._wire.write(header, envelopes)
            finally:
                self._writing_since = float("inf")
        told = header.get("notice")
        if isinstance(told, Mapping) and told.get("fatal"):
            self._fatal_told = True

    def _telling_task(self, error: LanewayError, *, fatal: bool) -> asyncio.Task[None]:
        async def sending() -> None:  # nothing is begun here: the task may be cancelled before its first step
            try:
                await self._send({"notice": notice(error, fatal=fatal)}, ())
            except ConnectionError:
                self.end(None)

        task = asyncio.create_task(sending())
        self._telling[task] = None
        task.add_done_callback(self._telling.pop)
        return task

    async def _farewell(self, reason: LanewayError | None) -> None:
        """Let the link send what is still due, then the reason unless it has been sent already."""
        if self._attachment is not None:
            await self._attachment.close(reason)
        if reason is None or isinstance(reason, SlowConsumer):
            return
        if self._writer is not None:
            await asyncio.wait({self._writer}, timeout=_FAREWELL_S)
        if not self._fatal_told and not self._write_lock.locked():
            await asyncio.wait({self._telling_task(reason, fatal=True)}, timeout=_FAREWELL_S)

    # ---- time -------------------------------------------------------------------------------

    def _look(self) -> None:
        """End the stream if something takes too long, and look again when something may."""
        policy, now = self._policy, self._clock.now()
        if now >= self._hello_by + _LATE_S:
            self._hello_by = now + _AGAIN_S  # it is we who were late: its hello may lie here unread
        elif now >= self._hello_by:
            self.end(LinkLost(f"no hello within {policy.hello_s:g} s; connect again", reason="HELLO_TIMEOUT"))
        elif now >= self._writing_since + policy.stall_s:
            self.end(SlowConsumer(f"nothing was read for {policy.stall_s:g} s; reconnect and resume"))
        elif now >= self._expires_at + policy.expiry_grace_s:
            self.end(SessionExpired("the credentials of this connection are over; reconnect with fresh ones"))
        elif now >= self._expires_at and not self._expiry_told:
            self._expiry_told = True
            self.tell(
                SessionExpired(
                    "the credentials of this connection are over; reconnect with fresh ones and resume within "
                    f"{policy.expiry_grace_s:g} s"
                )
            )
        if not self._over.done():
            self._alarm.set(self._next_look(now))

    def _next_look(self, now: float) -> float:
        """When something may be due next, or infinity: who waits has no timer, and each write sets its own."""
        expiry = self._expires_at + (self._policy.expiry_grace_s if self._expiry_told else 0.0)
        return max(now + 0.001, min(self._hello_by, expiry, self._writing_since + self._policy.stall_s))
