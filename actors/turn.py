"""One turn of a handler: an event (or a batch of them) from its start to its answer.

Law of this file: every event of a turn is answered exactly once, whatever the handler does: returns,
raises, is cancelled, ignores the cancel, or takes the worker down with it. A turn knows no clock and
no mailbox; its cell tells it to stop or to give up.

What a handler returns is None, bytes (the asker's value), an Out, a list of Out, or an async iterator
of Out, which is closed before the answer. What it raises becomes an outcome: an error of the tree
keeps its code, anything else is HANDLER_FAILED. A BaseException that is neither (a panic of native
code) is answered and then raised on, so that the cell counts a crashed worker.

A batch is answered per event: the handler returns one result per event, where an exception fails that
event alone. Cancelling one event of a batch answers it at once and silences its context; the others go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final, Protocol, TypeAlias, cast, overload

from laneway.actors.endings import failed
from laneway.actors.ports import Context, Out, Outcome
from laneway.actors.spans import SILENT, Span
from laneway.routing.envelope import DEADLINE, KIND, NO_DEADLINE, RUN, SESSION, TRACE, Envelope
from laneway.routing.errors import HandlerFailed, LanewayError
from laneway.routing.traceparent import trace_id

__all__ = [
    "Answer",
    "BatchContexts",
    "BatchHandler",
    "BatchTurn",
    "Begin",
    "MakeContext",
    "SingleTurn",
    "Turn",
    "TurnContext",
]

Answer: TypeAlias = Callable[[Envelope, Outcome], None]
"""Told exactly once how an event ended; must not raise."""

_log: Final = logging.getLogger(__name__)
_HANDLED: Final = Outcome("handled")
_BROKEN_OFF: Final = Outcome("cancelled", code="CANCELLED", message="the handler's task was cancelled from outside")


class TurnContext(Context, Protocol):
    """A handler's context as its cell sees it: it can be told what became of the turn."""

    def cancel(self) -> None:
        """Make `cancelled` true: somebody asked for the end of this event."""
        ...

    def end(self) -> None:
        """From now on discard and count what is emitted: the event has been answered."""
        ...


MakeContext: TypeAlias = Callable[[Envelope, str], TurnContext]
"""Makes the context of an event, the very one that was delivered, and of its turn's traceparent or ""."""

Begin: TypeAlias = Callable[[Sequence[Envelope]], Span]
"""Begins the span of a turn on these events, at least one of which has a trace. Must not raise."""


class Turn(Protocol):
    """What a cell needs of the turn that a worker is running."""

    @property
    def size(self) -> int:
        """Events in it."""
        ...

    def deadline(self) -> float:
        """Earliest deadline of an event that is not answered and not stopped, or infinity."""
        ...

    def stop(self, match: Callable[[Envelope], bool], outcome: Outcome, *, asked: bool) -> tuple[int, bool]:
        """End the events that match with `outcome`.

        Args:
            asked: somebody asked for it, so the context's `cancelled` becomes true; a deadline or a
                shutdown leaves it false, and the handler's own last words tell the difference.

        Returns how many were hit, and whether the worker's task is to be cancelled for it.
        """
        ...

    def abandon(self) -> int:
        """Answer what is not answered and silence the contexts; returns the number of answers."""
        ...

    async def run(self) -> None:
        """Run the handler and answer. Raises CancelledError, and what crashes a worker."""
        ...


