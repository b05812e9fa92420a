"""Tool choice by schema."""

from __future__ import annotations

import pytest

from laneway.actors.ports import ToolSpec
from laneway.engine.models.conversation import ToolNames
from laneway.engine.models.grammar import choice_format, choice_prompt, chosen
from laneway.routing.errors import ModelFailed

SCHEMA = {
    "type": "object",
    "title": "Arguments",
    "properties": {"title": {"type": "string", "title": "T"}, "unit": {"enum": ["C", "F"], "type": "string"}},
    "required": ["title"],
}
NAMES = ToolNames([ToolSpec("weather", "the weather", SCHEMA)])


def test_one_required_tool_is_its_schema() -> None:
    """Strings get a bound, annotations go, a property named like an annotation stays."""
    schema = choice_format(NAMES, required=True)["json_schema"]["schema"]
    assert schema["properties"]["tool"] == {"const": "weather"}
    assert schema["properties"]["arguments"] == {
        "type": "object",
        "properties": {"title": {"type": "string", "maxLength": 64}, "unit": {"enum": ["C", "F"], "type": "string"}},
        "required": ["title"],
        "additionalProperties": False,
    }


def test_a_free_choice_includes_none() -> None:
    """Unless a tool is required, the model may choose no tool."""
    options = choice_format(NAMES, required=False)["json_schema"]["schema"]["anyOf"]
    assert [option["properties"]["tool"]["const"] for option in options] == ["weather", "none"]
    assert chosen('{"tool": "none"}') is None
    assert "weather: the weather" in choice_prompt(NAMES)


def test_a_choice_is_read() -> None:
    """The text the grammar admits gives name and arguments."""
    assert chosen('{"tool": "weather", "arguments": {"title": "Rome"}}') == ("weather", {"title": "Rome"})


@pytest.mark.parametrize("text", ["", "{", "[]", '{"tool": "weather"}', '{"tool": "w", "arguments": 3}', "Sure!"])
def test_what_is_no_choice_is_typed(text: str) -> None:
    """An endpoint that ignores the schema, or stops inside it, is GRAMMAR."""
    with pytest.raises(ModelFailed) as caught:
        chosen(text)
    assert caught.value.reason == "GRAMMAR"
