"""A session used from the same process: send, ask, interrupt, iterate.

Law of this file: the same protocol as over a wire, without the wire: the same link, credit and
order. What is not read is not granted, so a consumer that stops reading pauses its runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Final

from laneway.actors.alarm import Alarm
from laneway.actors.directory.entry import Entry, Joined
from laneway.actors.ports import Clock, Principal
from laneway.engine.client_calls import CallDesk
from laneway.engine.client_errors import OnFailure, error_of_notice, log_failure, tell_failure
from laneway.engine.client_outbox import Receipt
from laneway.engine.client_spans import ClientSpans
from laneway.engine.codec import check_event, valid_id
from laneway.engine.delivery import Event
from laneway.engine.edge.traffic import Traffic
from laneway.routing.classify import KindTable
from laneway.routing.envelope import COUNTER, KIND, NO_DEADLINE, Envelope, envelope
from laneway.routing.errors import DeadlineExceeded, Draining, LanewayError, LinkClosed, LocalProtocolError
from laneway.routing.failures import error_of_code
from laneway.routing.handshake import Hello, parse_topics
from laneway.routing.inbox import Inbox, Received
from laneway.routing.link import LinkFrame

__all__ = ["EmbeddedSession"]

_ANSWER_S: Final = 30.0
_HEARTBEAT_S: Final = 300.0
"""In one process silence means a consumer that is busy, not a broken wire."""
_ACK_DELAY_S: Final = 0.25
"""Acks matter here for what is kept unread, not for a network's quality; 256 events are acked at once."""


