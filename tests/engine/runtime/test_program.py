"""Programs are named by import path."""

from __future__ import annotations

import pytest

from laneway.engine.runtime.program import program_of
from laneway.routing.errors import ConfigError
from tests.engine.runtime.lodgers import Lodger


def test_a_path_makes_a_program() -> None:
    """A new one each time."""
    first, second = (program_of("tests.engine.runtime.lodgers:Lodger") for _ in range(2))
    assert isinstance(first, Lodger)
    assert first is not second


def test_a_path_to_nothing_is_a_config_error() -> None:
    """Or to something that cannot be called."""
    for path in ("tests.engine.runtime.lodgers:Nobody", "tests.engine.runtime.lodgers:not_a_program", "nonsense"):
        with pytest.raises(ConfigError):
            program_of(path)
