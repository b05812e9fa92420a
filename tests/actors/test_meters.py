"""Measurements bound once."""

from __future__ import annotations

from laneway.actors.meters import MUTE, SessionMeters, by_lane


def test_each_lane_has_its_own_histogram(rig):
    """Indexed with an envelope's lane."""
    probe = rig.Probe()
    for lane, observe in enumerate(by_lane(probe, "queue.wait")):
        observe(lane / 10)
    assert probe.measured == [
        ("queue.wait", {"lane": "critical"}, 0.0),
        ("queue.wait", {"lane": "high"}, 0.1),
        ("queue.wait", {"lane": "normal"}, 0.2),
        ("queue.wait", {"lane": "low"}, 0.3),
    ]


def test_without_a_probe_nothing_is_recorded():
    """The same calls, without effect."""
    meters = SessionMeters()
    for observe in (*by_lane(None, "queue.wait"), meters.commit, meters.first_text, meters.response):
        observe(1.0)
    meters.count("run.started")
    MUTE.observe("x", 1.0)
