"""Tool calls from models that cannot make any: the choice as a JSON schema that binds the sampler; pure.

Law of this file: the schema admits exactly one tool call with arguments of that tool's own schema,
or "no tool"; so whatever a small model writes is a valid call (measured: SmolLM2-135M ignores
`tool_choice=required`, and cannot leave a grammar). Strings without a bound get one, because a
small model that may ramble inside a string does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from laneway.engine.models.conversation import ToolNames
from laneway.routing.errors import ModelFailed

__all__ = ["NO_TOOL", "choice_format", "choice_prompt", "chosen"]

NO_TOOL: Final = "none"
"""Stands for an answer without a tool; a tool of this name cannot be called in grammar mode."""

_STRING_CHARS: Final = 64


def choice_format(names: ToolNames, *, required: bool) -> dict[str, Any]:
    """Return the request's `response_format`; with `required` some tool must be chosen. O(schemas)."""
    options = [
        _object({"tool": {"const": wire}, "arguments": _bounded(dict(spec.schema) or {"type": "object"})})
        for wire, spec in names.items()
    ]
    if not required:
        options.append(_object({"tool": {"const": NO_TOOL}}))
    schema = options[0] if len(options) == 1 else {"anyOf": options}
    return {"type": "json_schema", "json_schema": {"name": "tool_choice", "schema": schema}}


def choice_prompt(names: ToolNames) -> str:
    """Return the sentence that tells the model what to choose from."""
    rows = [f"- {wire}: {spec.description}" for wire, spec in names.items()]
    return "Answer with JSON: which tool helps with the last message, and its arguments.\n" + "\n".join(rows)


def chosen(text: str) -> tuple[str, dict[str, Any]] | None:
    """Return (endpoint's tool name, arguments) of a choice, or None for no tool.

    Raises ModelFailed(GRAMMAR) if the text is no choice: the endpoint did not apply the schema, or
    stopped inside it.
    """
    try:
        choice = json.loads(text)
        if choice["tool"] == NO_TOOL:
            return None
        return str(choice["tool"]), dict(choice["arguments"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ModelFailed(
            f"the model's tool choice is no JSON of the asked form: {text[:200]!r}; raise max_tokens, or use an"
            " endpoint that supports response_format json_schema",
            reason="GRAMMAR",
        ) from error


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _bounded(schema: Any) -> Any:
    """Copy a schema; objects are closed, strings bounded, titles and defaults left out."""
    if isinstance(schema, list):
        return [_bounded(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    copy = {
        key: _named(value) if key in _NAMED else _bounded(value) for key, value in schema.items() if key not in _DROP
    }
    if copy.get("type") == "string" and not copy.keys() & {"maxLength", "format", "pattern", "enum", "const"}:
        copy["maxLength"] = _STRING_CHARS
    if copy.get("type") == "object" and "properties" in copy:
        copy.setdefault("additionalProperties", False)
    return copy


def _named(schemas: Any) -> Any:
    """The values of a map from names to schemas; a property may well be called "title"."""
    return {name: _bounded(value) for name, value in schemas.items()} if isinstance(schemas, dict) else schemas


_NAMED: Final = frozenset({"properties", "$defs", "definitions", "patternProperties"})
_DROP: Final = frozenset({"title", "default", "examples", "$schema"})