class SingleTurn:
    """One event in its handler."""

    __slots__ = ("_answer", "_begin", "_context", "_env", "_handler", "_make_context", "_over", "_span", "_stop")
    size = 1

    def __init__(
        self,
        env: Envelope,
        handler: Callable[..., Any],
        make_context: MakeContext,
        answer: Answer,
        begin: Begin | None = None,
    ) -> None:
        self._env = env
        self._begin = begin
        self._span: Span | None = None
        self._handler = handler
        self._make_context = make_context
        self._answer = answer
        self._context: TurnContext | None = None
        self._stop: Outcome | None = None
        self._over = False

    def deadline(self) -> float:
        """The event's, until it is stopped."""
        return NO_DEADLINE if self._stop is not None or self._over else self._env[DEADLINE]

    def stop(self, match: Callable[[Envelope], bool], outcome: Outcome, *, asked: bool) -> tuple[int, bool]:
        """Stop the handler; the event is answered when it has ended, or at the abandonment."""
        if self._over or not match(self._env):
            return 0, False
        if asked and self._context is not None:
            self._context.cancel()
        if self._stop is not None:
            return 1, False
        self._stop = outcome
        return 1, True

    def abandon(self) -> int:
        """Answer for a handler that did not end."""
        return self._end(self._stop or _BROKEN_OFF)

    async def run(self) -> None:
        """Run the handler and answer for it."""
        outcome = _BROKEN_OFF
        try:
            trace = self._traced() if self._env[TRACE] else ""
            self._context = context = self._make_context(self._env, trace)
            result = self._handler(self._env, context)
            if hasattr(result, "__await__"):
                result = await result
            outcome = _HANDLED if result is None else await _outcome(result, context)
        except Exception as error:
            outcome = _failed(error, self._env)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            outcome = failed(error)
            raise
        finally:
            self._end(self._stop or outcome)

    def _traced(self) -> str:
        """Begin the turn's span; return what the context's steps belong to."""
        if self._begin is None:
            return self._env[TRACE]
        self._span = self._begin((self._env,))
        return self._span.traceparent or self._env[TRACE]

    def _end(self, outcome: Outcome) -> int:
        if self._over:
            return 0
        self._over = True
        if self._context is not None:
            self._context.end()
        if self._span is not None:
            _end_span(self._span, outcome)
        self._answer(self._env, outcome)
        return 1


class BatchContexts(Sequence[Context]):
    """The contexts of a batch, made when first looked at."""

    __slots__ = ("_cancelled", "_ended", "_envs", "_made", "_make")

    def __init__(self, envs: Sequence[Envelope], make_context: Callable[[Envelope], TurnContext]) -> None:
        self._envs = envs
        self._make = make_context
        self._made: dict[int, TurnContext] = {}
        self._cancelled: set[int] = set()
        self._ended: set[int] = set()

    def __len__(self) -> int:
        return len(self._envs)

    @overload
    def __getitem__(self, index: int) -> TurnContext: ...
    @overload
    def __getitem__(self, index: slice) -> list[TurnContext]: ...
    def __getitem__(self, index: int | slice) -> TurnContext | list[TurnContext]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = range(len(self._envs))[index]
        context = self._made.get(at)
        if context is None:
            context = self._made[at] = self._make(self._envs[at])
            if at in self._cancelled:
                context.cancel()
            if at in self._ended:
                context.end()
        return context

    def cancel(self, index: int) -> None:
        """Mark one as cancelled, made or not."""
        self._cancelled.add(index)
        if index in self._made:
            self._made[index].cancel()

    def end(self, index: int) -> None:
        """Silence one, made or not."""
        self._ended.add(index)
        if index in self._made:
            self._made[index].end()


BatchHandler: TypeAlias = Callable[[list[Envelope], BatchContexts], Awaitable[object]]
"""``async def handle(events, contexts)``: returns None (all handled) or one result per event; an
exception in the list fails its own event. What it raises fails the events not yet answered."""


