"""The overload detector: when a level begins, when it ends."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.routing.errors import ConfigError
from laneway.routing.overload import OverloadDetector, OverloadPolicy

_TICK_S = 0.125
_LAGS = st.lists(st.floats(0, 2), max_size=100)


def _levels(lags: list[float], detector: OverloadDetector | None = None, since: float = 0.0) -> list[int]:
    """Feed measurements as a ticker makes them, but at fixed times, so that two runs can be compared."""
    detector = detector or OverloadDetector()
    return [detector.sample(lag_s, since + number * _TICK_S) for number, lag_s in enumerate(lags)]


@pytest.mark.parametrize(("lag_s", "level"), [(0.0, 0), (0.05, 0), (0.06, 1), (0.21, 2), (0.51, 3), (60.0, 3)])
def test_four_late_measurements_raise_the_level_to_where_they_are(lag_s: float, level: int) -> None:
    """Three say nothing yet; the fourth goes to the level at once, not one by one."""
    assert _levels([lag_s] * 4) == [0, 0, 0, level]


@given(st.lists(st.floats(0, 3600), min_size=1, max_size=3))
def test_a_pause_is_no_overload(pauses: list[float]) -> None:
    """However long: an import, a collection of garbage or a stopped process is one measurement, or a few."""
    lags = [0.001] * 10 + pauses + [0.001] * 10
    assert set(_levels(lags)) == {0}


@given(st.lists(st.floats(0.0251, 0.1999), min_size=7, max_size=150))
def test_noise_around_a_threshold_changes_the_level_once(noise: list[float]) -> None:
    """Between half a threshold and the next one: the level begins at most once and does not end."""
    levels = _levels(noise)
    assert levels == sorted(levels)
    assert set(levels) <= {0, 1}


@given(_LAGS)
def test_it_always_comes_back_one_level_at_a_time(lags: list[float]) -> None:
    """Whatever was before: after three times the calm time the level is 0, and none was skipped."""
    detector = OverloadDetector()
    begun = (_levels(lags, detector) or [0])[-1]
    calm = _levels([0.0] * 320, detector, since=len(lags) * _TICK_S)
    falls = [begun, *calm]
    assert falls[-1] == 0
    assert all(before - after in (0, 1) for before, after in itertools.pairwise(falls))


def test_a_level_ends_only_after_the_calm_time() -> None:
    """Not a moment earlier, and a single late stretch in between begins it anew."""
    detector = OverloadDetector()
    assert _levels([0.25] * 7, detector)[-1] == 2
    assert set(_levels([0.0] * 80, detector, since=1.0)) == {2}
    assert _levels([0.12] * 4, detector, since=11.0) == [2, 2, 2, 2]  # more than half of 0.2: it was not calm
    falling = _levels([0.0] * 180, detector, since=11.5)
    assert [falling.index(level) for level in (1, 0)] == [83, 164]


@given(_LAGS, st.lists(st.floats(0, 1), max_size=100))
def test_more_lag_never_gives_a_lower_level(lags: list[float], more: list[float]) -> None:
    """Of two loops, the one that is later at each moment is at each moment on the same level or a higher one."""
    later = [lag_s + extra_s for lag_s, extra_s in zip(lags, more, strict=False)]
    assert all(low <= high for low, high in zip(_levels(lags[: len(later)]), _levels(later), strict=True))


def test_it_says_what_it_goes_by() -> None:
    """The middle one of the last seven."""
    detector = OverloadDetector()
    _levels([9.0, 0.3, 0.1, 0.2, 0.5, 0.4, 0.6, 0.7], detector)
    assert detector.lag_s == 0.4
    assert detector.level == 2


@pytest.mark.parametrize(
    "wrong",
    [{"lag_s": (0.1, 0.1, 0.2)}, {"lag_s": (0.0, 0.1, 0.2)}, {"lag_s": (0.3, 0.2, 0.1)}, {"calm_s": 0.0}],
)
def test_thresholds_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    """They rise, and calm takes time."""
    with pytest.raises(ConfigError, match="overload"):
        OverloadPolicy(**wrong)  # type: ignore[arg-type]
