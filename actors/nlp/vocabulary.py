"""AG-UI events as `Out` values: the one place that knows how each body is packed.

Law of this file: text kinds carry their plain UTF-8 delta, everything else a msgpack map of the
event's camelCase fields without `type`; absent optionals are left out, because `null` is fatal to
the stock clients (measured with @ag-ui/client 0.0.59 and 1.0.0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgpack

from laneway.actors.ports import Out
from laneway.routing.envelope import SEAL

__all__ = [
    "PROTOCOL_VERSION",
    "TEXT_KINDS",
    "delta_of",
    "fields_of",
    "mark",
    "reasoning",
    "reasoning_end",
    "reasoning_start",
    "run_error",
    "run_finished",
    "run_started",
    "text",
    "text_end",
    "text_start",
    "tool_arguments",
    "tool_end",
    "tool_result",
    "tool_start",
]

PROTOCOL_VERSION: Final = "1.0"
TEXT_KINDS: Final = frozenset({"TEXT_MESSAGE_CONTENT", "TOOL_CALL_ARGS", "REASONING_MESSAGE_CONTENT"})
"""Kinds whose body is a plain delta, unless sealed."""


def mark(kind: str, fields: Mapping[str, Any], entity: str = "") -> Out:
    """Build any event that is not a plain delta; fields that are None are left out."""
    return Out(kind, msgpack.packb({key: value for key, value in fields.items() if value is not None}), entity)


def fields_of(out: Out) -> dict[str, Any]:
    """Return the event's fields; a plain delta gives ``{"delta": text}``. O(body).

    Raises ValueError if the body is not what its kind promises.
    """
    if out.kind in TEXT_KINDS:
        if not out.body or out.body[0] != SEAL:
            return {"delta": out.body.decode("utf-8")}
        fields = msgpack.unpackb(out.body[1:])
    else:
        fields = msgpack.unpackb(out.body) if out.body else {}
    if not isinstance(fields, dict):
        raise ValueError(f"the body of {out.kind} is a {type(fields).__name__}, not a map")
    return fields


def delta_of(out: Out) -> str:
    """Return the text of a delta, sealed or plain. Raises ValueError for other bodies."""
    return str(fields_of(out).get("delta", ""))


def text_start(message_id: str, role: str = "assistant") -> Out:
    """TEXT_MESSAGE_START."""
    return mark("TEXT_MESSAGE_START", {"messageId": message_id, "role": role}, message_id)


def text(message_id: str, delta: str) -> Out:
    """TEXT_MESSAGE_CONTENT."""
    return Out("TEXT_MESSAGE_CONTENT", delta.encode(), message_id)


def text_end(message_id: str) -> Out:
    """TEXT_MESSAGE_END."""
    return mark("TEXT_MESSAGE_END", {"messageId": message_id}, message_id)


def reasoning_start(message_id: str) -> list[Out]:
    """REASONING_START and its one REASONING_MESSAGE_START, which share the id."""
    return [
        mark("REASONING_START", {"messageId": message_id}, message_id),
        mark("REASONING_MESSAGE_START", {"messageId": message_id, "role": "reasoning"}, message_id),
    ]


def reasoning(message_id: str, delta: str) -> Out:
    """REASONING_MESSAGE_CONTENT."""
    return Out("REASONING_MESSAGE_CONTENT", delta.encode(), message_id)


def reasoning_end(message_id: str) -> list[Out]:
    """REASONING_MESSAGE_END and REASONING_END."""
    fields = {"messageId": message_id}
    return [mark("REASONING_MESSAGE_END", fields, message_id), mark("REASONING_END", fields, message_id)]


def tool_start(call_id: str, name: str, parent: str | None = None) -> Out:
    """TOOL_CALL_START."""
    return mark("TOOL_CALL_START", {"toolCallId": call_id, "toolCallName": name, "parentMessageId": parent}, call_id)


def tool_arguments(call_id: str, delta: str) -> Out:
    """TOOL_CALL_ARGS."""
    return Out("TOOL_CALL_ARGS", delta.encode(), call_id)


def tool_end(call_id: str) -> Out:
    """TOOL_CALL_END."""
    return mark("TOOL_CALL_END", {"toolCallId": call_id}, call_id)


def tool_result(message_id: str, call_id: str, content: str) -> Out:
    """TOOL_CALL_RESULT."""
    fields = {"messageId": message_id, "toolCallId": call_id, "content": content, "role": "tool"}
    return mark("TOOL_CALL_RESULT", fields, call_id)


def run_started(
    thread: str, run: str, parent: str | None = None, said: Sequence[Mapping[str, Any]] = (), degraded: str = ""
) -> Out:
    """RUN_STARTED.

    Args:
        said: the messages that are new in this run; they travel as its input, so that every client
            of the session (and whoever rebuilds it from its log) sees the question with the answer.
        degraded: name of the model that answers instead of the usual one; told in `metadata`.
    """
    fields: dict[str, Any] = {
        "threadId": thread,
        "runId": run,
        "protocolVersion": PROTOCOL_VERSION,
        "parentRunId": parent,
        "input": {"threadId": thread, "runId": run, "messages": list(said)} if said else None,
        "metadata": {"model": degraded, "degraded": True} if degraded else None,
    }
    return mark("RUN_STARTED", fields)


def run_finished(
    thread: str,
    run: str,
    *,
    outcome: Mapping[str, Any] | None = None,
    result: Any = None,
    usage: Sequence[Mapping[str, Any]] | None = None,
) -> Out:
    """RUN_FINISHED; no outcome means success."""
    fields = {"threadId": thread, "runId": run, "outcome": outcome, "result": result, "usage": usage}
    return mark("RUN_FINISHED", fields)


def run_error(message: str, code: str, *, retryable: bool = False, reason: str = "") -> Out:
    """RUN_ERROR; what AG-UI has no field for goes into `metadata`, which every client lets pass."""
    metadata: dict[str, Any] = {"retryable": retryable}
    if reason:
        metadata["reason"] = reason
    return mark("RUN_ERROR", {"message": message, "code": code, "metadata": metadata})
