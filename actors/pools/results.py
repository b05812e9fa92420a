"""What a handler gave, as the outcome of its event.

Law of this file: a handler gives None, bytes (the asker's value), an Out, a list of Out, or an async
iterator of Out, which is closed before the answer. What it raises becomes an outcome: an error of the
tree keeps its code, anything else is HANDLER_FAILED.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final, cast

from laneway.actors.endings import failed
from laneway.actors.ports import Context, Out, Outcome
from laneway.actors.spans import Span
from laneway.routing.envelope import KIND, RUN, SESSION, TRACE, Envelope
from laneway.routing.errors import HandlerFailed, LanewayError

__all__ = ["BROKEN_OFF", "HANDLED", "end_span", "outcome_of", "raised"]

_log: Final = logging.getLogger(__name__)
HANDLED: Final = Outcome("handled")
BROKEN_OFF: Final = Outcome("cancelled", code="CANCELLED", message="the handler's task was cancelled from outside")


def raised(error: BaseException, env: Envelope) -> Outcome:
    """Return the outcome; a bug is logged as well, since an outcome has no traceback."""
    if isinstance(error, HandlerFailed) or not isinstance(error, LanewayError):
        _log.error(
            *("a handler failed on %s of session %s, run %s", env[KIND], env[SESSION], env[RUN] or "none"),
            exc_info=error,
            extra={"trace": env[TRACE]},
        )
    return failed(error)


def end_span(span: Span, outcome: Outcome) -> None:
    """End the span of a turn as its event ended."""
    if outcome.status == "handled":
        span.end()
    else:
        span.end(outcome.code, outcome.message)


async def outcome_of(result: Any, context: Context) -> Outcome:
    """Await what a handler gave, send what it wants sent, and return the outcome. Raises its errors."""
    if hasattr(result, "__await__"):
        result = await result
    if result is None:
        return HANDLED
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
    return HANDLED


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
