"""The inner AG-UI objects: spelling, absence, and what is kept."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from laneway.engine.messages import JsonPatch, Message, ResumeEntry, Tool

MESSAGE: TypeAdapter[object] = TypeAdapter(Message)
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{bad"}}
IMAGE = {"type": "image", "source": {"type": "url", "value": "u"}}
PATCH: TypeAdapter[object] = TypeAdapter(JsonPatch)


def test_both_spellings_are_taken_and_camel_case_is_given() -> None:
    """Python callers may write snake_case; the wire has camelCase."""
    for given in ({"interruptId": "i", "status": "resolved"}, {"interrupt_id": "i", "status": "resolved"}):
        assert ResumeEntry.model_validate(given).model_dump(by_alias=True) == {"interruptId": "i", "status": "resolved"}


def test_unknown_inner_fields_are_kept() -> None:
    """An intermediary does not lose what it does not know, nor a null in it."""
    given = {"name": "t", "description": "d", "vendor": {"x": None}, "note": None}
    assert Tool.model_validate(given).model_dump(by_alias=True) == given


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "id": "1", "toolCalls": [CALL]},
        {"role": "user", "id": "1", "content": [{"type": "text", "text": "a"}, IMAGE]},
        {"role": "tool", "id": "1", "toolCallId": "c", "content": "x", "error": "e"},
        {"role": "activity", "id": "1", "activityType": "a", "content": {}},
        {"role": "developer", "id": "1", "content": "c", "name": "n"},
        {"role": "reasoning", "id": "1", "content": "c", "encryptedValue": "v"},
    ],
    ids=lambda message: message["role"],
)
def test_messages_of_every_role(message: dict[str, object]) -> None:
    """Each role's message dumps as it came."""
    assert MESSAGE.dump_python(MESSAGE.validate_python(message), by_alias=True) == message


def test_patches_keep_from_and_null() -> None:
    """`from` keeps its name, a null value stays, a bad pointer is refused."""
    patch = [{"op": "move", "from": "/a", "path": "/b~1c"}, {"op": "test", "path": "", "value": None}]
    assert PATCH.dump_python(PATCH.validate_python(patch), by_alias=True) == patch
    with pytest.raises(ValidationError):
        PATCH.validate_python([{"op": "remove", "path": "/a~2"}])
