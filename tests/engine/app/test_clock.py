"""The machine's clock."""

from __future__ import annotations

from laneway.engine.app.clock import SystemClock


def test_time_does_not_run_backwards() -> None:
    """Two readings, in order."""
    clock = SystemClock()
    assert clock.now() <= clock.now()
