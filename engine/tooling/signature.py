"""A function's signature as a contract: JSON Schema for the model, validation for what it sends back.

Law of this file: the annotations are the only source; pydantic derives both sides from them, so they
cannot differ. A parameter annotated with `Context` is the engine's to fill in and stays invisible.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import SchemaValidator

from laneway.actors.ports import Context
from laneway.routing.errors import ConfigError, ToolArguments

__all__ = ["Signature"]

_TOLD: Final = 5
"""Errors told at once; a model corrects the first few."""
_JSON_TYPES: Final = frozenset({str, int, float, bool, type(None), Any, dict, list, object})
_SECTION: Final = re.compile(r"^(Args|Arguments|Parameters|Returns|Raises|Yields|Examples?|Notes?):\s*$")
_ENTRY: Final = re.compile(r"^(\s+)\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.*)$")


class Signature:
    """What one callable takes.

    Args:
        function: annotated; `*args`, `**kwargs` and positional-only parameters are refused.

    Attributes:
        schema: JSON Schema of the arguments object.
        description: the docstring up to its first section.
        context_name: parameter that receives the call's Context, or empty.
        plain: True if validated arguments are JSON values themselves.

    Raises:
        ConfigError: the signature cannot be described as a JSON object.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        name = getattr(function, "__name__", type(function).__name__)
        try:
            parameters = inspect.signature(function).parameters
            hints = typing.get_type_hints(function, include_extras=True)
        except (TypeError, ValueError, NameError) as error:
            raise ConfigError(f"the signature of tool {name!r} cannot be read: {error}; annotate it") from error
        self.context_name = next((each for each, hint in hints.items() if hint is Context and each != "return"), "")
        shown = {key: parameter for key, parameter in parameters.items() if key != self.context_name}
        for parameter in shown.values():
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise ConfigError(
                    f"tool {name!r} takes `{parameter}`; tools take named arguments only, so name every parameter"
                )
        self.plain = all(_is_json(hints.get(key, Any)) for key in shown)
        self._adapter = _adapter(name, shown, hints)
        self._validate = _validator(self._adapter)
        self.description, notes = _documentation(inspect.getdoc(function) or "")
        self.schema = self._described(name, notes)

    def _described(self, name: str, notes: Mapping[str, str]) -> dict[str, Any]:
        try:
            schema = self._adapter.json_schema()
        except (PydanticUserError, ValueError) as error:
            raise ConfigError(f"the arguments of tool {name!r} have no JSON Schema: {error}") from error
        for key, row in schema.get("properties", {}).items():
            if key in notes:
                row.setdefault("description", notes[key])
        return schema

    def validate(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments as the annotated types, defaults filled in.

        Raises:
            ToolArguments: with the path of the first error as reason.
        """
        try:
            validated: dict[str, Any] = self._validate(arguments if type(arguments) is dict else dict(arguments))[1]
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            told = "; ".join(f"`{_path(row['loc'])}`: {row['msg']}" for row in found[:_TOLD])
            raise ToolArguments(f"the arguments do not fit: {told}", reason=_path(found[0]["loc"])) from None
        return validated


def _adapter(name: str, shown: Mapping[str, inspect.Parameter], hints: Mapping[str, Any]) -> TypeAdapter[Any]:
    def shadow(**arguments: Any) -> dict[str, Any]:
        return arguments

    # pydantic validates a call to this stand-in, which hands the validated arguments back
    stand_in: Any = shadow
    stand_in.__signature__ = inspect.Signature(
        [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in shown.values()]
    )
    stand_in.__annotations__ = {key: hints.get(key, Any) for key in shown}
    stand_in.__name__ = stand_in.__qualname__ = name
    try:
        return TypeAdapter(stand_in)
    except (PydanticUserError, TypeError) as error:
        raise ConfigError(f"the arguments of tool {name!r} cannot be validated: {error}") from error


def _validator(adapter: TypeAdapter[Any]) -> Callable[[dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]:
    """Return what validates a call's arguments without calling the stand-in, and gives them as ``((), by name)``."""
    schema: Any = adapter.core_schema
    if schema["type"] == "definitions":
        alone: Any = {**schema, "schema": schema["schema"]["arguments_schema"]}
    else:
        alone = schema["arguments_schema"]
    return SchemaValidator(alone).validate_python


def _is_json(hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is None:
        return hint in _JSON_TYPES if isinstance(hint, typing.Hashable) else False
    if origin is typing.Literal:
        return all(isinstance(value, (str, int, bool, type(None))) for value in typing.get_args(hint))
    if origin is typing.Annotated:
        return _is_json(typing.get_args(hint)[0])
    plain_origin = origin in (list, dict, typing.Union) or getattr(origin, "__name__", "") == "UnionType"
    return plain_origin and all(_is_json(each) for each in typing.get_args(hint))


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(step) for step in location)[:200] or "arguments"


def _documentation(text: str) -> tuple[str, dict[str, str]]:
    """Split a Google-style docstring into its prose and what it says about each parameter."""
    prose: list[str] = []
    notes: dict[str, str] = {}
    section = current = ""
    for line in text.splitlines():
        if heading := _SECTION.match(line):
            section, current = heading[1], ""
        elif not section:
            prose.append(line)
        elif section in ("Args", "Arguments", "Parameters"):
            if (entry := _ENTRY.match(line)) and len(entry[1]) <= 4:
                current = entry[2]
                notes[current] = entry[3].strip()
            elif current and line.strip():
                notes[current] = f"{notes[current]} {line.strip()}".strip()
    return "\n".join(prose).strip(), notes
