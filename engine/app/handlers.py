"""What an embedder's handler may take and return, and how it becomes a port's handler.

Law of this file: the embedder sees `EnvelopeView` and says what is natural: nothing, bytes for an
asker, an `Out`, an AG-UI event as a dict or model, a list of them, or an async iterator of them.
Everything is checked once, here; inside move only Outs.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import NoneType
from typing import Any, Final, TypeAlias

from laneway.actors.pools.turn import Adapted
from laneway.actors.ports import Context, Handler, Out
from laneway.routing.envelope import Envelope, EnvelopeView
from laneway.routing.errors import ConfigError

__all__ = ["UserHandler", "adapt"]

_PLAIN: Final = frozenset({NoneType, bytes, Out})

UserHandler: TypeAlias = Callable[[EnvelopeView, Context], Awaitable[Any] | AsyncIterator[Any]]


def adapt(function: UserHandler, *, batch: bool = False) -> Handler | Callable[..., Any]:
    """Turn an embedder's handler into the port's.

    Args:
        batch: it takes a list of events (and of contexts) and returns a result for each.

    Raises:
        ConfigError: it is neither a coroutine function nor an async generator function.
    """
    if inspect.isasyncgenfunction(function):
        return _stream(function)
    if not inspect.iscoroutinefunction(function) and not inspect.iscoroutinefunction(type(function).__call__):
        name = getattr(function, "__qualname__", repr(function))
        raise ConfigError(f"handler {name} must be `async def`; blocking work belongs into a tool (worker process)")
    return _batch(function) if batch else Adapted(function, EnvelopeView, _result)


def _stream(function: Callable[..., Any]) -> Handler:
    async def handle(env: Envelope, context: Context) -> AsyncIterator[Out]:
        events = function(EnvelopeView(env), context)
        try:
            async for event in events:
                yield _out(event)
        finally:
            await events.aclose()

    return handle


def _batch(function: Callable[..., Any]) -> Callable[..., Any]:
    async def handle(envs: Sequence[Envelope], contexts: Sequence[Context]) -> object:
        results = await function(list(map(EnvelopeView, envs)), contexts)
        if not isinstance(results, list | tuple) or isinstance(results, Out) or set(map(type, results)) <= _PLAIN:
            return results  # as it is: plain, or for the cell to refuse
        return [result if isinstance(result, BaseException) else _result(result) for result in results]

    return handle


def _result(result: object) -> object:
    if result is None or isinstance(result, bytes):
        return result
    if isinstance(result, list | tuple) and not isinstance(result, Out):
        return [_out(event) for event in result]
    if hasattr(result, "__aiter__"):
        return _outs(result)
    return _out(result)


async def _outs(events: Any) -> AsyncIterator[Out]:
    async for event in events:
        yield _out(event)


def _out(event: object) -> Out:
    if isinstance(event, Out):
        return event
    from laneway.engine.events import to_out  # the models of AG-UI: a third of the start-up time

    return to_out(event)
