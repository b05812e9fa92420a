"""What is said of hosts that did not come."""

from __future__ import annotations

from laneway.engine.runtime.placing import report


def test_a_cluster_without_room_is_told_with_numbers_and_a_fix() -> None:
    """Demand against what there is, in all and on one node."""
    said = report(
        ["host/nlp/0", "host/nlp/1"], [{"CPU": 8.0}] * 2, 20.0, [{"CPU": 4.0}, {"CPU": 6.0}, {"GPU": 1.0}], {"CPU": 9.5}
    )
    assert "host/nlp/0, host/nlp/1" in said
    assert "after 20 s" in said
    assert "CPU 8, together 16" in said
    assert "CPU 10 (9.5 free) on 3 nodes, at most 6 on one" in said
    assert "no room" in said
    assert "runtime.cpus" in said


def test_hosts_that_have_room_are_slow_or_fail() -> None:
    """Then the logs say more than the resources."""
    said = report(["host/nlp/0"], [{"CPU": 0.25}], 20.0, [{"CPU": 4.0}], {"CPU": 3.0})
    assert "logs" in said
    assert "runtime.ready_s" in said
    assert "no room" in report(["host/nlp/0"], [{"CPU": 0.25}], 20.0, [], {})


def test_what_no_node_has_is_told_by_its_name() -> None:
    """A GPU or a resource of one's own, beside the CPUs."""
    asks = [{"CPU": 0.25, "GPU": 1.0}, {"CPU": 0.25}]
    said = report(["host/nlp/0", "host/tools/0"], asks, 20.0, [{"CPU": 4.0}], {"CPU": 3.0})
    assert "GPU 1, together 1; the cluster has GPU 0 (0 free)" in said
    assert "no room" in said
    assert "runtime.resources" in said
