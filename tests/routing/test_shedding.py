"""Levels of overload: what each refuses."""

from __future__ import annotations

import pytest

from laneway.routing.errors import LocalProtocolError, Overloaded
from laneway.routing.lanes import Lane
from laneway.routing.shedding import MAX_LEVEL, Shedding


@pytest.mark.parametrize("level", range(MAX_LEVEL + 1))
@pytest.mark.parametrize("lane", Lane)
def test_each_level_sheds_what_the_one_below_does_and_one_class_more(level: int, lane: Lane) -> None:
    """1 the low lane, 2 also new sessions, 3 also new runs, never the critical lane; the wait grows with the level."""
    shedding = Shedding()
    shedding.set_level(level)
    low = shedding.refuse(lane, False, False)
    assert (low is not None) == (level >= 1 and lane == Lane.LOW)
    critical = lane == Lane.CRITICAL
    assert (shedding.refuse(lane, False, True) is not None) == (low is not None or (level >= 2 and not critical))
    run = shedding.refuse(lane, True, False)
    assert (run is not None) == (low is not None or (level >= 3 and not critical))
    if run is not None:
        assert isinstance(run, Overloaded)
        assert run.reason == f"LEVEL_{level}"
        assert run.retry_after_ms == 1000 * level


def test_there_is_no_other_level() -> None:
    """A level outside 0 to 3 is the caller's mistake."""
    with pytest.raises(LocalProtocolError):
        Shedding().set_level(4)