class EmbeddedSession:
    """One session, from inside the engine's process; made by `Engine.session`.

    Entering it attaches a link at the present end of the session; events from then on are given by
    iterating. One consumer; `send` and the like may be used by many tasks, entered or not.
    """

    def __init__(
        self,
        entry: Entry,
        kinds: KindTable,
        clock: Clock,
        name: str,
        principal: Principal,
        topics: Iterable[str] = (),
        on_failure: OnFailure = log_failure,
        traffic: Traffic | None = None,
        spans: ClientSpans | None = None,
    ) -> None:
        if not valid_id(name) or not valid_id(principal.tenant):
            raise LocalProtocolError(
                f"{name[:80]!r} in tenant {principal.tenant[:80]!r}: both must be ids, 1 to 64 of A-Z a-z 0-9 _ . : -"
            )
        self.client = f"local-{os.urandom(6).hex()}"
        self.principal = principal
        self.origin: Mapping[str, str] = {"laneway.transport": "embedded"}
        self.name = name
        self._topics = parse_topics(list(topics))
        self._on_failure = on_failure
        self._spans = spans
        self._entry = entry
        self._traffic = traffic or Traffic("embedded", clock)
        self._entered = contextlib.ExitStack()
        self._kinds = kinds
        self._clock = clock
        self._counter = 0
        self._answers: dict[int, tuple[asyncio.Future[str], float, str]] = {}
        self._late = Alarm(clock, self._give_up)
        self._inbox = Inbox(ack_delay_s=_ACK_DELAY_S)
        self._calls = CallDesk(self.send_event)
        self._attachment: Joined | None = None
        self._unread: deque[Received] = deque()

    async def __aenter__(self) -> EmbeddedSession:
        with contextlib.ExitStack() as entering:
            connection = entering.enter_context(self._traffic.connection())
            await self._attach()
            connection.established = True
            self._entered = entering.pop_all()
        return self

    async def _attach(self) -> None:
        cursor = self._inbox.cursor if self._attachment is not None else None
        hello = Hello(
            versions=(1,),
            client=self.client,
            session=self.name,
            cursor=cursor,
            grant=self._inbox.grant,
            heartbeat_s=_HEARTBEAT_S,
            topics=self._topics,
        )
        self._attachment = await self._entry.attach(hello, self.principal, self.origin)
        await self._take(self._attachment, await self._attachment.frames())  # the welcome, at once

    async def __aexit__(self, *exc: object) -> None:
        attachment = self._attachment
        if attachment is not None:
            if attachment.live:
                await attachment.receive({"ack": list(self._inbox.cursor[:3])}, ())
            await attachment.close(LinkClosed("the application left the session"))
        self._calls.fail(LinkClosed("the application left the session"))
        self._entered.close()

    # -- in -----------------------------------------------------------------------------------

    async def send(self, text: str, *, run: str = "") -> Receipt:
        """Send a user message, which starts a run; returns when it is accepted, with the run's id.

        Raises the refusal (RateLimited, LaneFull, Overloaded, Draining, ...).
        """
        return await self.send_event("USER_MESSAGE", text.encode(), run=run)

    async def send_event(
        self, kind: str, body: bytes = b"", *, entity: str = "", run: str = "", after: str = "", timeout_s: float = 0.0
    ) -> Receipt:
        """Send any inbound event; see `send`. `timeout_s` is its deadline, 0 = none.

        Raises LocalProtocolError for what cannot be sent, see `check_event`, or the refusal.
        """
        check_event(body, run=run, entity=entity, after=after, left_s=timeout_s)
        self._counter += 1
        counter = self._counter
        lane = self._kinds.require(kind).lane
        now = self._clock.now()
        env = envelope(
            kind,
            producer=self.client,
            counter=counter,
            tenant=self.principal.tenant,
            session=self.name,
            lane=+lane,  # a plain number, or the garbage collector would look at the event for as long as it is kept
            run=run,
            entity=entity,
            deadline=now + timeout_s if timeout_s else NO_DEADLINE,
            after=after,
            body=body,
            accepted=now,
        )
        if self._spans is None:
            status = await self._put(env)
        else:
            with self._spans.sending(env) as traced:
                status = await self._put(traced)
        if not run and kind in ("USER_MESSAGE", "RUN_INPUT"):
            run = f"{self.client}-{counter}"
        return Receipt(f"{self.client}:{counter}", status, run)

    async def _put(self, env: Envelope) -> str:
        """Hand an event to its session and wait for the answer."""
        counter = env[COUNTER]
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        late_at = self._clock.now() + _ANSWER_S
        self._answers[counter] = (answer, late_at, env[KIND])
        try:
            self._late.set(late_at)
            await self._entry.ingest(self.name, self, (env,))
            return await answer
        finally:
            del self._answers[counter]

    def _give_up(self) -> None:
        """Some event has waited long enough for its answer, if it has none yet; those after it have longer."""
        now = self._clock.now()
        for answer, late_at, kind in self._answers.values():
            if late_at > now:
                self._late.set(late_at)
                return
            if not answer.done():
                late = f"{kind} was not answered within {_ANSWER_S:g} s; it may have been taken"
                answer.set_exception(DeadlineExceeded(late))

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

        The events of the call also come through iteration, and only by it: some task must go on iterating
        over the entered session meanwhile. Raises a refusal, DeadlineExceeded, or what ended the iteration.
        """
        return await self._calls.call(name, arguments, call_id, idempotency_key, timeout_s)

    async def interrupt(self, run: str = "") -> Receipt:
        """Stop a run, or all runs of the session; returns when the engine has taken it."""
        return await self.send_event("INTERRUPT", run=run)

    def tell(self, **fields: Any) -> None:
        """Take answers to what was sent (the session calls this)."""
        for first, count, grade in fields.get("ok", ()):
            for counter in range(first, first + count):
                if (waiting := self._answers.get(counter)) is not None and not waiting[0].done():
                    waiting[0].set_result(grade)
        for counters, code, reason, message, retry_after_ms in fields.get("refused", ()):
            for counter in counters:
                if (waiting := self._answers.get(counter)) is not None and not waiting[0].done():
                    waiting[0].set_exception(error_of_code(code, message, reason=reason, retry_after_ms=retry_after_ms))

    # -- out ----------------------------------------------------------------------------------

    async def ask(self, text: str) -> AsyncIterator[Event]:
        """Send a user message and yield its run's events, up to and including the last.

        Events of other runs that arrive meanwhile are passed over. Raises the refusal.
        """
        receipt = await self.send(text)
        async for event in self:
            if event.run == receipt.run:
                yield event
                if event.ends_run:
                    return

    def __aiter__(self) -> EmbeddedSession:
        """Iterate over events until the session is left or the engine closes."""
        return self

    async def __anext__(self) -> Event:
        """Wait for the next event. Raises what ended the link (Superseded, NOT_OWNER, ...)."""
        while not self._unread:
            try:
                await self._fetch()
            except LanewayError as error:
                self._calls.fail(error)
                if isinstance(error, (LinkClosed, Draining)):
                    raise StopAsyncIteration from None
                raise
        return Event(self._unread.popleft())

    async def _fetch(self) -> None:
        """Take the next frames and grant what the consumer has read before."""
        attachment = self._attachment
        if attachment is None:
            raise LocalProtocolError("enter the session with `async with` before iterating over it")
        due = self._inbox.ack_due(self._clock.now())
        if due is not None:
            await attachment.receive(due, ())
        try:
            frames = await attachment.frames()
        except LanewayError as error:
            if not self._entry.resumable(error):
                raise
            await self._attach()  # go on where the reading stopped
            return
        await self._take(attachment, frames)

    async def _take(self, attachment: Joined, frames: Sequence[LinkFrame]) -> None:
        for frame in frames:
            received = self._inbox.receive(frame.header, frame.envelopes, self._clock.now())
            self._unread.extend(received)
            if self._calls.waits:
                for each in received:
                    self._calls.take(Event(each))
            notice = frame.header.get("notice", {})
            told = tell_failure(self.client, notice, self._on_failure)
            if not told and notice.get("fatal"):
                error = error_of_notice(notice)
                if not self._entry.resumable(error):  # else it is raised with the next frames
                    raise error
            if (ping := frame.header.get("ping")) is not None:
                await attachment.receive({"pong": ping}, ())
