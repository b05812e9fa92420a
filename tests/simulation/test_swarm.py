"""Random mixes of faults."""

from __future__ import annotations

from dataclasses import fields

from tests.simulation.faults import CALM
from tests.simulation.swarm import swarm


def test_each_seed_has_its_own_mix_of_faults() -> None:
    """A fault is in a third of the seeds, weak in some and strong in others, and a seed's mix is always the same."""
    mixes = [swarm(seed)[0] for seed in range(300)]
    assert mixes == [swarm(seed)[0] for seed in range(300)]
    for each in fields(CALM):
        if each.name in ("commit_s", "latency_s", "wall_jumps"):
            continue
        values = [getattr(mix, each.name) for mix in mixes]
        present = [value for value in values if value]
        assert 0.25 * len(mixes) < len(present) < 0.45 * len(mixes), each.name
        assert max(present) > 2 * min(present), each.name


def test_a_mix_leaves_most_faults_out() -> None:
    """What only happens while little else does can happen: hardly a mix holds more than half of all faults."""
    kinds = [each.name for each in fields(CALM) if each.name not in ("commit_s", "latency_s", "wall_jumps")]
    sizes = [sum(bool(getattr(swarm(seed)[0], name)) for name in kinds) for seed in range(300)]
    assert sum(size > len(kinds) / 2 for size in sizes) < 60
    assert len({swarm(seed)[1] for seed in range(50)}) > 3
