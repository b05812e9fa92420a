"""The driver of runs: one user message or RunAgentInput in, one whole AG-UI run out.

Law of this file: every run that starts ends with exactly one terminal event, whatever happens to
the model, the client or this task: RUN_FINISHED, RUN_FINISHED with outcome "cancelled" after
closing what was open, or RUN_ERROR, after which nothing follows. The model's iterator is closed
before the terminal event is sent, so a client that sees the end knows that the model has stopped.

On cancel the closing events are sent from a shielded task with a deadline: a client without credit
must not keep a cancelled run alive. If they cannot get out in time, RUN_ERROR does it: it is
critical and waits for no data credit.

A run that nobody reads and that was not to wait (`routing/unread.py`) is over where the session takes
no more of it; the session's home tells that end (PAUSED), behind what was said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from laneway.actors.nlp.chosen import Chosen, chosen
from laneway.actors.nlp.chunks import ChunkExpander
from laneway.actors.nlp.described import described, usage_of
from laneway.actors.nlp.history import History, Turn
from laneway.actors.nlp.question import Earlier, asked, said, unread_policy
from laneway.actors.nlp.recorded import Recorded
from laneway.actors.nlp.sequence import RunSequence
from laneway.actors.nlp.stripping import Stripping
from laneway.actors.nlp.vocabulary import (
    TEXT_KINDS,
    fields_of,
    run_error,
    run_finished,
    run_started,
)
from laneway.actors.ports import Clock, Context, Model, Out, Probe
from laneway.actors.spans import SILENT, Span
from laneway.routing.envelope import KIND, NO_DEADLINE, SEAL, SESSION, TENANT, Envelope
from laneway.routing.errors import (
    DeadlineExceeded,
    Drained,
    HandlerFailed,
    LanewayError,
    ModelFailed,
    Paused,
)
from laneway.routing.unread import Unread

if TYPE_CHECKING:
    from laneway.actors.outlets import Add

__all__ = ["RunDriver"]

_CLOSE_S: Final = 2.0
"""For everything after a cancel; the cell abandons a handler after 5 s, and this must be well inside."""
_LATE: Final = "the run's deadline passed before the model was done"
_RUN_MARKS: Final = frozenset({"RUN_STARTED", "RUN_FINISHED", "RUN_ERROR"})
_SEALED: Final = bytes([SEAL])
_NOTHING: Final = ("", "")
Gathering: TypeAlias = "Callable[[str, str], Add | None]"
"""See `RunContext.gathering`."""
_TURN_EVENTS: Final = 64
"""So many events of a model that never waits, then others have a turn: about half a millisecond."""


class RunDriver:
    """Handler of USER_MESSAGE and RUN_INPUT for a pool with `run_starting=True`.

    However a run fails, the client is told first (RUN_ERROR, or RUN_FINISHED "cancelled"); then the
    cause is raised on, so that the event counts as failed or cancelled. Nobody else may report it, but
    for PAUSED, which the session's home decided.

    Args:
        model: what answers.
        clock: monotonic seconds, for the run's deadline.
        history: (tenant, session) -> the AG-UI messages said before the current one, for
            USER_MESSAGE; by default the driver remembers a bounded history of its own.
        raw: let RAW events and `rawEvent` fields through; they are stripped by default (10x smaller).
        probe: counters `run.stripped` (events that were RAW, or had a `rawEvent`) and `run.stripped_bytes`.
        close_s: seconds that ending a cancelled run may take.
        unread: what becomes of a run that nobody reads, unless it says so itself
            (`forwardedProps.unread`); "auto": "continue" if the model `pushes`, else "pause".
    """

    def __init__(
        self,
        model: Model,
        *,
        clock: Clock,
        history: Earlier | None = None,
        raw: bool = False,
        probe: Probe | None = None,
        close_s: float = _CLOSE_S,
        unread: Unread | Literal["auto"] = "auto",
    ) -> None:
        self._model = model
        self._clock = clock
        self._own = History() if history is None else None
        self._earlier: Earlier = history if history is not None else self._own.messages  # type: ignore[union-attr]
        self._strip = None if raw else Stripping(probe)
        self._close_s = close_s
        self._unread = unread

    async def __call__(self, env: Envelope, context: Context) -> None:
        """Drive one run to its end.

        Raises, after the terminal event is out, asyncio.CancelledError if cancelled, else the
        LanewayError that ended the run (DeadlineExceeded, ModelFailed, PeerProtocolError;
        HandlerFailed for what the model raised outside the tree).
        """
        play: _Play | None = None
        try:
            run, answers = asked(env, context.run, self._earlier), chosen(self._model)
            context.when_unread(self._policy(run, answers.model))
            play = _Play(run, answers, context, self._turn(env), self._clock, self._strip)
            if context.deadline == NO_DEADLINE:
                await play.through()
            else:
                async with asyncio.timeout(max(0.0, context.deadline - self._clock.now())):
                    await play.through()
        except asyncio.CancelledError:
            if play is not None:
                await self._end_cancelled(play, context)
            raise
        except TimeoutError as error:
            late = DeadlineExceeded(_LATE)
            await self._fail(context, late)
            raise late from error
        except LanewayError as error:
            if error.code != Paused.code:
                await self._fail(context, error)
            raise
        except Exception as error:
            failed = HandlerFailed(f"the model raised {type(error).__name__}: {error}")
            await self._fail(context, failed)
            raise failed from error
        finally:
            if play is not None and self._own is not None and play.turn is not None:
                self._own.add(env[TENANT], env[SESSION], play.turn.messages())

    def _policy(self, run: Mapping[str, Any], model: Model) -> Unread:
        policy = unread_policy(run) or self._unread
        if policy == "auto":
            return "continue" if getattr(model, "pushes", False) else "pause"
        return policy

    def _turn(self, env: Envelope) -> Turn | None:
        """Return what remembers the run, if that is not somebody else's."""
        if self._own is None:
            return None
        return Turn([said(env)] if env[KIND] == "USER_MESSAGE" else [], self._own.session_bytes)

    async def _fail(self, context: Context, error: LanewayError) -> None:
        await context.emit(run_error(error.message, error.code, retryable=error.retryable, reason=error.reason))

    def _stopped(self, context: Context) -> LanewayError:
        """Why this task was stopped although nobody asked for the end of the run."""
        if self._clock.now() >= context.deadline:
            return DeadlineExceeded(_LATE)
        return Drained("the engine stopped before the run could end; start it again")

    async def _end_cancelled(self, play: _Play, context: Context) -> None:
        if not context.cancelled:
            await _outlast(self._fail(context, self._stopped(context)), self._close_s)
            return
        if not await _outlast(play.cancelled(), self._close_s):
            told = run_error("the run was cancelled", "CANCELLED")
            await _outlast(context.emit(told), self._close_s)


