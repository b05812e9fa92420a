"""The limits: what each class of events may use of them."""

from __future__ import annotations

import itertools
from math import inf
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from laneway.routing.lanes import Lane
from laneway.routing.limits import RUN, AdmissionPolicy, rows

_SHARES = st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3).map(sorted)


@given(shares=_SHARES, cap=st.integers(1, 10_000), burst=st.floats(1, 1e6))
def test_who_is_more_urgent_may_use_more_of_every_limit(shares: list[float], cap: int, burst: float) -> None:
    """low <= normal <= runs <= high <= critical, in every column, and nobody is left without any."""
    low, normal, run = shares
    policy: dict[str, Any] = {"session_events": cap, "tenant_events": cap, "burst": burst}
    table = rows(AdmissionPolicy(low_share=low, normal_share=normal, run_share=run, **policy))
    order = [table[row] for row in (Lane.LOW, Lane.NORMAL, RUN, Lane.HIGH, Lane.CRITICAL)]
    for below, above in itertools.pairwise(order):
        assert all(a <= b for a, b in zip(below, above, strict=True))
    assert min(order[0]) > 0
    assert order[0].events >= 1


def test_no_rate_is_no_delay() -> None:
    """An infinite rate is never ahead of itself."""
    assert rows(AdmissionPolicy(rate_per_s=inf))[Lane.HIGH].ahead_s == 0.0