class BatchTurn:
    """Several events in one call of a batch handler."""

    __slots__ = ("_answer", "_begin", "_contexts", "_envs", "_handler", "_open", "_span")

    def __init__(
        self,
        envs: list[Envelope],
        handler: Callable[..., Any],
        make_context: MakeContext,
        answer: Answer,
        begin: Begin | None = None,
    ) -> None:
        self._envs = envs
        self._handler = handler
        self._answer = answer
        self._begin = begin
        self._span = SILENT
        self._contexts = BatchContexts(envs, lambda env: make_context(env, self._trace(env)))
        self._open = dict(enumerate(envs))

    @property
    def size(self) -> int:
        """Events in the batch."""
        return len(self._envs)

    def deadline(self) -> float:
        """The earliest of those that are not answered. O(batch)."""
        return min((env[DEADLINE] for env in self._open.values()), default=NO_DEADLINE)

    def stop(self, match: Callable[[Envelope], bool], outcome: Outcome, *, asked: bool) -> tuple[int, bool]:
        """Answer the matching events at once; the handler is stopped when none is left."""
        hits = [index for index, env in self._open.items() if match(env)]
        for index in hits:
            if asked:
                self._contexts.cancel(index)
            self._end(index, outcome)
        return len(hits), bool(hits) and not self._open

    def abandon(self) -> int:
        """Answer for a handler that did not end."""
        left = len(self._open)
        self._end_all(_BROKEN_OFF)
        return left

    def _trace(self, env: Envelope) -> str:
        """What the context's steps belong to: the turn's span, if that is in the event's own trace."""
        trace, own = self._span.traceparent, env[TRACE]
        return trace if trace and own and trace_id(trace) == trace_id(own) else own

    async def run(self) -> None:
        """Run the handler once and answer for each event."""
        failure = _BROKEN_OFF
        try:
            if self._begin is not None and any(env[TRACE] for env in self._envs):
                self._span = self._begin(self._envs)
            results = await self._handler(list(self._envs), self._contexts)
            await self._answer_each(_per_event(results, len(self._envs)))
        except Exception as error:
            failure = _failed(error, self._envs[0])
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            failure = failed(error)
            raise
        finally:
            self._end_all(failure)

    async def _answer_each(self, results: Sequence[object]) -> None:
        for index, result in enumerate(results):
            if index not in self._open:
                continue
            if isinstance(result, (bytes, type(None))):
                outcome = _HANDLED if not result else Outcome("handled", result)
            else:
                try:
                    outcome = await _outcome(result, self._contexts[index])
                except Exception as error:
                    outcome = _failed(error, self._envs[index])
            self._end(index, outcome)

    def _end(self, index: int, outcome: Outcome) -> None:
        env = self._open.pop(index, None)
        if env is not None:
            self._contexts.end(index)
            self._answer(env, outcome)

    def _end_all(self, outcome: Outcome) -> None:
        """Answer for what is left; the span failed if anything was."""
        _end_span(self._span, outcome if self._open else _HANDLED)
        for index in list(self._open):
            self._end(index, outcome)


def _failed(error: BaseException, env: Envelope) -> Outcome:
    """Return the outcome; a bug is logged as well, since an outcome has no traceback."""
    if isinstance(error, HandlerFailed) or not isinstance(error, LanewayError):
        _log.error(
            *("a handler failed on %s of session %s, run %s", env[KIND], env[SESSION], env[RUN] or "none"),
            exc_info=error,
            extra={"trace": env[TRACE]},
        )
    return failed(error)


def _end_span(span: Span, outcome: Outcome) -> None:
    if outcome.status == "handled":
        span.end()
    else:
        span.end(outcome.code, outcome.message)


def _per_event(results: object, count: int) -> Sequence[object]:
    if results is None:
        return [None] * count
    if isinstance(results, (list, tuple)) and not isinstance(results, Out) and len(results) == count:
        return results
    raise HandlerFailed(f"a batch handler returns None or a list of {count} results, one per event")


async def _outcome(result: Any, context: Context) -> Outcome:
    """Await what a handler gave, send what it wants sent, and return the outcome. Raises its errors."""
    if hasattr(result, "__await__"):
        result = await result
    if result is None:
        return _HANDLED
    if isinstance(result, bytes):
        return Outcome("handled", result)
    if isinstance(result, Out):
        await context.emit(result)
    elif isinstance(result, (list, tuple)):
        for out in result:
            await context.emit(_out(out))
    elif isinstance(result, BaseException):
        raise result
    elif hasattr(result, "__aiter__"):
        await _drain(result, context)
    else:
        raise HandlerFailed(
            "a handler returns None, bytes, an Out, a list of Out or an async iterator of Out, "
            f"not {type(result).__name__}"
        )
    return _HANDLED


async def _drain(outs: AsyncIterator[Any], context: Context) -> None:
    """Emit all an iterator yields. A generator is closed here, never by the garbage collector."""
    if not hasattr(outs, "aclose"):
        async for out in outs:
            await context.emit(_out(out))
        return
    async with aclosing(cast("Any", outs)) as closing:
        async for out in closing:
            await context.emit(_out(out))


def _out(out: object) -> Out:
    if isinstance(out, Out):
        return out
    raise HandlerFailed(f"a handler emits Out, not {type(out).__name__}")
