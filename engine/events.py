"""The 31 AG-UI event types: one table of their fields, checked where they enter, unpacked where they leave.

Law of this file: an event is validated once, at the boundary (`to_out`, `run_input`), and nothing
inside validates again. An unknown type or a field that its type does not have is MALFORMED, named
with its path. What is absent is never null.

Bodies: a text delta that carries nothing but its text is plain UTF-8, so that deltas can be merged
and split; one that carries more is sealed (0xFF + msgpack map). Every other body is the msgpack map
of the event's camelCase fields without `type`. The entity is set too: the tool call or message. An
id that cannot be one of ours (spaces, over 128 characters) stays in the body and is hashed for the entity.

Why our own table and not the AG-UI package: packages that depend on it pin incompatible versions;
their objects enter by `model_dump`, and the package is the oracle in the tests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, ValidationError, create_model

from laneway.actors.ports import Out
from laneway.engine.codec import decode_json, pack_body, unpack_body, valid_id
from laneway.engine.limits import DEFAULT_LIMITS, Limits
from laneway.engine.messages import (
    AgUiObject,
    Context,
    JsonPatch,
    Message,
    Metadata,
    Parts,
    ResumeEntry,
    RunOutcome,
    SubagentOutcome,
    TextRole,
    TokenUsage,
    Tool,
)
from laneway.engine.values import check_values
from laneway.routing.envelope import BODY, ENTITY, KIND, SEAL, Envelope
from laneway.routing.errors import LocalProtocolError, PeerProtocolError

__all__ = ["EVENT_TYPES", "RunAgentInput", "event_model", "from_envelope", "run_input", "to_out"]

_SEAL: Final = bytes([SEAL])
_ENTITY_CHARS: Final = 128


class RunAgentInput(AgUiObject):
    """What a client sends to start a run."""

    model_config = ConfigDict(extra="forbid")

    thread_id: str
    run_id: str
    protocol_version: str | None = None
    parent_run_id: str | None = None
    state: Any = None
    messages: list[Message]
    tools: list[Tool] | None = None
    context: list[Context] | None = None
    forwarded_props: Any = None
    resume: list[ResumeEntry] | None = None


_Timestamp = Annotated[int, Field(ge=-(2**53) + 1, le=2**53 - 1)]
_EVERY: Final[dict[str, Any]] = {"timestamp?": _Timestamp, "raw_event?": Any, "metadata?": Metadata}
_SUB: Final[dict[str, Any]] = {"subagent_run_id?": str}
_MINE: Final[dict[str, Any]] = {"subagent_run_id": str}

_MESSAGE: Final[dict[str, Any]] = {"message_id": str}
_CALL: Final[dict[str, Any]] = {"tool_call_id": str}

_TABLE: Final[dict[str, dict[str, Any]]] = {
    # A name ending in "?" is optional.
    "TEXT_MESSAGE_START": _SUB | _MESSAGE | {"role?": TextRole, "name?": str},
    "TEXT_MESSAGE_CONTENT": _SUB | _MESSAGE | {"delta": str},
    "TEXT_MESSAGE_END": _SUB | _MESSAGE,
    "TEXT_MESSAGE_CHUNK": _SUB | {"message_id?": str, "role?": TextRole, "delta?": str, "name?": str},
    "TOOL_CALL_START": _SUB | _CALL | {"tool_call_name": str, "parent_message_id?": str},
    "TOOL_CALL_ARGS": _SUB | _CALL | {"delta": str},
    "TOOL_CALL_END": _SUB | _CALL,
    "TOOL_CALL_CHUNK": _SUB | {"tool_call_id?": str, "tool_call_name?": str, "parent_message_id?": str, "delta?": str},
    "TOOL_CALL_RESULT": _SUB | _MESSAGE | _CALL | {"content": Parts, "role?": Literal["tool"]},
    "STATE_SNAPSHOT": _SUB | {"snapshot": Any},
    "STATE_DELTA": _SUB | {"delta": JsonPatch},
    "MESSAGES_SNAPSHOT": {"messages": list[Message]},
    "ACTIVITY_SNAPSHOT": _SUB | _MESSAGE | {"activity_type": str, "content": dict[str, Any], "replace?": bool},
    "ACTIVITY_DELTA": _SUB | _MESSAGE | {"activity_type": str, "patch": JsonPatch},
    "RAW": _SUB | {"event": Any, "source?": str},
    "CUSTOM": _SUB | {"name": str, "value": Any},
    "RUN_STARTED": {
        "thread_id": str,
        "run_id": str,
        "protocol_version?": str,
        "parent_run_id?": str,
        "input?": RunAgentInput,
    },
    "RUN_FINISHED": {
        "thread_id": str,
        "run_id": str,
        "result?": Any,
        "outcome?": RunOutcome,
        "usage?": list[TokenUsage],
    },
    "RUN_ERROR": {"message": str, "code?": str, "usage?": list[TokenUsage]},
    "STEP_STARTED": _SUB | {"step_name": str},
    "STEP_FINISHED": _SUB | {"step_name": str},
    "REASONING_START": _SUB | _MESSAGE,
    "REASONING_MESSAGE_START": _SUB | _MESSAGE | {"role?": Literal["reasoning"]},
    "REASONING_MESSAGE_CONTENT": _SUB | _MESSAGE | {"delta": str},
    "REASONING_MESSAGE_END": _SUB | _MESSAGE,
    "REASONING_MESSAGE_CHUNK": _SUB | {"message_id?": str, "delta?": str},
    "REASONING_END": _SUB | _MESSAGE,
    "REASONING_ENCRYPTED_VALUE": _SUB
    | {"subtype": Literal["tool-call", "message"], "entity_id": str, "encrypted_value": str},
    "SUBAGENT_STARTED": _MINE
    | {
        "name": str,
        "description?": str,
        "parent_subagent_run_id?": str,
        "parent_tool_call_id?": str,
        "parent_message_id?": str,
    },
    "SUBAGENT_FINISHED": _MINE | {"result?": Any, "outcome?": SubagentOutcome},
    "SUBAGENT_ERROR": _MINE | {"message": str, "code?": str},
}

EVENT_TYPES: Final = tuple(_TABLE)
"""All AG-UI event types, in the protocol's order."""

