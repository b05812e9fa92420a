"""The handler of TOOL_CALL: one call from its request to its answer, whatever the tool is.

Law of this file: the order is look up, scopes, arguments, ledger, turn (limiter), breaker, intent,
effect, result; each step before the intent may refuse without a trace, each step after it leaves one.
A failed tool is an answer with a code, never an exception of this handler: only cancellation leaves
it. The time a call may take is the tool's own timeout or the run's deadline, whichever is nearer.
A call that came straight from a client is also told to the session as AG-UI events; one that came
from a run is told by the run itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Final

import msgpack

from laneway.actors.ports import Clock, Context, Out, Probe, ToolInvoker
from laneway.actors.spans import SILENT, Span
from laneway.actors.tools.catalogue import Catalogue
from laneway.actors.tools.desk import Desk, ToolStatistics
from laneway.actors.tools.ledger import Ledger, Settled, Ticket, digest
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
_JSON: Final = json.JSONEncoder(ensure_ascii=False).encode  # `json.dumps` makes an encoder at each call
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
        self._took: dict[str, Callable[[float], None]] = {}

    async def __call__(self, env: Envelope, context: Context) -> bytes:
        """Handle one TOOL_CALL; returns the packed answer. Raises nothing but CancelledError."""
        tell = None if env[PRODUCER].startswith(_ENGINE) else context
        try:
            request = parse(env)
        except ToolArguments as error:
            return await self._answer(failure(error), fallback_id(env), tell)
        if tell is not None:
            await _tell_start(request, tell)
        started = self._clock.now()
        if env[TRACE]:
            settled = await self._traced(request, context)
        else:
            settled = await self._settle(request, context, SILENT)
        label = self._label(request.name)
        self._probe.count("tool.calls", tool=label, result=settled.code or "OK")
        if settled.code:
            self._probe.count("tool.errors", tool=label)
        took = self._took.get(label)
        if took is None:
            took = self._took[label] = self._probe.histogram("tool.seconds", tool=label)
        took(self._clock.now() - started)
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

    def _label(self, name: str) -> str:
        return name if name in self._catalogue else "?"  # a client must not invent metric labels

    async def _answer(self, settled: Settled, call_id: str, tell: Context | None) -> bytes:
        if tell is not None:
            body = {"messageId": f"{call_id}-result", "toolCallId": call_id, "content": settled.content, "role": "tool"}
            await tell.emit(Out("TOOL_CALL_RESULT", msgpack.packb(body), call_id))
        return pack_answer(settled)

    async def _traced(self, request: CallRequest, context: Context) -> Settled:
        """Settle the call; as a span it ends with the code of its answer."""
        about = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": request.name,
            "gen_ai.tool.call.id": request.call_id,
            "gen_ai.tool.type": "function",
        }
        with context.span(f"tool {self._label(request.name)}", **about) as span:
            settled = await self._settle(request, context, span)
            if settled.code:
                span.end(settled.code)
        return settled

    async def _settle(self, request: CallRequest, context: Context, span: Span) -> Settled:
        try:
            desk = self._desk(self._catalogue.find(request.name, context.principal))
            if desk.check is not None:
                desk.check(request.arguments)
            hashed = digest(request.name, request.arguments)
            claimed = await self._ledger.claim(request.key, hashed, repeatable=desk.repeatable)
        except LanewayError as error:
            return failure(error)
        if isinstance(claimed, Settled):
            return claimed
        return await _Call(desk, claimed, request, context, span, self._clock, self._random).run()

    def _desk(self, tool: ToolInvoker) -> Desk:
        name = tool.spec.name
        desk = self._desks.get(name)
        if desk is None:
            desk = self._desks[name] = Desk(tool, self._clock, self._limits)
        elif desk.tool is not tool:
            desk.serve(tool)
        return desk


class _Call:
    """One claimed call on its way; settles its ticket exactly once."""

    __slots__ = (
        "_clock",
        "_context",
        "_deadline",
        "_desk",
        "_life",
        "_random",
        "_repeatable",
        "_request",
        "_span",
        "_ticket",
        "_tool",
    )

    def __init__(
        self,
        desk: Desk,
        ticket: Ticket,
        request: CallRequest,
        context: Context,
        span: Span,
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        self._span = span
        self._tool = desk.tool
        self._repeatable = desk.repeatable
        self._desk = desk
        self._ticket = ticket
        self._request = request
        self._context = context
        self._clock = clock
        self._random = random
        self._deadline = min(clock.now() + desk.tool.spec.timeout_s, context.deadline)
        self._life = Lifecycle()

    async def run(self) -> Settled:
        self._life.step(Step.ADMIT)
        try:
            settled = Settled(State.SUCCEEDED, _bounded(await self._attempts()))
        except asyncio.CancelledError:
            self._cancelled()
            raise
        except LanewayError as error:
            settled = failure(error)
        except Exception as error:  # a tool's own exception is its answer, whatever type it has
            settled = failure(_wrapped(self._request.name, error))
        if not self._life.started or (settled.code and self._repeatable):
            self._ticket.abandon(settled)
            return settled
        self._life.step(_LAST_STEP.get(settled.state, Step.LOSE))
        await self._ticket.settle(settled)
        return settled

    def _cancelled(self) -> None:
        settled = failure(Cancelled(f"the call of {self._request.name!r} was cancelled"))
        self._life.step(Step.CANCEL)
        if self._life.started and not self._repeatable:
            self._ticket.settle_later(settled)
        else:
            self._ticket.abandon(settled)

    async def _attempts(self) -> str:
        self._desk.budget.deposit()
        attempt = 0
        while True:
            try:
                return await self._attempt()
            except LanewayError as error:
                pause_s = full_jitter(attempt, BASE_S, CAP_S, self._random)
                attempt += 1
                if not self._again(error, attempt, pause_s):
                    raise
                self._span.event("retry", laneway__attempt=attempt, error__type=error.code)
            if self._life.state is State.RUNNING:
                self._life.step(Step.RETRY)
            await asyncio.sleep(pause_s)

    def _again(self, error: LanewayError, attempt: int, pause_s: float) -> bool:
        return (
            self._repeatable
            and attempt < MAX_ATTEMPTS
            and worth_retrying(error)
            and self._clock.now() + pause_s < self._deadline
            and self._desk.budget.withdraw()
        )

    async def _attempt(self) -> str:
        left_s = self._deadline - self._clock.now()
        if left_s <= 0:
            raise ToolTimeout(f"the deadline passed before {self._request.name!r} could start", reason="DEADLINE")
        desk = self._desk
        limit = desk.deadlines.set(self._deadline)
        try:
            await desk.limiter.take()
            try:
                return await self._effect()
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

    async def _effect(self) -> str:
        breaker = self._desk.breaker
        pause_s = breaker.allow(self._clock.now())
        if pause_s > 0:
            raise ToolUnavailable(
                f"{self._request.name!r} failed too often and is left alone for {pause_s:.1f} s",
                reason="BREAKER_OPEN",
                retry_after_ms=int(pause_s * 1000) + 1,
            )
        healthy: bool | None = None
        late = False
        try:
            await self._ticket.start()
            self._life.step(Step.START)
            self._span.event("start")
            healthy = False  # unless it says otherwise: a timeout arrives as a cancel
            content = await self._tool.invoke(self._request.arguments, self._context)
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
        return content


def _wrapped(name: str, error: Exception) -> ToolError:
    return ToolError(f"{name!r} raised {type(error).__name__}: {str(error)[:2000]}", reason=type(error).__name__)


def _bounded(content: str) -> str:
    if len(content) <= MAX_RESULT_BYTES // 4 or len(content.encode()) <= MAX_RESULT_BYTES:
        return content
    raise ToolError(
        f"the result has more than {MAX_RESULT_BYTES} bytes; ask the tool for less, or page", reason="OUTPUT_TRUNCATED"
    )


async def _tell_start(request: CallRequest, context: Context) -> None:
    call_id = request.call_id
    named = {"toolCallId": call_id, "toolCallName": request.name}
    await context.emit_all(
        (
            Out("TOOL_CALL_START", msgpack.packb(named), call_id),
            Out("TOOL_CALL_ARGS", _JSON(request.arguments).encode(), call_id),
            Out("TOOL_CALL_END", msgpack.packb({"toolCallId": call_id}), call_id),
        )
    )
