"""A supervisor survives some crashes in a while, not many in a moment."""

from __future__ import annotations

from laneway.actors.pools.crashes import CrashLog


def test_one_more_than_the_limit_within_the_window_is_too_many():
    """Two a minute are survived, the third is the verdict; after forgiveness it starts anew."""
    log = CrashLog(limit=2, window_s=60.0)
    assert [log.add(now) for now in (0.0, 10.0, 60.0)] == [False, False, True]
    log.forgive()
    assert not log.add(61.0)
    assert log.total == 4


def test_crashes_far_apart_are_survived_for_ever():
    """Only those within the window count."""
    log = CrashLog(limit=1, window_s=60.0)
    assert not any(log.add(61.0 * number) for number in range(100))
