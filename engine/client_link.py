"""One connection of a client: hello, frames both ways, heartbeat, and why it ended.

Law of this file: a connection is disposable. Everything that must outlive it (the inbox with its
cursor, the outbox with its unanswered events) is lent to it; it ends at the first thing that goes
wrong and says what that was, and its owner decides whether to try again.

Four tasks: the reader (never wrapped in a timeout; it ends with the call), the writer, the pacer
that grants as the application reads, and the watchdog. grpc.aio gives a locally cancelled call's
reads a CancelledError, which is not our task's: it is told apart by `_closing`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc.aio

from laneway.engine.client_errors import OnFailure, error_of_call, error_of_notice, tell_failure
from laneway.engine.client_events import EventQueue
from laneway.engine.client_outbox import Outbox
from laneway.engine.delivery import Event
from laneway.engine.frames import Frames
from laneway.engine.proto.message import SESSION_METHOD, unwrap, wrap
from laneway.routing.classify import KindTable
from laneway.routing.envelope import KIND, Envelope
from laneway.routing.errors import (
    Draining,
    LanewayError,
    LinkClosed,
    PeerProtocolError,
    RuntimeUnavailable,
    SessionExpired,
)
from laneway.routing.failures import error_of_code
from laneway.routing.inbox import Inbox

__all__ = ["ClientLink", "Pulse"]

_GOODBYE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Pulse:
    """Times of one connection.

    Attributes:
        connect_s: until the welcome. heartbeat_s: between pings. dead_after_s: of silence.
    """

    connect_s: float = 10.0
    heartbeat_s: float = 10.0
    dead_after_s: float = 25.0


class ClientLink:
    """One stream to an edge.

    Args:
        channel: a fresh grpc.aio channel; the owner closes it.
        hello: what to introduce ourselves with.
        metadata: credentials.
        inbox, outbox, events: lent; they outlive this connection.
        fresh_token: the client can get new credentials, so it reconnects when these end.
        on_result: shown each tool result as it arrives, ahead of the application.
        on_failure: told of accepted events of ours that failed outside of a run.
    """

    def __init__(
        self,
        channel: Any,
        hello: Mapping[str, Any],
        metadata: Sequence[tuple[str, str]],
        *,
        inbox: Inbox,
        outbox: Outbox,
        events: EventQueue,
        kinds: KindTable,
        pulse: Pulse,
        fresh_token: bool = False,
        on_result: Callable[[Event], None],
        on_failure: OnFailure,
    ) -> None:
        self.welcome: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self.quality: Mapping[str, Any] = {}
        """What the engine told last of this connection's quality; empty while it is as in the plan."""
        self._call: Any = channel.stream_stream(SESSION_METHOD)(metadata=tuple(metadata))
        self._hello = hello
        self._inbox = inbox
        self._outbox = outbox
        self._events = events
        self._frames = Frames(kinds, time.monotonic)
        self._pulse = pulse
        self._fresh_token = fresh_token
        self._on_result = on_result
        self._on_failure = on_failure
        self._reason: LanewayError | None = None
        self._over = asyncio.Event()
        self._closing = False
        self._waiting = False
        self._header: dict[str, Any] = {}
        self._heard_at = self._pinged_at = time.monotonic()
        self._ping = 0

    async def run(self) -> LanewayError:
        """Serve until the connection is over and return why. LinkClosed = as asked by `leave`."""
        tasks = [asyncio.create_task(part()) for part in (self._read, self._write, self._pace, self._watch)]
        try:
            await self._over.wait()
        finally:
            self._closing = True
            self._call.cancel()
            for task in tasks[0 if self._waiting else 1 :]:  # a read ends with its call
                task.cancel()
            try:
                await asyncio.gather(*tasks, return_exceptions=True)
            finally:
                self._call = None  # a call that is kept keeps its connection open, whatever became of both
            if not self.welcome.done():
                self.welcome.cancel()
        return self._reason or RuntimeUnavailable("the connection ended without a reason")

    async def leave(self) -> None:
        """Say goodbye and wait a moment for the engine's answer."""
        self._closing = True
        self._header["bye"] = True
        self._outbox.wake.set()
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await self._over.wait()
        except TimeoutError:
            self._end(LinkClosed("closed; the engine did not answer the goodbye"))

    def _end(self, reason: LanewayError) -> None:
        if self._reason is None:
            self._reason = reason
        self._over.set()

    # ---- in ---------------------------------------------------------------------------------

    async def _read(self) -> None:
        try:
            while (message := await self._call.read()) is not grpc.aio.EOF:
                self._heard_at = time.monotonic()
                self._take(*self._frames.decode(unwrap(message)))
                self._waiting = True
                await self._events.room()
                self._waiting = False
            self._end(LinkClosed("the engine closed the connection"))
        except grpc.aio.AioRpcError as error:
            self._end(error_of_call(error))
        except LanewayError as error:
            self._end(error)
        except asyncio.CancelledError:
            if not self._closing:
                self._end(RuntimeUnavailable("the connection was cancelled"))
            raise
        except Exception as error:
            self._end(PeerProtocolError(f"the engine's frame could not be taken in: {error!r}", reason="BAD_FRAME"))

    def _take(self, header: Mapping[str, Any], envelopes: Sequence[Envelope]) -> None:
        now = time.monotonic()
        received = self._inbox.receive(header, envelopes, now)
        self._answers(header, now)
        if "ping" in header:
            self._header["pong"] = header["ping"]
        if "welcome" in header and not self.welcome.done():
            self.welcome.set_result(header["welcome"])
        if received:
            self._events.put(received)
            for each in received:
                if each.envelope[KIND] == "TOOL_CALL_RESULT":
                    self._on_result(Event(each))
        self._outbox.wake.set()
        if isinstance(header.get("quality"), Mapping):
            self.quality = header["quality"]
        if isinstance(header.get("notice"), Mapping):
            self._notice(header["notice"])

    def _answers(self, header: Mapping[str, Any], now: float) -> None:
        for first, count, grade in header.get("ok", ()):
            self._outbox.ok(first, count, grade)
        for counters, code, reason, message, retry_after_ms in header.get("refused", ()):
            for counter in counters:  # an error each: somebody may raise it
                error = error_of_code(code, message, reason=reason, retry_after_ms=retry_after_ms)
                self._outbox.refused(counter, error, now)

    def _notice(self, notice: Mapping[str, Any]) -> None:
        if tell_failure(str(self._hello["client"]), notice, self._on_failure):
            return
        error = error_of_notice(notice)
        renewable = isinstance(error, SessionExpired) and self._fresh_token
        if notice.get("fatal") is True or isinstance(error, Draining) or renewable:
            self._end(error)

    # ---- out --------------------------------------------------------------------------------

    async def _write(self) -> None:
        try:
            await self._send({"hello": dict(self._hello)}, [])
            await self.welcome
            while not self._over.is_set():
                self._outbox.wake.clear()
                now = time.monotonic()
                envelopes = self._outbox.take(now)
                header, self._header = self._header, {}
                header.update(self._inbox.ack_due(now, self._events.unread_bytes) or {})
                if header or envelopes:
                    await self._send(header, envelopes)
                    continue
                await self._news(now)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # the reader gets the status that says why; it may be on its way
            await asyncio.sleep(_GOODBYE_S)
            self._end(RuntimeUnavailable("the connection broke while sending"))
        except LanewayError as error:
            self._end(error)

    async def _send(self, header: Mapping[str, Any], envelopes: Sequence[Envelope]) -> None:
        await self._call.write(wrap(self._frames.encode(header, envelopes)))

    async def _news(self, now: float) -> None:
        """Wait until there may be something to write."""
        due = [at for at in (self._inbox.deadline(), self._outbox.deadline()) if at is not None]
        wake = self._outbox.wake
        timer = asyncio.get_running_loop().call_later(max(0.0, min(due) - now), wake.set) if due else None
        try:
            await wake.wait()
        finally:
            if timer is not None:
                timer.cancel()

    async def _pace(self) -> None:
        """Let the writer look for a grant as the application takes events."""
        while True:
            await self._events.taken.wait()
            self._events.taken.clear()
            self._outbox.wake.set()

    async def _watch(self) -> None:
        pulse = self._pulse
        started = time.monotonic()
        while not self._over.is_set():
            now = time.monotonic()
            if not self.welcome.done() and now >= started + pulse.connect_s:
                self._end(RuntimeUnavailable(f"no welcome within {pulse.connect_s:g} s", reason="CONNECT_TIMEOUT"))
            elif self.welcome.done() and now >= self._heard_at + pulse.dead_after_s:
                self._end(RuntimeUnavailable(f"no sign of life for {pulse.dead_after_s:g} s", reason="SILENT"))
            elif now >= self._pinged_at + pulse.heartbeat_s:
                self._ping += 1
                self._pinged_at = now
                self._header["ping"] = self._ping
                self._outbox.wake.set()
            else:
                dead = self._heard_at + pulse.dead_after_s if self.welcome.done() else started + pulse.connect_s
                await asyncio.sleep(max(0.001, min(dead, self._pinged_at + pulse.heartbeat_s) - now))
