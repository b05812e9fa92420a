"""Sections: what their fields allow together."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from laneway.engine.sections import NlpConfig, OverloadConfig, StoreConfig


def test_an_address_with_a_password_is_not_shown() -> None:
    """Settings may be printed; where logs are kept is not part of that."""
    config = StoreConfig(url="redis://user:hush@host")
    assert "hush" not in repr(config) + str(config)


@pytest.mark.parametrize("lag_s", [(0.1, 0.1, 0.2), (0.3, 0.2, 0.1), (0.0, 0.1, 0.2), (0.1, 0.2)])
def test_levels_of_overload_rise(lag_s: tuple[float, ...]) -> None:
    """Three thresholds, each above the one before."""
    with pytest.raises(ValidationError):
        OverloadConfig(lag_s=lag_s)  # type: ignore[arg-type]


def test_a_model_stands_in_for_another_one() -> None:
    """Alone it would never be asked."""
    assert NlpConfig(model="synthetic", degraded_model="scripted").degraded_model == "scripted"
    with pytest.raises(ValidationError, match="name both"):
        NlpConfig(degraded_model="scripted")
