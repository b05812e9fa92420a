"""The AG-UI objects that stand inside events: messages, parts, tools, patches, outcomes.

Law of this file: camelCase on the wire, snake_case or camelCase from Python; what is absent is
left out, never null, except where null is a value (CUSTOM.value, a patch's value, inside free
JSON). Unknown fields of these inner objects are kept, as AG-UI asks of intermediaries; unknown
fields of an event or of a RunAgentInput are refused (`events.py`).

Source: AG-UI protocol 1.0.0 schema; `tests/engine/test_events.py` compares with its own package.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer
from pydantic.alias_generators import to_camel

__all__ = [
    "AgUiObject",
    "Context",
    "Interrupt",
    "JsonPatch",
    "Message",
    "Parts",
    "ResumeEntry",
    "RunOutcome",
    "SubagentOutcome",
    "TextRole",
    "TokenUsage",
    "Tool",
]

Metadata: TypeAlias = dict[str, Any]
TextRole: TypeAlias = Literal["developer", "system", "assistant", "user"]
_Pointer: TypeAlias = Annotated[str, Field(pattern=r"^(/([^/~]|~[01])*)*$")]
_Count: TypeAlias = Annotated[int, Field(ge=0, le=2**53 - 1)]


class AgUiObject(BaseModel):
    """Base of everything AG-UI: camelCase aliases, absent instead of null."""

    model_config = ConfigDict(extra="allow", alias_generator=to_camel, populate_by_name=True)

    @model_serializer(mode="wrap")
    def _leave_out_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        omittable = _omittable(type(self))
        return {key: value for key, value in handler(self).items() if value is not None or key not in omittable}


@cache
def _omittable(model: type[AgUiObject]) -> frozenset[str]:
    """Keys of the optional fields, in both spellings."""
    optional = [(name, field.alias or name) for name, field in model.model_fields.items() if not field.is_required()]
    return frozenset(key for pair in optional for key in pair)


class _Attributable(AgUiObject):
    subagent_run_id: str | None = None


# ---- parts of a message ---------------------------------------------------------------------


class _DataSource(AgUiObject):
    type: Literal["data"] = "data"
    value: str
    mime_type: str


class _UrlSource(AgUiObject):
    type: Literal["url"] = "url"
    value: str
    mime_type: str | None = None


class _FileSource(AgUiObject):
    type: Literal["file"] = "file"
    value: str
    provider: str | None = None
    mime_type: str | None = None


class _TextPart(AgUiObject):
    type: Literal["text"] = "text"
    id: str | None = None
    text: str
    metadata: Any = None


class _MediaPart(AgUiObject):
    type: Literal["image", "audio", "video", "document"]
    id: str | None = None
    source: Annotated[_DataSource | _UrlSource | _FileSource, Field(discriminator="type")]
    metadata: Any = None


_Part: TypeAlias = Annotated[_TextPart | _MediaPart, Field(discriminator="type")]
Parts: TypeAlias = str | list[_Part]
"""Content of a user or tool message: plain text or an ordered list of parts."""


# ---- messages -------------------------------------------------------------------------------


class _Function(AgUiObject):
    name: str
    arguments: str


class _ToolCall(AgUiObject):
    id: str
    type: Literal["function"] = "function"
    function: _Function
    encrypted_value: str | None = None
    metadata: Metadata | None = None


class _BaseMessage(_Attributable):
    id: str
    encrypted_value: str | None = None
    metadata: Metadata | None = None


class _InstructionMessage(_BaseMessage):
    role: Literal["developer", "system"]
    name: str | None = None
    content: str


class _AssistantMessage(_BaseMessage):
    role: Literal["assistant"] = "assistant"
    name: str | None = None
    content: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _UserMessage(_BaseMessage):
    role: Literal["user"] = "user"
    name: str | None = None
    content: Parts


class _ToolMessage(_BaseMessage):
    role: Literal["tool"] = "tool"
    content: Parts
    tool_call_id: str
    error: str | None = None


class _ActivityMessage(_BaseMessage):
    role: Literal["activity"] = "activity"
    activity_type: str
    content: dict[str, Any]


class _ReasoningMessage(_BaseMessage):
    role: Literal["reasoning"] = "reasoning"
    content: str


Message: TypeAlias = Annotated[
    _InstructionMessage | _AssistantMessage | _UserMessage | _ToolMessage | _ActivityMessage | _ReasoningMessage,
    Field(discriminator="role"),
]


# ---- patches --------------------------------------------------------------------------------


class _ValueOperation(AgUiObject):
    op: Literal["add", "replace", "test"]
    path: _Pointer
    value: Any


class _RemoveOperation(AgUiObject):
    op: Literal["remove"] = "remove"
    path: _Pointer


class _FromOperation(AgUiObject):
    op: Literal["move", "copy"]
    from_: _Pointer = Field(alias="from")
    path: _Pointer


JsonPatch: TypeAlias = list[Annotated[_ValueOperation | _RemoveOperation | _FromOperation, Field(discriminator="op")]]
"""RFC 6902; whether it applies is the applier's question."""


# ---- runs -----------------------------------------------------------------------------------


class Tool(AgUiObject):
    """A tool that the client offers for one run."""

    name: str
    description: str
    parameters: Any = None
    metadata: Metadata | None = None


class Context(AgUiObject):
    """A fact that the client gives along."""

    description: str
    value: str


class ResumeEntry(AgUiObject):
    """The answer to one interrupt of an earlier run."""

    interrupt_id: str
    status: Literal["resolved", "cancelled"]
    payload: Any = None
    metadata: Metadata | None = None


class Interrupt(_Attributable):
    """A question that ended a run."""

    id: str
    reason: str
    message: str | None = None
    tool_call_id: str | None = None
    response_schema: dict[str, Any] | None = None
    expires_at: str | None = None
    metadata: Metadata | None = None


class TokenUsage(AgUiObject):
    """What one model used."""

    provider: str | None = None
    model: str | None = None
    input_tokens: _Count | None = None
    output_tokens: _Count | None = None
    total_tokens: _Count | None = None
    reasoning_tokens: _Count | None = None
    cached_input_tokens: _Count | None = None
    cache_write_input_tokens: _Count | None = None


class _Success(AgUiObject):
    type: Literal["success"] = "success"
    pending_tool_call_ids: list[str] | None = None


class _Interrupted(AgUiObject):
    type: Literal["interrupt"] = "interrupt"
    interrupts: list[Interrupt] = Field(min_length=1)


class _Cancelled(AgUiObject):
    type: Literal["cancelled"] = "cancelled"


class _Suspended(AgUiObject):
    type: Literal["suspended"] = "suspended"
    interrupt_ids: list[str] | None = None


RunOutcome: TypeAlias = Annotated[_Success | _Interrupted | _Cancelled, Field(discriminator="type")]
SubagentOutcome: TypeAlias = Annotated[_Success | _Suspended, Field(discriminator="type")]
