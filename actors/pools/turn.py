"""One turn of a handler: an event (or a batch of them) from its start to its answer.

Law of this file: every event of a turn is answered exactly once, whatever the handler does: returns,
raises, is cancelled, ignores the cancel, or takes the worker down with it. A turn knows no clock and
no mailbox; its cell tells it to stop or to give up. A BaseException that is neither an Exception nor a
cancel (a panic of native code) is answered and then raised on, so that the cell counts a crashed worker.

What waits behind an event is handled in the same turn, straight on: a handler that finishes without
suspending costs no switch of tasks, no timer and no object but its context.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import CoroutineType
from typing import Any, Protocol, TypeAlias

from laneway.actors.endings import failed
from laneway.actors.pools.results import BROKEN_OFF, HANDLED, end_span, outcome_of, raised
from laneway.actors.ports import Context, Out, Outcome
from laneway.actors.spans import Span
from laneway.routing.envelope import DEADLINE, NO_DEADLINE, TRACE, Envelope

__all__ = ["Adapted", "Answer", "Begin", "MakeContext", "SerialTurn", "Turn", "TurnContext", "answer_all"]

Answer: TypeAlias = Callable[[Envelope, Outcome], None]
"""Told exactly once how an event ended; must not raise. It may have `all`, which takes a list of them."""


class TurnContext(Context, Protocol):
    """A handler's context as its cell sees it: it can be told what became of the turn."""

    def cancel(self) -> None:
        """Make `cancelled` true: somebody asked for the end of this event."""
        ...

    def emit_now(self, out: Out) -> bool:
        """As `emit`, if it need not wait; else False, and nothing is done."""
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


def answer_all(answer: Answer, ended: list[tuple[Envelope, Outcome]]) -> None:
    """Tell how these events ended, in order. O(1) if it takes lists."""
    whole = getattr(answer, "all", None)
    if whole is not None:
        whole(ended)
    else:
        for env, outcome in ended:
            answer(env, outcome)


class Adapted:
    """A handler that is given something else than the event, and may give something else than Outs.

    Called like any other handler; a turn takes it apart instead, which saves a coroutine for each event.

    Attributes:
        function: takes `view` of the event, and its context. result: what another result than None, bytes or
            an Out stands for.
    """

    __slots__ = ("function", "result", "view")

    def __init__(
        self, function: Callable[..., Any], view: Callable[[Envelope], object], result: Callable[[Any], object]
    ) -> None:
        self.function = function
        self.view = view
        self.result = result

    async def __call__(self, env: Envelope, context: Context) -> object:
        """Handle one event."""
        return self.result(await self.function(self.view(env), context))


class SerialTurn:
    """Events in their handler, one after the other; a worker needs one for its whole life.

    Args:
        begin: begins the span of an event that is traced.
    """

    __slots__ = (
        *("_answer", "_begin", "_context", "_env", "_handler", "_make_context", "_over", "_result", "_span", "_stop"),
        "_view",
    )
    size = 1

    def __init__(
        self, handler: Callable[..., Any], make_context: MakeContext, answer: Answer, begin: Begin | None = None
    ) -> None:
        self._begin = begin
        self._handler = handler
        self._view: Callable[[Envelope], object] = _itself
        self._result: Callable[[Any], object] = _itself
        if type(handler) is Adapted:
            self._handler, self._view, self._result = handler.function, handler.view, handler.result
        self._make_context: MakeContext = getattr(make_context, "direct", make_context)
        self._answer = answer
        self._env: Envelope | None = None
        self._span: Span | None = None
        self._context: TurnContext | None = None
        self._stop: Outcome | None = None
        self._over = True

    def deadline(self) -> float:
        """That of the event in the handler, until it is stopped."""
        return NO_DEADLINE if self._over or self._stop is not None or self._env is None else self._env[DEADLINE]

    def stop(self, match: Callable[[Envelope], bool], outcome: Outcome, *, asked: bool) -> tuple[int, bool]:
        """Stop the handler; the event is answered when it has ended, or at the abandonment."""
        if self._over or self._env is None or not match(self._env):
            return 0, False
        if asked and self._context is not None:
            self._context.cancel()
        if self._stop is not None:
            return 1, False
        self._stop = outcome
        return 1, True

    def abandon(self) -> int:
        """Answer for a handler that did not end."""
        return self._end(BROKEN_OFF)

    async def run(self, take: Callable[[], Envelope | None]) -> None:
        """Handle what `take` gives, and answer for each, until it gives None.

        Raises CancelledError, and what crashes a worker; both end the turn with the event they met.
        """
        handler, make_context, view, answer = self._handler, self._make_context, self._view, self._answer
        plain = view is _itself
        while (env := take()) is not None:
            self._env, self._context, self._stop, self._over = env, None, None, False
            outcome = BROKEN_OFF
            try:
                self._context = context = make_context(env, self._traced(env) if env[9] else "")
                result = handler(env if plain else view(env), context)
                if type(result) is CoroutineType or hasattr(result, "__await__"):
                    result = await result
                kind = type(result)
                if result is None:
                    outcome = HANDLED
                elif kind is Out:
                    if not context.emit_now(result):
                        await context.emit(result)
                    outcome = HANDLED
                elif kind is bytes:
                    outcome = Outcome("handled", result)
                else:
                    outcome = await outcome_of(self._result(result), context)
            except Exception as error:
                outcome = raised(error, env)
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                outcome = failed(error)
                raise
            finally:
                if self._stop is not None or self._span is not None or self._context is None:  # type: ignore[redundant-expr]
                    self._end(outcome)
                elif not self._over:  # as `_end` does, for nearly all events
                    self._over = True
                    self._context.end()
                    answer(env, outcome)

    def _traced(self, env: Envelope) -> str:
        """Begin the turn's span; return what the context's steps belong to."""
        if self._begin is None:
            return env[TRACE]
        self._span = self._begin((env,))
        return self._span.traceparent or env[TRACE]

    def _end(self, outcome: Outcome) -> int:
        if self._over or self._env is None:
            return 0
        self._over = True
        if self._stop is not None:
            outcome = self._stop
        if self._context is not None:
            self._context.end()
        if self._span is not None:
            end_span(self._span, outcome)
            self._span = None
        self._answer(self._env, outcome)
        return 1


def _itself(value: Any) -> Any:
    return value
