"""What a TOOL_CALL asks for and what it is answered with: the two bodies, checked and bounded.

Law of this file: nothing in a body is trusted before it was decoded under limits; whatever is wrong
with it is a ToolArguments that says where. The body is a msgpack map {"name", "arguments", "call_id",
"idempotency_key"?}; the answer a msgpack map {"content": JSON text, "code", "retryable"}.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgpack

from laneway.actors.ports import ToolResult
from laneway.actors.tools.entries import CallKey, Settled
from laneway.actors.tools.lifecycle import State
from laneway.routing.envelope import BODY, ENTITY, RUN, SESSION, TENANT, Envelope, envelope_id
from laneway.routing.errors import (
    Cancelled,
    DeadlineExceeded,
    LanewayError,
    OutcomeUnknown,
    ToolArguments,
    ToolTimeout,
)

__all__ = ["MAX_BODY_BYTES", "CallRequest", "failure", "fallback_id", "pack_answer", "parse", "unpack_answer"]

MAX_BODY_BYTES: Final = 262_144
"""Largest body of a call; more belongs in a document or behind a URL."""
_MAX_ID_CHARS: Final = 128
_MAX_ITEMS: Final = 10_000
_MAX_DEPTH: Final = 32
_PLAIN: Final = frozenset({str, int, bool, type(None)})
"""Values that are good wherever they stand, so that no path has to be named for them."""
_TEXT: Final = frozenset({str})


class CallRequest(NamedTuple):
    """One parsed call; `key` is what makes a repetition the same call."""

    name: str
    arguments: dict[str, Any]
    call_id: str
    key: CallKey


def fallback_id(env: Envelope) -> str:
    """The call id of a body that names none: the entity, else the event's own id."""
    return env[ENTITY] or envelope_id(env)


def parse(env: Envelope) -> CallRequest:
    """Decode and check the body of a TOOL_CALL. Raises ToolArguments with the path in `reason`."""
    body = env[BODY]
    if len(body) > MAX_BODY_BYTES:
        raise ToolArguments(
            f"the call has {len(body)} bytes, at most {MAX_BODY_BYTES} are taken; pass large data by reference",
            reason="TOO_LARGE",
        )
    fields = _decoded(body)
    name = _text(fields, "name", required=True)
    call_id = _text(fields, "call_id") or fallback_id(env)
    named = _text(fields, "idempotency_key")
    arguments = fields.get("arguments")
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise ToolArguments("`arguments` is a map of names to JSON values", reason="arguments")
    if not (_PLAIN.issuperset(map(type, arguments.values())) and _TEXT.issuperset(map(type, arguments))):
        _check(arguments, "arguments", 0)
    if named:
        key = CallKey(env[TENANT], env[SESSION], "", named, True)
    else:
        key = CallKey(env[TENANT], env[SESSION], env[RUN], call_id, False)
    return CallRequest(name, arguments, call_id, key)


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        fields = msgpack.unpackb(body, max_array_len=_MAX_ITEMS, max_map_len=_MAX_ITEMS, max_ext_len=0)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise ToolArguments(
            f"the body of a TOOL_CALL is a msgpack map; this one cannot be read ({type(error).__name__})",
            reason="BODY",
        ) from None
    if not isinstance(fields, dict):
        raise ToolArguments("the body of a TOOL_CALL is a msgpack map with `name` and `arguments`", reason="BODY")
    return fields


def _text(fields: dict[str, Any], key: str, *, required: bool = False) -> str:
    value = fields.get(key)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or not (required <= len(value) <= _MAX_ID_CHARS):
        raise ToolArguments(f"`{key}` is a string of at most {_MAX_ID_CHARS} characters", reason=key)
    return value


def _check(value: object, path: str, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ToolArguments(f"`{path[:200]}` is nested deeper than {_MAX_DEPTH}", reason=path[:200])
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ToolArguments(f"`{path[:200]}` has a key that is not a string", reason=path[:200])
            if type(item) not in _PLAIN or depth == _MAX_DEPTH:
                _check(item, f"{path}.{key}", depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if type(item) not in _PLAIN or depth == _MAX_DEPTH:
                _check(item, f"{path}.{index}", depth + 1)
    elif isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise ToolArguments(f"`{path[:200]}` is not a finite number", reason=path[:200])
    elif value is not None and not isinstance(value, (str, int)):
        raise ToolArguments(f"`{path[:200]}` is {type(value).__name__}, not a JSON value", reason=path[:200])


def failure(error: LanewayError) -> Settled:
    """How a call ended that raised this error; the content tells the model what happened, as JSON."""
    if isinstance(error, (ToolTimeout, DeadlineExceeded)):
        state = State.TIMED_OUT
    elif isinstance(error, Cancelled):
        state = State.CANCELLED
    elif isinstance(error, OutcomeUnknown):
        state = State.OUTCOME_UNKNOWN
    else:
        state = State.FAILED
    told: dict[str, Any] = {"code": error.code, "message": error.message, "retryable": error.retryable}
    if error.reason:
        told["reason"] = error.reason
    if error.retry_after_ms is not None:
        told["retryAfterMs"] = error.retry_after_ms
    return Settled(state, json.dumps({"error": told}, ensure_ascii=False), error.code, error.retryable)


def pack_answer(settled: Settled, pack: Callable[[Any], bytes] = msgpack.packb) -> bytes:
    """The asker's value: msgpack {"content", "code", "retryable"}. `pack`: as `msgpack.packb`."""
    return pack({"content": settled.content, "code": settled.code, "retryable": settled.retryable})


def unpack_answer(call_id: str, value: bytes) -> ToolResult:
    """The other side of `pack_answer`. Raises ToolArguments if it is not such an answer."""
    fields = _decoded(value)
    return ToolResult(call_id, str(fields["content"]), str(fields["code"]), bool(fields["retryable"]))