class _Play:
    """One run on its way: its input, its model, its sequence, and the model's own marks."""

    def __init__(
        self,
        run: dict[str, Any],
        answers: Chosen,
        context: Context,
        turn: Turn | None,
        clock: Clock,
        strip: Stripping | None,
    ) -> None:
        self.run = run
        self._model, self._degraded = answers
        self.turn = turn
        self._context = context
        self._clock = clock
        self._strip = strip
        self._gathering: Gathering = getattr(context, "gathering", _never_gathers)  # of a context that can
        self._sequence = RunSequence()
        self._chunks = ChunkExpander()
        self._ending: dict[str, Any] = {}
        self._started = False

    async def through(self) -> None:
        """Start, stream and finish. Raises what the model raises, and ModelFailed for a broken sequence."""
        thread, run = self.run["threadId"], self.run["runId"]
        await self._start()
        if self._context.trace:
            name, about = described(self._model)
            with self._context.span(f"model {name}", "client", **about) as span:
                await self._listen(span)
                span.note(**usage_of(self._ending.get("usage")))
        else:
            await self._listen(SILENT)
        await self._close()
        await self._context.emit(run_finished(thread, run, **self._ending))

    async def _listen(self, span: Span) -> None:
        """Pass on what the model says, up to its end."""
        context, turn = self._context, self.turn
        outs = self._model.stream(self.run, context if turn is None else Recorded(context, turn))
        since, count = self._clock.now(), 0
        kind, entity = _NOTHING  # of the delta before
        add: Add = _refuse
        try:
            async for out in outs:
                if context.cancelled:
                    raise asyncio.CancelledError
                if not count:
                    span.note(gen_ai__response__time_to_first_chunk=self._clock.now() - since)
                count += 1
                if not count % _TURN_EVENTS:
                    await asyncio.sleep(0)
                if out.kind != kind or out.entity != entity or not (out.body.isascii() or _is_text(out.body)):
                    if await self._give(out):
                        break
                    kind, entity, add = *((out.kind, out.entity) if out.kind in TEXT_KINDS else _NOTHING), _refuse
                    continue
                if not add(out.body):  # it goes on where the last one stopped: nothing to check
                    await context.emit(out)
                    add = self._gathering(kind, entity) or _refuse
                if turn is not None:
                    turn.fold(out)
        finally:  # however it ends, the model's upstream stops now
            close: Callable[[], Awaitable[None]] | None = getattr(outs, "aclose", None)
            if close is not None:
                await close()

    async def cancelled(self) -> None:
        """Close what is open and say that the run was cancelled."""
        if not self._started:
            await self._start()
        await self._close()
        await self._context.emit(run_finished(self.run["threadId"], self.run["runId"], outcome={"type": "cancelled"}))

    async def _start(self) -> None:
        thread, run, parent = self.run["threadId"], self.run["runId"], self.run.get("parentRunId")
        newest = self.run["messages"][-1:]
        theirs = [message for message in newest if message.get("role") == "user"]
        instead = described(self._model)[0] if self._degraded else ""
        await self._context.emit(run_started(thread, run, parent, theirs, instead))
        self._started = True

    async def _give(self, out: Out) -> bool:
        """Send one event, or what it stands for; True if it is the model's word that the run is over."""
        if out.kind in _RUN_MARKS:
            return self._marked(out)
        kept = out if self._strip is None else self._strip(out)
        if kept is not None:
            for event in self._chunks.expand(kept):
                await self._send(event)
        return False

    async def _send(self, event: Out) -> None:
        self._sequence.offer(event)
        try:
            await self._context.emit(event)
        except BaseException:
            self._sequence.retract()  # a cancelled emit had no effect: the event was not sent
            raise
        if self.turn is not None:
            self.turn.fold(event)

    async def _close(self) -> None:
        for event in self._sequence.closing():
            await self._send(event)

    def _marked(self, out: Out) -> bool:
        """Keep what the model says about its end; True if the run is over."""
        fields = fields_of(out)
        if out.kind == "RUN_ERROR":
            code = str(fields.get("code") or "MODEL_FAILED")
            raise ModelFailed(str(fields.get("message") or "the model ended with an error"), reason=code)
        self._ending = {key: fields[key] for key in ("outcome", "result", "usage") if fields.get(key) is not None}
        return out.kind == "RUN_FINISHED"


def _refuse(body: bytes) -> bool:
    return False


def _never_gathers(kind: str, entity: str) -> None:
    return None


def _is_text(body: bytes) -> bool:
    """False for a sealed delta. Raises UnicodeDecodeError for what is neither: it must not pass for text."""
    if body[:1] == _SEALED:
        return False
    body.decode()
    return True


async def _outlast(work: Coroutine[Any, Any, None], limit_s: float) -> bool:
    """Finish `work` within limit_s although this task is being cancelled; False if it could not.

    Further cancels are absorbed here, because the caller raises the first one on.
    """
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    ends = loop.time() + limit_s
    while not task.done() and (left := ends - loop.time()) > 0:
        try:
            await asyncio.wait({task}, timeout=left)
        except asyncio.CancelledError:
            continue
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=limit_s)
    return task.done() and not task.cancelled() and task.exception() is None
