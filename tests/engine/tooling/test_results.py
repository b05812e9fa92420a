"""Arguments against foreign schemas, and results as JSON text."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from laneway.engine.tooling.results import ArgumentChecker, json_text
from laneway.routing.errors import ToolArguments


def test_paths_are_told() -> None:
    """The reason is the path of the first error."""
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}, "required": ["a"]}
    checker = ArgumentChecker(schema)
    checker.check({"a": [1]})
    for arguments, reason in (({"a": [1, "x"]}, "a.1"), ({}, "arguments")):
        with pytest.raises(ToolArguments) as caught:
            checker.check(arguments)
        assert caught.value.reason == reason


def test_a_foreign_schema_is_never_followed_nor_trusted() -> None:
    """A remote $ref is not fetched, and a broken schema checks nothing: the server still does."""
    ArgumentChecker({"properties": {"a": {"$ref": "http://127.0.0.1:1/schema.json"}}}).check({"a": 1})
    ArgumentChecker({"type": "nonsense"}).check({"a": 1})


def _text(text: str) -> Any:
    return SimpleNamespace(type="text", text=text)


def _result(*content: Any, structured: Any = None) -> Any:
    return SimpleNamespace(content=list(content), structured_content=structured)


def test_results_are_always_json() -> None:
    """Structured content first, JSON text as it is, other text as a string, mixed blocks as a list."""
    assert json_text(_result(_text("x"), structured={"a": "ä"})) == '{"a": "ä"}'
    assert json_text(_result(_text('{"a":1}'))) == '{"a":1}'
    assert json.loads(json_text(_result(_text("plain"), _text("words")))) == "plain\nwords"
    assert json.loads(json_text(_result())) == ""
    image = SimpleNamespace(type="image", model_dump=lambda **_: {"type": "image", "data": "AA=="})
    assert json.loads(json_text(_result(image))) == [{"type": "image", "data": "AA=="}]
