"""Folding of streamed completions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from laneway.engine.models.completion import Completion
from laneway.routing.errors import ModelFailed


def _chunk(delta: dict[str, Any], finish: str | None = None) -> str:
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def _call(index: int, arguments: str, **more: Any) -> str:
    function = {"arguments": arguments, **({"name": more["name"]} if "name" in more else {})}
    return _chunk({"tool_calls": [{"index": index, "id": more.get("id"), "function": function}]})


def test_text_reasoning_calls_and_usage() -> None:
    """Text comes out as it arrives; interleaved calls are put together by index."""
    completion = Completion()
    assert completion.feed(_chunk({"reasoning_content": "hm"})) == ("hm", "")
    assert completion.feed(_chunk({"content": "hi"})) == ("", "hi")
    for data in (
        _call(1, '{"b"', name="two", id="y"),
        _call(0, "{", name="one", id="x"),
        _call(1, ":2}"),
        _call(0, "}"),
    ):
        assert completion.feed(data) == ("", "")
    completion.feed(_chunk({}, "tool_calls"))
    completion.feed('{"choices": [], "model": "m", "usage": {"prompt_tokens": 3, "completion_tokens": 4}}')
    completion.check_whole()
    assert [(call.id, call.name, call.parsed()) for call in completion.calls] == [
        ("x", "one", {}),
        ("y", "two", {"b": 2}),
    ]
    assert completion.usage == {"model": "m", "inputTokens": 3, "outputTokens": 4}


def test_a_stream_that_merely_ends_is_truncated() -> None:
    """Without a finish_reason nothing says that the answer is whole."""
    completion = Completion()
    completion.feed(_chunk({"content": "half"}))
    with pytest.raises(ModelFailed) as caught:
        completion.check_whole()
    assert caught.value.reason == "TRUNCATED"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("{", "MALFORMED"),
        ("[]", "MALFORMED"),
        ('{"choices": [3]}', "MALFORMED"),
        ('{"choices": 3}', "MALFORMED"),
        ('{"choices": [{"delta": {"content": 3}}]}', "MALFORMED"),
        ('{"choices": [{"delta": {"tool_calls": [{"index": "x"}]}}]}', "MALFORMED"),
        ("[" * 100_000, "MALFORMED"),
        ('{"error": {"message": "overloaded"}}', "UPSTREAM"),
        (_call(0, "x" * 300_000), "TOO_LARGE"),
    ],
)
def test_nonsense_is_typed(data: str, reason: str) -> None:
    """Chunks that are none, and endless arguments, are ModelFailed with their reason."""
    with pytest.raises(ModelFailed) as caught:
        Completion().feed(data)
    assert caught.value.reason == reason


@pytest.mark.parametrize("text", ["[1]", "{", "3", "{'a': 1}"])
def test_arguments_that_are_no_object(text: str) -> None:
    """They parse to None, so that the model can be told."""
    completion = Completion()
    completion.feed(_call(0, text, name="t"))
    assert completion.calls[0].parsed() is None
