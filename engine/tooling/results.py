"""What crosses the line to an MCP server: arguments against its schema, results as JSON text.

Law of this file: a schema from a server is data: it is never followed to another place (a remote
`$ref` does not resolve), and one that is itself broken checks nothing, since the server will.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from laneway.routing.errors import ToolArguments

__all__ = ["ArgumentChecker", "json_text"]

_TOLD: Final = 5


class ArgumentChecker:
    """Judges arguments by a JSON Schema (2020-12); compiled at the first use.

    Args:
        schema: as the server gave it.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._validator: Any = None

    def check(self, arguments: Mapping[str, Any]) -> None:
        """Raise ToolArguments, with the path of the first error as reason, if they do not fit."""
        from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
        from jsonschema.exceptions import SchemaError  # type: ignore[import-untyped]
        from referencing import Registry
        from referencing.exceptions import Unresolvable

        if self._validator is None:
            try:
                Draft202012Validator.check_schema(self._schema)
                self._validator = Draft202012Validator(self._schema, registry=Registry())
            except SchemaError:
                self._validator = Draft202012Validator({})
        try:
            found = sorted(self._validator.iter_errors(dict(arguments)), key=lambda each: list(map(str, each.path)))
        except Unresolvable:
            return
        if found:
            told = "; ".join(f"`{_path(each)}`: {each.message[:200]}" for each in found[:_TOLD])
            raise ToolArguments(f"the arguments do not fit: {told}", reason=_path(found[0]))


def _path(error: Any) -> str:
    return ".".join(str(step) for step in error.path)[:200] or "arguments"


def json_text(result: Any) -> str:
    """Return a CallToolResult as JSON text: its structured content, else its text, else its blocks."""
    if result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    if all(block.type == "text" for block in result.content):
        return _as_json("\n".join(block.text for block in result.content))
    blocks = [block.model_dump(mode="json", by_alias=True, exclude_none=True) for block in result.content]
    return json.dumps(blocks, ensure_ascii=False)


def _as_json(text: str) -> str:
    try:
        json.loads(text)
    except ValueError:
        return json.dumps(text, ensure_ascii=False)
    return text
