"""Which outlets gather and steer."""

from __future__ import annotations

from laneway.actors.outlets import Gathers, Steers
from laneway.engine.app.engine import Engine


def test_sessions_and_what_checks_before_them_can_do_both() -> None:
    """An engine's handlers get gathered deltas and may say what becomes of an unread run."""
    engine = Engine()
    assert isinstance(engine.directory, Gathers)
    assert isinstance(engine.directory, Steers)
    assert isinstance(engine.outlet, Gathers)
    assert isinstance(engine.outlet, Steers)