_DELTAS: Final = {
    "TEXT_MESSAGE_CONTENT": "messageId",
    "TOOL_CALL_ARGS": "toolCallId",
    "REASONING_MESSAGE_CONTENT": "messageId",
}
"""The kinds whose bodies are text, and the field that is their entity."""


@cache
def event_model(kind: str) -> type[AgUiObject]:
    """Return the boundary model of one type, built at its first use.

    Raises PeerProtocolError(UNKNOWN_KIND) if AG-UI has no such type.
    """
    if kind not in _TABLE:
        raise PeerProtocolError(f"{kind[:80]!r} is not an AG-UI event type", reason="UNKNOWN_KIND")
    fields: dict[str, Any] = {"type": (Literal[kind], kind)}
    for name, annotation in (_EVERY | _TABLE[kind]).items():
        bare = name.removesuffix("?")
        fields[bare] = (annotation, ...) if bare == name else (annotation | None, None)
    title = "".join(word.capitalize() for word in kind.split("_")) + "Event"
    model: type[AgUiObject] = create_model(title, __base__=_Event, __doc__=f"AG-UI {kind}.", **fields)
    return model


class _Event(AgUiObject):
    model_config = ConfigDict(extra="forbid")


@cache
def _wire_names(kind: str) -> frozenset[str]:
    model = event_model(kind)
    return frozenset(field.alias or name for name, field in model.model_fields.items()) - {"type"}


