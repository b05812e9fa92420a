"""The error tree: codes, messages, and its own documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from laneway.routing import errors
from laneway.routing.errors import LanewayError


def _classes(root: type[LanewayError] = LanewayError) -> Iterator[type[LanewayError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _classes(child)


@pytest.mark.parametrize("kind", list(_classes()), ids=lambda kind: kind.__name__)
def test_each_class_is_documented_and_exported(kind: type[LanewayError]) -> None:
    """The tree in the module docstring shows every class with its code; each is in `__all__` and explained."""
    assert kind.__doc__
    assert kind.__name__ in errors.__all__
    if kind is not LanewayError:
        own = "code" in vars(kind)
        row = re.search(rf"\b{kind.__name__}\b +([A-Z_]+)?", errors.__doc__ or "")
        assert row, f"{kind.__name__} is not in the tree"
        if own and row[1]:
            assert row[1] == kind.code


def test_codes_of_leaves_are_unique() -> None:
    """No two classes that define a code define the same one."""
    codes = [kind.code for kind in _classes() if "code" in vars(kind)]
    assert len(codes) == len(set(codes))


def test_an_error_reads_as_code_reason_and_sentence() -> None:
    """`str` gives what a log line needs; fields stay apart for programs."""
    error = errors.RateLimited("slow down", reason="SESSION", retry_after_ms=40)
    assert str(error) == "RATE_LIMITED/SESSION: slow down"
    assert (error.code, error.reason, error.retry_after_ms, error.retryable) == ("RATE_LIMITED", "SESSION", 40, True)
    assert str(errors.ConfigError("x")) == "CONFIG: x"
