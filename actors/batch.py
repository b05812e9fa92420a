"""One call of a batch handler: several events, answered one by one.

Law of this file: a batch is answered per event: the handler returns one result per event, where an
exception fails that event alone. Cancelling one event of a batch answers it at once and silences its
context; the others go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias, overload

from laneway.actors.endings import failed
from laneway.actors.ports import Context, Out, Outcome
from laneway.actors.results import BROKEN_OFF, HANDLED, end_span, outcome_of, raised
from laneway.actors.spans import SILENT
from laneway.actors.turn import Answer, Begin, MakeContext, TurnContext
from laneway.routing.envelope import DEADLINE, NO_DEADLINE, TRACE, Envelope
from laneway.routing.errors import HandlerFailed
from laneway.routing.traceparent import trace_id

__all__ = ["BatchContexts", "BatchHandler", "BatchTurn"]


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
        self._end_all(BROKEN_OFF)
        return left

    def _trace(self, env: Envelope) -> str:
        """What the context's steps belong to: the turn's span, if that is in the event's own trace."""
        trace, own = self._span.traceparent, env[TRACE]
        return trace if trace and own and trace_id(trace) == trace_id(own) else own

    async def run(self) -> None:
        """Run the handler once and answer for each event."""
        failure = BROKEN_OFF
        try:
            if self._begin is not None and any(env[TRACE] for env in self._envs):
                self._span = self._begin(self._envs)
            results = await self._handler(list(self._envs), self._contexts)
            await self._answer_each(_per_event(results, len(self._envs)))
        except Exception as error:
            failure = raised(error, self._envs[0])
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
                outcome = HANDLED if not result else Outcome("handled", result)
            else:
                try:
                    outcome = await outcome_of(result, self._contexts[index])
                except Exception as error:
                    outcome = raised(error, self._envs[index])
            self._end(index, outcome)

    def _end(self, index: int, outcome: Outcome) -> None:
        env = self._open.pop(index, None)
        if env is not None:
            self._contexts.end(index)
            self._answer(env, outcome)

    def _end_all(self, outcome: Outcome) -> None:
        """Answer for what is left; the span failed if anything was."""
        end_span(self._span, outcome if self._open else HANDLED)
        for index in list(self._open):
            self._end(index, outcome)


def _per_event(results: object, count: int) -> Sequence[object]:
    if results is None:
        return [None] * count
    if isinstance(results, (list, tuple)) and not isinstance(results, Out) and len(results) == count:
        return results
    raise HandlerFailed(f"a batch handler returns None or a list of {count} results, one per event")
