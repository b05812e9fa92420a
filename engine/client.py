"""The Python client: one session of one engine, over whatever network there is.

Law of this file: what the caller sees does not depend on how often the connection broke. Events
come once and in order; sends are answered once; an application that stops reading stops the
producer. Reconnecting waits with full jitter
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), at least as long as
the engine asked for, and resumes at the byte.

::

    async with Client("127.0.0.1:7700", session="s1") as client:
        await client.send("Hello")
        async for event in client:
            print(event.kind, event.text)
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from laneway.engine.client_calls import CallDesk
from laneway.engine.client_dial import Dial, Token, Trust
from laneway.engine.client_errors import OnFailure, log_failure, worth_a_reconnect
from laneway.engine.client_events import EventQueue
from laneway.engine.client_outbox import Outbox, Receipt
from laneway.engine.client_spans import ClientSpans
from laneway.engine.codec import check_event, valid_id
from laneway.engine.delivery import Event
from laneway.engine.limits import DEFAULT_LIMITS
from laneway.routing.backoff import Backoff
from laneway.routing.classify import KindTable
from laneway.routing.envelope import NO_DEADLINE, TRACE, Envelope, with_trace
from laneway.routing.errors import (
    ConfigError,
    LanewayError,
    LinkClosed,
    RuntimeUnavailable,
    SlowConsumer,
)
from laneway.routing.handshake import MAX_CLIENT_CHARS
from laneway.routing.inbox import Inbox
from laneway.routing.replay import Cursor
from laneway.routing.restraint import Restraint

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from laneway.engine.client_link import ClientLink

__all__ = ["Client", "Event", "OnFailure", "Receipt", "Token", "Trust"]

_MAX_BODY_BYTES: Final = DEFAULT_LIMITS.frame_bytes - 4096


class Client:
    """A resumable link to one session.

    Args:
        target: ``host:port`` of a gRPC edge.
        session: name of the session; many clients may share one.
        token: credentials. With a function, connections are renewed when their token ends.
        client_id: our own id, unique in the session, at most 40 characters; the newest link of an id
            supersedes the older. Random by default. Counters of sent events start at `first_counter`.
        tls: how to trust the server; None = plain text.
        kinds: users' own kinds, as the engine has them.
        topics: what to listen to beside one's own user and tenant: ``topic:NAME``.
        wishes: for the link, as in docs/protocol.md: ``chunk_chars``, ``flush_ms``, ``max_items``,
            ``max_frame_bytes``, ``bandwidth_bytes_per_s``, ``hold``: "sentence" (text in whole sentences, for
            speech). What came of them stands in ``welcome["plan"]``.
        cursor: where a former process of the same client id stopped (`Client.cursor`).
        on_failure: called with `Receipt.id` and the error when an event that was accepted fails outside
            of a run (a failing run tells by its RUN_ERROR event), maybe before `send_event` returns. Must
            not block. A failure while no connection is live is not told. Default: a warning in the log.
        retries: how often an event that was refused with a delay is offered again, at most: see `send_event`.
        connect_s: how long entering may take, retries included; and one attempt.
        tracer_provider: your OpenTelemetry provider; each send is a span that the engine's spans continue.
        heartbeat_s, dead_after_s: pings, and the silence after which the connection is given up.

    Raises ConfigError for an id that cannot be one.
    """

    def __init__(
        self,
        target: str,
        *,
        session: str = "default",
        token: Token | None = None,
        client_id: str | None = None,
        tls: Trust | None = None,
        kinds: KindTable | None = None,
        topics: Sequence[str] = (),
        wishes: Mapping[str, int | str] = {},
        cursor: Cursor | None = None,
        on_failure: OnFailure = log_failure,
        first_counter: int = 1,
        retries: int = 4,
        connect_s: float = 10.0,
        heartbeat_s: float = 10.0,
        dead_after_s: float = 25.0,
        backoff: Backoff | None = None,
        tracer_provider: TracerProvider | None = None,
    ) -> None:
        self.session = session
        self.client_id = client_id or f"c-{uuid.uuid4().hex[:16]}"
        for what, name, most in (("session", session, 64), ("client_id", self.client_id, MAX_CLIENT_CHARS)):
            if not valid_id(name, most):
                raise ConfigError(f"{what} {name[:80]!r} must be 1 to {most} of A-Z a-z 0-9 _ . : - and not only dots")
        self.reconnects = 0
        """Connections after the first."""
        self._spans = ClientSpans(tracer_provider, session) if tracer_provider is not None else None
        self._dial = Dial(target, token, tls, self._spans)
        self._kinds = kinds or KindTable()
        self._connect_s = connect_s
        self._times = (connect_s, heartbeat_s, dead_after_s)
        self._backoff = backoff or Backoff(random.random)
        self._inbox = Inbox(cursor)
        self._resuming = cursor is not None
        self._topics = list(topics)
        self._wishes = dict(wishes)
        self._on_failure = on_failure
        self._outbox = Outbox(max_attempts=retries + 1, restraint=Restraint(random.random))
        self._events = EventQueue()
        self._next_counter = first_counter
        self._link: ClientLink | None = None
        self._live = asyncio.Event()
        self._calls = CallDesk(self.send_event)
        self._runner: asyncio.Task[None] | None = None
        self._closed = False
        self._failure: LanewayError | None = None
        self._last: LanewayError | None = None

    # ---- life -------------------------------------------------------------------------------

    async def __aenter__(self) -> Client:
        """Connect. Raises what the engine refused with, or RuntimeUnavailable after `connect_s`."""
        self._runner = asyncio.create_task(self._run())
        live = asyncio.create_task(self._live.wait())
        try:
            await asyncio.wait({live, self._runner}, timeout=self._connect_s, return_when=asyncio.FIRST_COMPLETED)
            if not self._live.is_set():
                raise (
                    self._failure
                    or self._last
                    or RuntimeUnavailable(
                        f"no engine answered at {self._dial.target} within {self._connect_s:g} s; is it running?"
                    )
                )
        except BaseException:
            await self.close()
            raise
        finally:
            live.cancel()
            await asyncio.gather(live, return_exceptions=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        await self.close()

    async def close(self) -> None:
        """Say goodbye and release everything; idempotent. The session and its runs go on."""
        self._closed = True
        if self._link is not None:
            await self._link.leave()
        runner, self._runner = self._runner, None  # who keeps a cancelled task keeps its connection open
        if runner is not None:
            runner.cancel()
            await asyncio.gather(runner, return_exceptions=True)
        over = self._failure or LinkClosed("this client is closed")
        self._outbox.fail(over)
        self._calls.fail(over)
        self._events.end(self._failure)

    @property
    def connected(self) -> bool:
        """True while a link is live."""
        return self._live.is_set()

    @property
    def cursor(self) -> Cursor:
        """What was received so far; a later process may go on there with the same client id."""
        return self._inbox.cursor

    @property
    def next_counter(self) -> int:
        """Counter of the next event sent; a later process goes on there, so that repeats are seen."""
        return self._next_counter

    @property
    def welcome(self) -> Mapping[str, Any]:
        """The engine's last welcome: plan, epoch, whether the resume worked. Empty before the first."""
        done = self._link is not None and self._link.welcome.done() and not self._link.welcome.cancelled()
        return self._link.welcome.result() if done and self._link is not None else {}

    @property
    def quality(self) -> Mapping[str, Any]:
        """How the engine sees this connection: ``grade`` (good, fair, poor), and the ``chunk_chars`` and ``flush_s``
        that it follows. Empty before the first welcome."""
        plan = self.welcome.get("plan", {})
        first = {"grade": "good", "chunk_chars": plan.get("chunk_chars"), "flush_s": plan.get("flush_s")}
        return {} if self._link is None or not plan else self._link.quality or first

    # ---- sending ----------------------------------------------------------------------------

    async def send_event(
        self,
        kind: str,
        body: bytes = b"",
        *,
        run: str = "",
        entity: str = "",
        lane: int | None = None,
        deadline_s: float | None = None,
        after: str = "",
        trace: str = "",
    ) -> Receipt:
        """Send one event and wait for the engine's word on it.

        Refusals that name a delay are retried up to `retries` times, within the deadline; over a broken
        connection the event waits and goes out again, and the engine recognises the repeat. While the engine
        refuses most of a lane (not for this session's own sake), second tries are a tenth of what is sent, and
        some new events are refused here at once, in its words; critical ones never are.

        Args:
            lane: a lower lane than the kind's own, 0 (critical) to 3 (low).
            deadline_s: from now; past it the engine drops the event and says so.
            after: `Receipt.id` of an event that must be handled first.
            trace: a traceparent to go on with instead of the current span's.

        Raises a LanewayError: LocalProtocolError for what cannot be sent (see `check_event`), the refusal, or what
        ended the client.
        """
        left_s = NO_DEADLINE if deadline_s is None else deadline_s
        check_event(body, run=run, entity=entity, after=after, left_s=left_s, trace=trace, body_bytes=_MAX_BODY_BYTES)
        counter, at = self._next_counter, int(self._kinds.lane(kind, lane))
        self._next_counter += 1
        deadline = time.monotonic() + left_s
        env = (self.client_id, counter, kind, "", "", run, entity, at, deadline, trace, after, body, 0.0)
        if self._spans is None:
            return await self._outbox.put(env)
        with self._spans.sending(env) as traced:
            return await self._outbox.put(traced)

    async def send_events(
        self, kind: str, bodies: Sequence[bytes], *, run: str = "", entity: str = "", lane: int | None = None
    ) -> list[Receipt | LanewayError]:
        """Send many events of one kind, in frames of 64, and wait for the engine's word on each.

        Returns a receipt or the refusal for each, in order: one that fails fails no other. Else as
        `send_event`; one span stands for all of them.

        Raises LocalProtocolError for what cannot be sent, or what ended the client.
        """
        if not bodies:
            return []
        check_event(*bodies, run=run, entity=entity, body_bytes=_MAX_BODY_BYTES)
        us, at, first = self.client_id, int(self._kinds.lane(kind, lane)), self._next_counter
        self._next_counter += len(bodies)
        envs: list[Envelope] = [
            (us, counter, kind, "", "", run, entity, at, NO_DEADLINE, "", "", body, 0.0)
            for counter, body in enumerate(bodies, first)
        ]
        if self._spans is None:
            return await self._outbox.put_all(envs)
        with self._spans.sending(envs[0]) as traced:
            return await self._outbox.put_all([with_trace(env, traced[TRACE]) for env in envs])

    async def send(self, text: str, *, run: str = "") -> Receipt:
        """Send a user's message, which starts a run; `Receipt.run` names it."""
        return await self.send_event("USER_MESSAGE", text.encode(), run=run or f"{self.client_id}-{self._next_counter}")

    async def interrupt(self, run: str = "") -> Receipt:
        """Stop a run, or all runs of the session. Overtakes everything."""
        return await self.send_event("INTERRUPT", run=run)

    async def cancel(self, event_id: str) -> Receipt:
        """Cancel one event by `Receipt.id`, or one tool call by its id."""
        return await self.send_event("CANCEL", entity=event_id)

    async def publish(self, topic: str, body: bytes) -> Receipt:
        """Send a body to everybody who listens to ``user:NAME``, ``tenant`` or ``topic:NAME``."""
        return await self.send_event("PUBLISH", body, entity=topic)

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        call_id: str | None = None,
        idempotency_key: str = "",
        timeout_s: float = 60.0,
    ) -> Mapping[str, Any]:
        """Call a tool without a model and wait for its result (the TOOL_CALL_RESULT event's fields).

        The events of the call also come through iteration. The caller must go on iterating while it
        waits: with unread events in front, the result stays behind the credit.
        Raises a refusal, or DeadlineExceeded.
        """
        return await self._calls.call(name, arguments, call_id, idempotency_key, timeout_s)

    async def call(self, name: str, *, items: Sequence[bytes] = (), timeout_s: float = 30.0, **header: Any) -> Any:
        """Ask the engine one question outside of the session's order (`tools`, `status`, ...); JSON-like data.

        Raises the engine's error, or RuntimeUnavailable.
        """
        return await self._dial.ask(name, header, items, timeout_s)

    async def tools(self) -> list[Mapping[str, Any]]:
        """Return the catalogue rows this principal may call."""
        return list(await self.call("tools") or ())

    # ---- receiving --------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Event]:
        """Iterate over received events until the client is closed; one reader at a time."""
        return self

    async def __anext__(self) -> Event:
        """Wait for the next event. Raises what ended the client, if it was not `close`."""
        return await self._events.get()

    # ---- connections ------------------------------------------------------------------------

    async def _run(self) -> None:
        """Keep a link until the client is closed or the engine says never again."""
        while not self._closed:
            error = await self._one_link()
            self._live.clear()
            if self._closed:
                return
            self._last = error
            if not isinstance(error, LinkClosed) and not worth_a_reconnect(error, fresh_token=self._dial.renews):
                self._fail(error)
                return
            self._outbox.resend()
            self.reconnects += 1
            pause_s = self._backoff.failed(time.monotonic(), (error.retry_after_ms or 0) / 1000)
            if not isinstance(error, SlowConsumer):
                await asyncio.sleep(pause_s)

    async def _one_link(self) -> LanewayError:
        from laneway.engine.client_link import ClientLink, Pulse

        try:
            metadata = await self._dial.metadata()
        except LanewayError as error:
            return error
        async with self._dial.channel() as channel:
            self._link = link = ClientLink(
                channel,
                self._hello(),
                metadata,
                inbox=self._inbox,
                outbox=self._outbox,
                events=self._events,
                kinds=self._kinds,
                pulse=Pulse(*self._times),
                fresh_token=self._dial.renews,
                on_result=self._calls.take,
                on_failure=self._on_failure,
            )
            link.welcome.add_done_callback(self._welcomed)
            return await link.run()

    def _welcomed(self, welcome: asyncio.Future[Mapping[str, Any]]) -> None:
        if not welcome.cancelled():
            self._resuming = True
            self._backoff.connected(time.monotonic())
            self._live.set()

    def _fail(self, error: LanewayError) -> None:
        self._failure = error
        self._outbox.fail(error)
        self._events.end(error)
        self._calls.fail(error)

    def _hello(self) -> dict[str, Any]:
        hello: dict[str, Any] = {
            "v": [1],
            "client": self.client_id,
            "session": self.session,
            "topics": self._topics,
            "caps": {**self._wishes, "grants": True, "heartbeat_ms": int(self._times[1] * 1000)},
        }
        if self._resuming:
            cursor = self._inbox.cursor
            hello["cursor"], hello["skip"] = list(cursor[:3]), cursor.skip
            if self._inbox.grant is not None:
                hello["grant"] = self._inbox.grant
        return hello
