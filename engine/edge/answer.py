"""`/v1/stream` as one answer: send, wait for the runs to end, and return what they said as JSON.

Law of this file: a link like any other, read in this process, that ends with the request. A
disconnect, a deadline or an answer that grows too long ends the waiting and never the run: the error
says the cursor from which everything can still be read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from laneway.actors.ports import Clock
from laneway.engine.client_errors import error_of_notice
from laneway.engine.edge.cursors import cursor_word
from laneway.engine.edge.exchange import Exchange
from laneway.engine.edge.gateway import Attachment
from laneway.engine.edge.hosting import Hosting
from laneway.engine.edge.jsonframes import JsonFrames
from laneway.engine.edge.offers import events_of_body
from laneway.engine.edge.posts import Answers
from laneway.engine.values import refuse
from laneway.routing.envelope import BODY, COUNTER, KIND, RUN, Envelope
from laneway.routing.errors import DeadlineExceeded, LanewayError, LinkClosed, Overloaded
from laneway.routing.handshake import Hello, parse_count, parse_hello
from laneway.routing.inbox import SNAPSHOT, Inbox

__all__ = ["SingleAnswers"]

_DEADLINE_MS: Final = 60_000
_MAX_DEADLINE_MS: Final = 300_000
_MAX_BYTES: Final = 1_048_576
"""Of bodies in one answer; more is for a stream."""
_SILENT_MS: Final = 300_000
"""The reader is in this process: silence is no broken wire."""
_STARTS: Final = frozenset({"USER_MESSAGE", "RUN_INPUT"})
_ENDS: Final = frozenset({"RUN_FINISHED", "RUN_ERROR"})
_TEXT: Final = "TEXT_MESSAGE_CONTENT"


class SingleAnswers:
    """Answers requests for JSON."""

    def __init__(self, hosting: Hosting, frames: JsonFrames) -> None:
        self._hosting = hosting
        self._frames = frames

    async def serve(self, exchange: Exchange, hello: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
        """Answer one request. Raises what refused it."""
        offer = dict(hello)
        if isinstance(caps := hello.get("caps") or {}, Mapping):  # anything else `parse_hello` refuses
            offer["caps"] = {**caps, "grants": True, "heartbeat_ms": _SILENT_MS}
        envelopes = self._frames.events(events_of_body(fields), exchange.trace)
        runs = _runs(fields, str(hello["client"]), envelopes)
        if runs and "cursor" not in hello:
            offer.setdefault("run", min(runs))  # known already: this request is a repeat, and reads it all
        opening = parse_hello(offer)
        deadline_s = min(parse_count(fields.get("deadline_ms", _DEADLINE_MS), "deadline_ms"), _MAX_DEADLINE_MS) / 1000
        waiting = _Waiting(opening, runs, self._hosting.clock)
        answers = Answers(opening.client, exchange.principal, envelopes, "http")
        with self._hosting.streams.hold(waiting, exchange.principal) as connection:
            attachment = await self._hosting.gateway.attach(opening, exchange.principal)
            connection.established = True
            try:
                await waiting.welcome(attachment)
                if envelopes:
                    await self._hosting.gateway.ingest(opening.session, answers, envelopes)
                    await answers.wait(deadline_s)
                    waiting.refused(answers)
                await waiting.until_over(attachment, exchange, deadline_s)
            finally:
                await attachment.close(LinkClosed("the request is answered"))
        await self._reply(exchange, waiting, answers if envelopes else None)

    async def _reply(self, exchange: Exchange, waiting: _Waiting, answers: Answers | None) -> None:
        rows = [] if answers is None else answers.document()
        if answers is not None and answers.refusal is not None:
            await exchange.fail(answers.refusal, {"answers": rows})
            return
        where = {"session": waiting.session, "client": waiting.client, "answers": rows}
        if waiting.error is not None:
            begin = {"cursor": cursor_word(waiting.begin), "runs": sorted(waiting.runs)}
            await exchange.fail(waiting.error, {**where, **begin})
            return
        document = {
            **where,
            "cursor": cursor_word(waiting.inbox.cursor),
            "resume": waiting.resume,
            "text": waiting.text,
            "events": [self._frames.event(env) for env in waiting.events],
        }
        await exchange.reply(document)


class _Waiting:
    """One request between its events and its answer; a live stream of the edge's book.

    Attributes:
        runs: whose ends are waited for. error: why the waiting ended before them, or None.
    """

    def __init__(self, opening: Hello, runs: set[str], clock: Clock) -> None:
        self.client = opening.client
        self.runs = runs
        self.inbox = Inbox(opening.cursor)
        self.begin = self.inbox.cursor
        self.session = self.resume = ""
        self.events: list[Envelope] = []
        self.error: LanewayError | None = None
        self._mine = set(runs)
        self._clock = clock
        self._bytes = 0
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def text(self) -> str:
        """What its runs said."""
        mine = [env[BODY] for env in self.events if env[KIND] == _TEXT and (env[RUN] in self._mine or not self._mine)]
        return b"".join(body for body in mine if body[:1] != b"\xff").decode("utf-8", "replace")

    def tell(self, error: LanewayError) -> None:
        """A drain is announced: the runs have until its deadline, and so has this answer."""

    def end(self, error: LanewayError | None) -> None:
        """Stop waiting."""
        self.error = self.error or error
        if not self._ended.done():
            self._ended.set_result(None)

    async def welcome(self, attachment: Attachment) -> None:
        """Take the welcome, which is due at once."""
        for frame in await attachment.frames():
            if "welcome" in frame.header:
                welcome = frame.header["welcome"]
                self.session, self.resume = welcome["session"], welcome["resume"]
            self._take(frame.header, frame.envelopes)
        self.begin = self.inbox.cursor

    def refused(self, answers: Answers) -> None:
        """Nothing is waited for that was not accepted."""
        refused = {f"{self.client}-{row['counter']}" for row in answers.document() if "error" in row}
        self.runs -= refused
        if answers.refusal is not None:
            self.runs.clear()

    async def until_over(self, attachment: Attachment, exchange: Exchange, deadline_s: float) -> None:
        """Read until the last run has ended, the client left, or there is a reason not to wait longer."""
        reading = asyncio.create_task(self._read(attachment))
        waited = {reading, self._ended, exchange.disconnected}
        try:
            done, _ = await asyncio.wait(waited, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        if exchange.disconnected in done:
            raise ConnectionError("the client left; its runs go on")
        if not done:
            self.error = DeadlineExceeded(
                f"the runs did not end within {deadline_s:g} s and go on; read them from the cursor here"
            )

    async def _read(self, attachment: Attachment) -> None:
        try:
            while self.runs:
                due = self.inbox.ack_due(self._clock.now())
                if due is not None:
                    await attachment.receive(due, ())
                for frame in await attachment.frames():
                    self._take(frame.header, frame.envelopes)
                    if "ping" in frame.header:
                        await attachment.receive({"pong": frame.header["ping"]}, ())
        except LanewayError as error:
            self.end(error)

    def _take(self, header: Mapping[str, Any], envelopes: Sequence[Envelope]) -> None:
        for item in self.inbox.receive(header, envelopes, self._clock.now()):
            env = item.envelope
            if item.stream == SNAPSHOT and self.resume != "failed":
                continue  # what was said before is not part of this answer
            self.events.append(env)
            self._bytes += len(env[BODY])
            if env[KIND] in _ENDS:
                self.runs.discard(env[RUN])
        notice = header.get("notice")
        if isinstance(notice, Mapping) and notice.get("fatal"):
            self.end(error_of_notice(notice))
        if self._bytes > _MAX_BYTES:
            self.end(
                Overloaded(
                    f"the answer is over {_MAX_BYTES} bytes and goes on; read it as a stream from the cursor here",
                    reason="ANSWER_TOO_LONG",
                )
            )
            self.runs.clear()


def _runs(fields: Mapping[str, Any], client: str, envelopes: Sequence[Envelope]) -> set[str]:
    """Return the runs to wait for: those that were named, and those that the events start."""
    named = fields.get("runs", [])
    if not isinstance(named, list) or not all(isinstance(run, str) for run in named):
        refuse("BAD_TYPE", "`runs` is a list of run ids")
    if not named and not envelopes:
        refuse("NOTHING_TO_DO", "send `message` or `events`, or name the `runs` to wait for")
    started = {env[RUN] or f"{client}-{env[COUNTER]}" for env in envelopes if env[KIND] in _STARTS}
    return started | set(named)