def to_out(event: object) -> Out:
    """Validate one AG-UI event and return it as what handlers emit.

    Args:
        event: a mapping with `type` (camelCase or snake_case fields), or any object with
            `model_dump` (pydantic-ai's, LangGraph's or the ag-ui package's events).

    Raises PeerProtocolError: UNKNOWN_KIND, or BAD_TYPE naming the field; the value rules of
    `values.py` (depth, 64-bit, finite) apply too.
    """
    fields = _fields(event)
    kind = fields.pop("type")
    check_values(fields)
    if (name := _DELTAS.get(kind)) is not None:
        entity = _entity(fields[name])
        if len(fields) == 2 and entity == fields[name]:
            return Out(kind, _utf8(fields["delta"]), entity)
        return Out(kind, _SEAL + _packed(fields), entity)
    return Out(kind, _packed(fields), _entity(fields.get("toolCallId") or fields.get("messageId") or ""))


def from_envelope(env: Envelope) -> dict[str, Any]:
    """Return the AG-UI event (with `type`, camelCase) that an outbound envelope carries.

    Keys that AG-UI does not know (RUN_ERROR's `after`) are left out.
    Raises PeerProtocolError: UNKNOWN_KIND for kinds that AG-UI does not have; a broken body.
    """
    kind, body = env[KIND], env[BODY]
    known = _wire_names(kind)
    delta_of = _DELTAS.get(kind)
    if delta_of is None:
        fields = unpack_body(body)
    elif body.startswith(_SEAL):
        fields = unpack_body(body[1:])
    else:
        return {"type": kind, delta_of: env[ENTITY], "delta": _text(body)}
    return {"type": kind, **{key: value for key, value in fields.items() if key in known}}


def run_input(data: bytes | Mapping[str, Any], limits: Limits = DEFAULT_LIMITS) -> RunAgentInput:
    """Return a RunAgentInput from JSON or a decoded map. Raises PeerProtocolError."""
    document = decode_json(data, limits) if isinstance(data, bytes) else data
    check_values(document, limits)
    try:
        return RunAgentInput.model_validate(document)
    except ValidationError as error:
        raise _malformed("RunAgentInput", error) from error


def _fields(event: object) -> dict[str, Any]:
    """Return a validated event's camelCase fields with `type`."""
    dump = getattr(event, "model_dump", None)
    given = dump(mode="json", by_alias=True) if dump is not None else event
    if not isinstance(given, Mapping):
        raise PeerProtocolError(
            f"{type(event).__name__} is no AG-UI event: it needs `type` as a mapping, or model_dump", reason="BAD_TYPE"
        )
    kind = given.get("type")
    kind = getattr(kind, "value", kind)
    if not isinstance(kind, str):
        raise PeerProtocolError("an AG-UI event has a `type`", reason="BAD_TYPE")
    model = event_model(kind)
    try:
        checked = model.model_validate({**given, "type": kind})
    except ValidationError as error:
        raise _malformed(kind, error) from error
    fields: dict[str, Any] = checked.model_dump(by_alias=True)
    return fields


def _malformed(what: str, error: ValidationError) -> PeerProtocolError:
    """Name the first field that is wrong, and how."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    path = ".".join(str(step) for step in first["loc"]) or "the whole"
    rule = "is not a field of this type; put it into metadata" if first["type"] == "extra_forbidden" else first["msg"]
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return PeerProtocolError(f"{what}: {path[:200]}: {rule}{more}", reason="BAD_TYPE")


def _entity(text: str) -> str:
    """Return the id itself, or a stable hash of one that cannot be an id here."""
    if not text or valid_id(text, _ENTITY_CHARS):
        return text
    return "hash:" + hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _packed(fields: Mapping[str, Any]) -> bytes:
    try:
        return pack_body(fields)
    except LocalProtocolError as error:  # its values were checked: only half a surrogate pair is left
        raise PeerProtocolError(str(error), reason="BAD_UTF8") from error


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PeerProtocolError("a text holds half a surrogate pair", reason="BAD_UTF8") from error


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PeerProtocolError(f"a text delta is not UTF-8 at byte {error.start}", reason="BAD_UTF8") from error
