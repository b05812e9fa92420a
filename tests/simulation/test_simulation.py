"""The whole engine under seeded faults: every promise is kept in every world."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final

import pytest

from tests.simulation.batch import SETTINGS, Total, command, missing, run_seed, run_seeds

_BATCHES: Final = 3
_SEEDS: Final = SETTINGS
"""Of a batch: as many as there are settings, so that each is in each batch. `make simulate` has more of both."""


@pytest.fixture(scope="module")
def batch() -> Callable[[int], Total]:
    """Runs a batch, once."""
    return cache(lambda index: run_seeds(range(1 + index * _SEEDS, 1 + (index + 1) * _SEEDS)))


@pytest.mark.slow
@pytest.mark.parametrize("index", range(_BATCHES))
def test_every_promise_is_kept(batch: Callable[[int], Total], index: int) -> None:
    """No seed of the batch contradicts itself: nothing lost, doubled, reordered, foreign or left over."""
    total = batch(index)
    failures = [f"{command(report.seed)}: {report.violations[:3]}" for report in total.failures]
    assert not failures, "\n".join(failures)
    assert total.seeds == _SEEDS


@pytest.mark.slow
def test_the_faults_really_happened(batch: Callable[[int], Total]) -> None:
    """The batches together saw each kind of fault and each kind of end, so that success proves something."""
    whole = Total()
    for total in map(batch, range(_BATCHES)):
        for name in ("sent", "accepted", "handled"):
            setattr(whole, name, getattr(whole, name) + getattr(total, name))
        whole.faults.update(total.faults)
        whole.outcomes.update(total.outcomes)
    assert missing(whole) == []


@pytest.mark.parametrize("seed", [2, 7, 9, 15])
def test_a_seed_gives_the_same_run_again(seed: int) -> None:
    """What failed can be replayed: crashes, disk errors and takeovers included."""
    once, again = run_seed(seed), run_seed(seed)
    assert once.fingerprint == again.fingerprint
    assert once.faults == again.faults
