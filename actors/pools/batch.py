"""One call of a batch handler: several events, answered one by one.

Law of this file: a batch is answered per event: the handler returns one result per event, where an
exception fails that event alone. Cancelling one event of a batch answers it at once and silences its
context; the others go on.

A batch of which nothing was stopped, and whose results are plain (nothing, bytes, an Out), is sent and
answered as a list. What is odd in it (another result, no credit, an error) goes one by one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import repeat
from operator import itemgetter
from types import NoneType
from typing import Any, Final, TypeAlias, cast, overload

from laneway.actors.endings import failed
from laneway.actors.pools.results import BROKEN_OFF, HANDLED, end_span, outcome_of, raised
from laneway.actors.pools.turn import Answer, Begin, MakeContext, TurnContext, answer_all
from laneway.actors.ports import Context, Out, Outcome
from laneway.actors.spans import SILENT
from laneway.routing.envelope import DEADLINE, NO_DEADLINE, TRACE, Envelope
from laneway.routing.errors import HandlerFailed
from laneway.routing.traceparent import trace_id

__all__ = ["BatchContexts", "BatchHandler", "BatchTurn"]

_DEADLINE_OF: Final = itemgetter(DEADLINE)
_TRACE_OF: Final = itemgetter(TRACE)
_PLAIN: Final = frozenset({NoneType, bytes, Out})


class BatchContexts(Sequence[Context]):
    """The contexts of a batch, made when first looked at."""

    __slots__ = ("_cancelled", "_ended", "_envs", "_made", "_make")

    def __init__(self, envs: Sequence[Envelope], make_context: Callable[[Envelope], TurnContext]) -> None:
        self._envs = envs
        self._make = make_context
        self._made: dict[int, TurnContext] = {}
        self._cancelled: set[int] = set()
        self._ended: set[int] | range = set()

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
        if isinstance(self._ended, set):
            self._ended.add(index)
        if index in self._made:
            self._made[index].end()

    def end_all(self) -> None:
        """Silence all of them."""
        self._ended = range(len(self._envs))
        for context in self._made.values():
            context.end()


EmitEach: TypeAlias = Callable[[Sequence[Envelope], Sequence[Out], Sequence[str] | None], list[int]]
"""See `ContextMaker.emit_each`."""

BatchHandler: TypeAlias = Callable[[list[Envelope], BatchContexts], Awaitable[object]]
"""``async def handle(events, contexts)``: returns None (all handled) or one result per event; an
exception in the list fails its own event. What it raises fails the events not yet answered."""


class BatchTurn:
    """Several events in one call of a batch handler.

    Args:
        make_context: may have `emit_each`, as a `ContextMaker` has. answer: may have `all`, as a `Harvest` has.
    """

    __slots__ = ("_answer", "_begin", "_contexts", "_emit_each", "_envs", "_handler", "_left", "_span")

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
        self._emit_each: EmitEach | None = getattr(make_context, "emit_each", None)
        self._left: dict[int, Envelope] | None = None  # what is not answered; None: all, and nothing was stopped

    @property
    def size(self) -> int:
        """Events in the batch."""
        return len(self._envs)

    def deadline(self) -> float:
        """The earliest of those that are not answered. O(batch)."""
        left = self._envs if self._left is None else self._left.values()
        return min(map(_DEADLINE_OF, left), default=NO_DEADLINE)

    def stop(self, match: Callable[[Envelope], bool], outcome: Outcome, *, asked: bool) -> tuple[int, bool]:
        """Answer the matching events at once; the handler is stopped when none is left."""
        left = self._each_left()
        hits = [index for index, env in left.items() if match(env)]
        for index in hits:
            if asked:
                self._contexts.cancel(index)
            self._end(index, outcome)
        return len(hits), bool(hits) and not left

    def abandon(self) -> int:
        """Answer for a handler that did not end."""
        left = len(self._each_left())
        self._end_all(BROKEN_OFF)
        return left

    def _each_left(self) -> dict[int, Envelope]:
        if self._left is None:
            self._left = dict(enumerate(self._envs))
        return self._left

    def _trace(self, env: Envelope) -> str:
        """What the context's steps belong to: the turn's span, if that is in the event's own trace."""
        trace, own = self._span.traceparent, env[TRACE]
        return trace if trace and own and trace_id(trace) == trace_id(own) else own

    async def run(self) -> None:
        """Run the handler once and answer for each event."""
        failure = BROKEN_OFF
        try:
            traced = any(map(_TRACE_OF, self._envs))
            if traced and self._begin is not None:
                self._span = self._begin(self._envs)
            results = _per_event(await self._handler(list(self._envs), self._contexts), len(self._envs))
            if self._left is None:
                self._answer_plain(results, traced)
            if self._left != {}:
                await self._answer_each(results)
        except Exception as error:
            failure = raised(error, self._envs[0])
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            failure = failed(error)
            raise
        finally:
            self._end_all(failure)

    def _answer_plain(self, results: Sequence[object], traced: bool) -> None:
        """Send and answer as a list what can be; nothing, if a result is none of the plain ones."""
        envs, types = self._envs, set(map(type, results))
        if not types <= _PLAIN:
            return
        waits: list[int] = []
        if Out in types:
            if self._emit_each is None:
                return
            places = [place for place, result in enumerate(results) if type(result) is Out]
            causes = envs if len(places) == len(envs) else [envs[place] for place in places]
            outs = cast("list[Out]", [results[place] for place in places])
            waits = self._emit_each(causes, outs, list(map(self._trace, causes)) if traced else None)
            waits = [places[index] for index in waits]
        self._left = {place: envs[place] for place in waits}
        if bytes in types:
            ended = [
                (env, Outcome("handled", r) if type(r) is bytes and r else HANDLED)
                for env, r in zip(envs, results, strict=True)
            ]
        else:
            ended = list(zip(envs, repeat(HANDLED), strict=False))
        if waits:
            for place in set(range(len(envs))).difference(waits):
                self._contexts.end(place)
            ended = [pair for place, pair in enumerate(ended) if place not in self._left]
        else:
            self._contexts.end_all()
        answer_all(self._answer, ended)

    async def _answer_each(self, results: Sequence[object]) -> None:
        left = self._each_left()
        for index, result in enumerate(results):
            if index not in left:
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
        env = self._each_left().pop(index, None)
        if env is not None:
            self._contexts.end(index)
            self._answer(env, outcome)

    def _end_all(self, outcome: Outcome) -> None:
        """Answer for what is left; the span failed if anything was."""
        left = self._each_left()
        end_span(self._span, outcome if left else HANDLED)
        for index in list(left):
            self._end(index, outcome)


def _per_event(results: object, count: int) -> Sequence[object]:
    if results is None:
        return [None] * count
    if isinstance(results, (list, tuple)) and not isinstance(results, Out) and len(results) == count:
        return results
    raise HandlerFailed(f"a batch handler returns None or a list of {count} results, one per event")
