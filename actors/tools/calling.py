"""A tool call as its caller makes it: told to the session, dispatched, answered.

Law of this file: a call is told to the session as the AG-UI sequence START, ARGS, END, RESULT, and
travels through the dispatcher like any other event: scheduled, traced, cancellable. Whatever becomes
of it is a result with a code, never an exception.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgpack

from laneway.actors.ports import Out, Outcome, ToolResult
from laneway.actors.tools.request import unpack_answer
from laneway.routing.errors import ToolArguments

__all__ = ["Speaker", "call", "unstarted"]


_COMPACT: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_FLAT: Final = frozenset({str, int, bool, float, type(None)})
_TEXT: Final = frozenset({str})


class Speaker(Protocol):
    """What a call is told through: the context of the event that makes it."""

    async def emit(self, out: Out) -> None:
        """See `ports.Context.emit`."""
        ...

    async def emit_all(self, outs: Sequence[Out]) -> None:
        """See `ports.Context.emit_all`."""
        ...


async def call(
    speaker: Speaker,
    ask: Callable[[Out], Awaitable[Outcome]],
    name: str,
    arguments: Mapping[str, Any],
    call_id: str,
    parent_message_id: str = "",
) -> ToolResult:
    """Make a call and return its result, also if it failed; O(arguments + result) + the tool.

    Args:
        speaker: tells the session. ask: dispatches the TOOL_CALL; never raises for a failure.
        name, arguments, call_id, parent_message_id: see `ports.Context.call_tool`; the id is not empty.
    """
    try:
        text = _COMPACT(arguments)
        if not (_FLAT.issuperset(map(type, arguments.values())) and _TEXT.issuperset(map(type, arguments))):
            arguments = json.loads(text)  # as JSON makes them: keys are texts, tuples lists
        body = msgpack.packb({"name": name, "arguments": dict(arguments), "call_id": call_id})
        args = text.encode()
    except (AttributeError, TypeError, ValueError, OverflowError, RecursionError) as error:
        message = f"the arguments of {name!r} are not JSON: {error}"
        return unstarted(call_id, Outcome("failed", code=ToolArguments.code, message=message))
    start = {"toolCallId": call_id, "toolCallName": name}
    if parent_message_id:
        start["parentMessageId"] = parent_message_id
    end = Out("TOOL_CALL_END", msgpack.packb({"toolCallId": call_id}), call_id)
    await speaker.emit_all(
        (Out("TOOL_CALL_START", msgpack.packb(start), call_id), Out("TOOL_CALL_ARGS", args, call_id), end)
    )
    result = _result(call_id, await ask(Out("TOOL_CALL", body, call_id)))
    told = {"messageId": f"{call_id}-result", "toolCallId": call_id, "content": result.content, "role": "tool"}
    await speaker.emit(Out("TOOL_CALL_RESULT", msgpack.packb(told), call_id))
    return result


def unstarted(call_id: str, outcome: Outcome) -> ToolResult:
    """Return the result of a call that no tool has seen, or whose event did not end as handled."""
    told = {"code": outcome.code, "message": outcome.message, "retryable": outcome.retryable}
    content = json.dumps({"error": told}, ensure_ascii=False)
    return ToolResult(call_id, content, outcome.code, outcome.retryable)


def _result(call_id: str, outcome: Outcome) -> ToolResult:
    if outcome.status != "handled":
        return unstarted(call_id, outcome)
    try:
        return unpack_answer(call_id, outcome.value)
    except (ToolArguments, KeyError):
        # a user's own tools pool may simply answer with text
        return ToolResult(call_id, outcome.value.decode("utf-8", "replace"))
