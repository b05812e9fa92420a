"""The bounds of input: their defaults are part of the protocol's documentation."""

from __future__ import annotations

import dataclasses

import pytest

from laneway.engine.limits import DEFAULT_LIMITS, Limits


def test_defaults_are_the_documented_ones() -> None:
    """1 MiB frames of 1,024 items, 32 levels, 10,000 entries a container, 50,000 values a body."""
    assert Limits(1_048_576, 65_536, 1_024, 1_048_576, 32, 10_000, 50_000) == DEFAULT_LIMITS


def test_limits_do_not_change() -> None:
    """A limit that was checked stays what it was."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        DEFAULT_LIMITS.depth = 1_000  # type: ignore[misc]
