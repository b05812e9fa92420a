"""Signatures: parameter names, annotations and docstrings that are easy to get wrong."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from laneway.engine.tooling.signature import Signature
from laneway.routing.errors import ToolArguments


def test_parameter_names_are_free() -> None:
    """Names that collide with pydantic's own or begin with an underscore are ordinary arguments."""

    def odd(schema: str, copy: int, json: bool, _private: int = 0, self: str = "") -> None: ...

    signature = Signature(odd)
    assert signature.validate({"schema": "s", "copy": 1, "json": True}) == {
        "schema": "s", "copy": 1, "json": True, "_private": 0, "self": "",
    }  # fmt: skip
    assert set(signature.schema["properties"]) == {"schema", "copy", "json", "_private", "self"}


def test_constraints_reach_schema_and_validation() -> None:
    """Annotated constraints, literals and optionals are both shown and enforced."""

    def book(count: Annotated[int, Field(ge=1, le=9)], kind: Literal["a", "b"], note: Optional[str] = None) -> None: ...  # noqa: UP045

    signature = Signature(book)
    assert signature.schema["properties"]["count"]["maximum"] == 9
    assert signature.schema["properties"]["kind"]["enum"] == ["a", "b"]
    assert signature.plain
    for bad in ({"count": 0, "kind": "a"}, {"count": 1, "kind": "c"}):
        with pytest.raises(ToolArguments):
            signature.validate(bad)


@pytest.mark.parametrize(
    ("hint", "plain"),
    [
        (int, True),
        (list[dict[str, int]], True),
        (int | None, True),
        (bytes, False),
        (tuple[int, ...], False),
        (set[str], False),
    ],
)
def test_plain_means_json_on_both_sides(hint: Any, plain: bool) -> None:
    """Only types whose validated value is JSON again may skip the conversion in the worker."""

    def function(x: Any) -> None: ...

    function.__annotations__ = {"x": hint}
    assert Signature(function).plain is plain


def test_unannotated_parameters_take_anything() -> None:
    """No annotation means any JSON value."""

    def loose(x): ...  # type: ignore[no-untyped-def]

    assert Signature(loose).validate({"x": [1]}) == {"x": [1]}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8) | st.sampled_from(["a", "b"]), _JSON, max_size=4))
def test_any_arguments_fit_or_are_a_typed_error(arguments: dict[str, Any]) -> None:
    """Whatever a model sends, the answer is the validated values or ToolArguments with a path."""

    def function(a: int, b: list[str] | None = None) -> None: ...

    signature = Signature(function)
    fits = isinstance(arguments.get("a"), int) and set(arguments) <= {"a", "b"}
    try:
        validated = signature.validate(arguments)
    except ToolArguments as error:
        refused = error.reason
    else:
        refused = ""
        assert isinstance(validated["a"], int)
    assert refused or "a" in arguments
    if refused and fits:
        assert refused.split(".")[0] == "b"
