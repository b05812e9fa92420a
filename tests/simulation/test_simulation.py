"""The whole engine under seeded faults: every promise is kept in every world."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Final

import pytest

from tests.simulation.batch import Total, missing, run_seed, run_seeds

_BATCHES: Final = 10
_SEEDS: Final = 20


@pytest.fixture(scope="module")
def batches() -> Iterator[list[Future[Total]]]:
    """All batches, computed by two processes while the tests wait for one after the other."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        firsts = [1 + index * _SEEDS for index in range(_BATCHES)]
        yield [pool.submit(run_seeds, range(first, first + _SEEDS)) for first in firsts]


@pytest.mark.slow
@pytest.mark.parametrize("index", range(_BATCHES))
def test_every_promise_is_kept(batches: list[Future[Total]], index: int) -> None:
    """No seed of the batch contradicts itself: nothing lost, doubled, reordered, foreign or left over."""
    total = batches[index].result()
    failures = [
        f"python -m tests.simulation --seed {report.seed}: {report.violations[:3]}" for report in total.failures
    ]
    assert not failures, "\n".join(failures)
    assert total.seeds == _SEEDS


@pytest.mark.slow
def test_the_faults_really_happened(batches: list[Future[Total]]) -> None:
    """The batches together saw each kind of fault and each kind of end, so that success proves something."""
    whole = Total()
    for batch in batches:
        total = batch.result()
        for name in ("sent", "accepted", "handled"):
            setattr(whole, name, getattr(whole, name) + getattr(total, name))
        whole.faults.update(total.faults)
        whole.outcomes.update(total.outcomes)
    assert missing(whole) == []


@pytest.mark.parametrize("seed", [2, 5, 7])
def test_a_seed_gives_the_same_run_again(seed: int) -> None:
    """What failed can be replayed: crashes, disk errors and takeovers included."""
    once, again = run_seed(seed), run_seed(seed)
    assert once.fingerprint == again.fingerprint
    assert once.faults == again.faults
