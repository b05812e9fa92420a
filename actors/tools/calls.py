"""The handler of TOOL_CALL: one call from its request to its answer, whatever the tool is.

Law of this file: the order is look up, scopes, arguments, ledger, turn (limiter), breaker, intent,
effect, result; whoever is refused or has to wait between ledger and intent is looked up in the store
before, for the call may have ended long ago. Each step before the intent may refuse without a trace,
each step after it leaves one.
A failed tool is an answer with a code, never an exception of this handler: only cancellation leaves
it. The time a call may take is the tool's own timeout or the run's deadline, whichever is nearer.
A call that came straight from a client is also told to the session as AG-UI events; one that came
from a run is told by the run itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgpack

from laneway.actors.ports import Clock, Context, Out, Probe, ToolInvoker
from laneway.actors.spans import SILENT, Span
from laneway.actors.tools.catalogue import Catalogue
from laneway.actors.tools.desk import Desk, Effect, ToolStatistics
from laneway.actors.tools.entries import Settled, digest
from laneway.actors.tools.json_text import json_encoder
from laneway.actors.tools.ledger import Ledger, Ticket
from laneway.actors.tools.lifecycle import Lifecycle, State, Step
from laneway.actors.tools.limiter import LimiterPolicy
from laneway.actors.tools.request import CallRequest, failure, fallback_id, pack_answer, parse
from laneway.actors.tools.retries import BASE_S, CAP_S, MAX_ATTEMPTS, worth_retrying
from laneway.routing.backoff import full_jitter
from laneway.routing.envelope import PRODUCER, TRACE, Envelope
from laneway.routing.errors import (
    Cancelled,
    LanewayError,
    OutcomeUnknown,
    Overloaded,
    RateLimited,
    ToolArguments,
    ToolCrashed,
    ToolDenied,
    ToolError,
    ToolTimeout,
    ToolUnavailable,
)

__all__ = ["MAX_RESULT_BYTES", "ToolCalls"]

MAX_RESULT_BYTES: Final = 1_048_576
"""Largest result that is passed on; a model cannot read more, and a session cannot carry it."""
_UNHEALTHY: Final = (ToolTimeout, ToolCrashed, ToolUnavailable, OutcomeUnknown)
"""Errors that speak about the tool's health; a tool that answers with an error is alive."""
_SILENT: Final = (ToolArguments, ToolDenied)
_LATE: Final = (ToolTimeout, ToolUnavailable, Overloaded, RateLimited)
"""Errors of a call that found no room where it was served."""
_ENGINE: Final = "engine/"
_NEVER: Final = float("inf")
_LAST_STEP: Final = {
    State.SUCCEEDED: Step.SUCCEED,
    State.FAILED: Step.FAIL,
    State.TIMED_OUT: Step.EXPIRE,
    State.CANCELLED: Step.CANCEL,
}


class ToolCalls:
    """The tools pool's handler; one instance serves every cell of the pool.

    Args:
        catalogue: the tools.
        ledger: at-most-once memory. clock: monotonic time. probe: `tool.calls`, `tool.errors`, `tool.seconds`.
        random: uniform in [0, 1), for the jitter of retries.
        limits: bounds of each tool's concurrency.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        ledger: Ledger,
        *,
        clock: Clock,
        probe: Probe,
        random: Callable[[], float],
        limits: LimiterPolicy | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._ledger = ledger
        self._clock = clock
        self._probe = probe
        self._random = random
        self._limits = limits or LimiterPolicy()
        self._desks: dict[str, Desk] = {}
        self._pack = msgpack.Packer().pack  # `msgpack.packb` makes a packer at each call
        self._text = json_encoder()

    async def __call__(self, env: Envelope, context: Context) -> bytes:
        """Handle one TOOL_CALL; returns the packed answer. Raises nothing but CancelledError."""
        tell = None if env[PRODUCER].startswith(_ENGINE) else context
        try:
            request = parse(env)
        except ToolArguments as error:
            return await self._answer(failure(error), fallback_id(env), tell)
        if tell is not None:
            await self._tell_start(request, tell)
        started = self._clock.now()
        settled = await (self._traced if env[TRACE] else self._settle)(request, context, started)
        self._measure(request.name, settled.code, self._clock.now() - started)
        return await self._answer(settled, request.call_id, tell)

    async def close(self) -> None:
        """Wait for records that are still being written."""
        await self._ledger.close()

    def statistics(self) -> dict[str, ToolStatistics]:
        """Return the gauges of every tool of the catalogue, called or not. O(tools)."""
        rows = {}
        for tool in self._catalogue:
            desk = self._desks.get(tool.spec.name)
            rows[tool.spec.name] = (
                ToolStatistics(int(self._limits.calls.initial)) if desk is None else desk.statistics()
            )
        return rows

    def _measure(self, name: str, code: str, took_s: float) -> None:
        desk = self._desks.get(name)
        if desk is not None:
            label, took = name, desk.took
        else:
            label = self._label(name)
            took = self._probe.histogram("tool.seconds", tool=label)
        self._probe.count("tool.calls", tool=label, result=code or "OK")
        if code:
            self._probe.count("tool.errors", tool=label)
        took(took_s)

    def _label(self, name: str) -> str:
        return name if name in self._catalogue else "?"  # a client must not invent metric labels

    async def _tell_start(self, request: CallRequest, tell: Context) -> None:
        call_id, pack = request.call_id, self._pack
        start = pack({"toolCallId": call_id, "toolCallName": request.name})
        await tell.emit_all(
            (
                Out("TOOL_CALL_START", start, call_id),
                Out("TOOL_CALL_ARGS", self._text(request.arguments).encode(), call_id),
                Out("TOOL_CALL_END", pack({"toolCallId": call_id}), call_id),
            )
        )

    async def _answer(self, settled: Settled, call_id: str, tell: Context | None) -> bytes:
        if tell is not None:
            body = {"messageId": f"{call_id}-result", "toolCallId": call_id, "content": settled.content, "role": "tool"}
            await tell.emit(Out("TOOL_CALL_RESULT", self._pack(body), call_id))
        return pack_answer(settled, self._pack)

    async def _traced(self, request: CallRequest, context: Context, started: float) -> Settled:
        """Settle the call; as a span it ends with the code of its answer."""
        about = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": request.name,
            "gen_ai.tool.call.id": request.call_id,
            "gen_ai.tool.type": "function",
        }
        with context.span(f"tool {self._label(request.name)}", **about) as span:
            settled = await self._settle(request, context, started, span)
            if settled.code:
                span.end(settled.code)
        return settled

    async def _settle(self, request: CallRequest, context: Context, started: float, span: Span = SILENT) -> Settled:
        ledger, key = self._ledger, request.key
        try:
            desk = self._desk(self._catalogue.find(request.name, context.principal))
            effect = desk.prepare(request.arguments)
            hashed = digest(request.name, request.arguments, self._pack)
            claimed = ledger.claim_now(key, hashed, repeatable=desk.repeatable)
            if claimed is None:
                claimed = await ledger.claim(key, hashed, repeatable=desk.repeatable)
        except LanewayError as error:
            return failure(error)
        if isinstance(claimed, Settled):
            return claimed
        call = _Call(desk, claimed, request, effect, context, span, self._clock)
        return await call.run(started, self._random)

    def _desk(self, tool: ToolInvoker) -> Desk:
        name = tool.spec.name
        desk = self._desks.get(name)
        if desk is None:
            desk = self._desks[name] = Desk(tool, self._clock, self._limits, self._probe)
        elif desk.tool is not tool:
            desk.serve(tool)
        return desk


class _Call:
    """One claimed call on its way; settles its ticket exactly once."""

    __slots__ = ("_clock", "_context", "_deadline", "_desk", "_effect", "_life", "_request", "_span", "_ticket")

    def __init__(
        self,
        desk: Desk,
        ticket: Ticket,
        request: CallRequest,
        effect: Effect,
        context: Context,
        span: Span,
        clock: Clock,
    ) -> None:
        self._span = span
        self._desk = desk
        self._ticket = ticket
        self._request = request
        self._effect: Effect | None = effect
        self._context = context
        self._clock = clock
        self._deadline = _NEVER
        self._life = Lifecycle()

    async def run(self, now: float, random: Callable[[], float]) -> Settled:
        """Run until it is settled. `now`: when it began, in clock seconds; random: see `ToolCalls`."""
        desk, ticket, life = self._desk, self._ticket, self._life
        life.step(Step.ADMIT)
        desk.budget.deposit()
        self._deadline = min(now + desk.timeout_s, self._context.deadline)
        attempt = 0
        settled: Settled | None = None
        try:
            while settled is None:
                try:
                    settled = await self._attempt(now)
                except LanewayError as error:
                    pause_s = full_jitter(attempt, BASE_S, CAP_S, random)
                    attempt += 1
                    if self._again(error, attempt, pause_s):
                        await asyncio.sleep(pause_s)
                        now = self._clock.now()
                    else:
                        settled = failure(error)
                except Exception as error:  # a tool's own exception is its answer, whatever type it has
                    settled = failure(_wrapped(self._request.name, error))
            if not life.started and ticket.unread and (known := await ticket.look_up()) is not None:
                settled = known
        except asyncio.CancelledError:
            self._cancelled()
            raise
        except LanewayError as error:  # the store cannot say
            settled = failure(error)
        if not life.started or (settled.code and desk.repeatable):
            ticket.abandon(settled)
            return settled
        life.step(_LAST_STEP.get(settled.state, Step.LOSE))
        if not ticket.settle_now(settled):
            await ticket.settle(settled)
        return settled

    def _cancelled(self) -> None:
        settled = failure(Cancelled(f"the call of {self._request.name!r} was cancelled"))
        self._life.step(Step.CANCEL)
        if self._life.started and not self._desk.repeatable:
            self._ticket.settle_later(settled)
        else:
            self._ticket.abandon(settled)

    def _again(self, error: LanewayError, attempt: int, pause_s: float) -> bool:
        """Decide whether attempt number `attempt` (the first is 0) follows after that pause, and prepare for it."""
        if not (
            self._desk.repeatable
            and attempt < MAX_ATTEMPTS
            and worth_retrying(error)
            and self._clock.now() + pause_s < self._deadline
            and self._desk.budget.withdraw()
        ):
            return False
        self._span.event("retry", laneway__attempt=attempt, error__type=error.code)
        if self._life.state is State.RUNNING:
            self._life.step(Step.RETRY)
        return True

    async def _attempt(self, now: float) -> Settled:
        """Try once, from `now` to the deadline. Raises what the tool raises, and refusals."""
        left_s = self._deadline - now
        if left_s <= 0:
            raise ToolTimeout(f"the deadline passed before {self._request.name!r} could start", reason="DEADLINE")
        desk = self._desk
        limit = desk.deadlines.set(self._deadline)
        try:
            if not desk.limiter.take_now():
                if self._ticket.unread and (known := await self._ticket.look_up()) is not None:
                    return known
                await desk.limiter.take()
                now = self._clock.now()
            try:
                return await self._begin(now)
            finally:
                desk.limiter.give()
        except asyncio.CancelledError:
            if not limit.caused():
                raise
            if self._life.state is not State.RUNNING:
                raise Overloaded(
                    f"{self._request.name!r} had no free turn within {left_s:.1f} s; nothing was started",
                    reason="TOOL_QUEUE",
                    retry_after_ms=1000,
                ) from None
            raise ToolTimeout(f"{self._request.name!r} had not answered after {left_s:.1f} s and was stopped") from None
        except TimeoutError as error:  # of its own
            raise _wrapped(self._request.name, error) from error
        finally:
            desk.deadlines.end(limit)

    async def _begin(self, now: float) -> Settled:
        """Write the intent and have the effect, if the breaker lets it; tell the breaker how it went."""
        breaker = self._desk.breaker
        pause_s = breaker.allow(now)
        if pause_s > 0:
            raise ToolUnavailable(
                f"{self._request.name!r} failed too often and is left alone for {pause_s:.1f} s",
                reason="BREAKER_OPEN",
                retry_after_ms=int(pause_s * 1000) + 1,
            )
        healthy: bool | None = None
        late = False
        try:
            if not self._ticket.silent and (known := await self._ticket.start()) is not None:
                return known
            self._life.step(Step.START)
            self._span.event("start")
            effect, self._effect = self._effect or self._desk.prepare(self._request.arguments), None
            healthy = False  # unless it says otherwise: a timeout arrives as a cancel
            content = await effect(self._context)
            healthy = True
        except LanewayError as error:
            if healthy is not None:
                healthy = None if isinstance(error, _SILENT) else not isinstance(error, _UNHEALTHY)
            late = isinstance(error, _LATE)
            raise
        except asyncio.CancelledError:
            late = self._clock.now() >= self._deadline
            if not late:
                healthy = None
            raise
        except Exception:
            healthy = True
            raise
        finally:
            if healthy is None:
                breaker.forget()
            else:
                breaker.record(healthy, self._clock.now())
            self._desk.measure(late)
        return Settled(State.SUCCEEDED, _bounded(content))


def _wrapped(name: str, error: Exception) -> ToolError:
    return ToolError(f"{name!r} raised {type(error).__name__}: {str(error)[:2000]}", reason=type(error).__name__)


def _bounded(content: str) -> str:
    if len(content) <= MAX_RESULT_BYTES // 4 or len(content.encode()) <= MAX_RESULT_BYTES:
        return content
    raise ToolError(
        f"the result has more than {MAX_RESULT_BYTES} bytes; ask the tool for less, or page", reason="OUTPUT_TRUNCATED"
    )
