"""Plans: order, results in arguments, skipping, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.actors.tools.plan import MAX_CALLS, Plan, PlannedCall
from laneway.routing.errors import LocalProtocolError, ToolArguments


def call(call_id: str, *after: str, **arguments: object) -> PlannedCall:
    return PlannedCall(call_id, "tool", arguments, after)


def test_results_flow_into_the_arguments_of_later_calls() -> None:
    """A reference is a dependency and is replaced by the value when its call is ready."""
    plan = Plan([call("b", where=[{"$result": "a"}]), call("a", city="Oslo")])
    assert [each.call_id for each in plan.ready()] == ["a"]
    assert plan.ready() == []
    plan.complete("a", {"lat": 60})
    (ready,) = plan.ready()
    assert ready.arguments == {"where": [{"lat": 60}]}
    plan.complete("b", "done")
    assert plan.ready() == []
    assert plan.done
    assert plan.results == {"a": {"lat": 60}, "b": "done"}


def test_a_failure_skips_its_descendants_and_nothing_else() -> None:
    """Independent branches go on; each skipped call names what it waited for."""
    plan = Plan([call("a"), call("b", "a"), call("c", "b"), call("other")])
    assert {each.call_id for each in plan.ready()} == {"a", "other"}
    plan.fail("a", "TOOL_TIMEOUT")
    assert plan.ready() == []
    assert not plan.done
    plan.complete("other", 1)
    assert plan.ready() == []
    assert plan.done
    assert (plan.failed, plan.skipped) == ({"a": "TOOL_TIMEOUT"}, {"b": "a", "c": "b"})


@pytest.mark.parametrize(
    ("calls", "reason"),
    [
        ([call("a", "b"), call("b", "a")], "CYCLE"),
        ([call("a", "nowhere")], "UNKNOWN_CALL"),
        ([call("a", x={"$result": "nowhere"})], "UNKNOWN_CALL"),
        ([call("a"), call("a")], "DUPLICATE_CALL"),
        ([call(str(n)) for n in range(MAX_CALLS + 1)], "TOO_MANY_CALLS"),
    ],
)
def test_a_bad_plan_is_refused_before_anything_runs(calls: list[PlannedCall], reason: str) -> None:
    """Cycles, unknown and repeated ids and absurd sizes are typed errors."""
    with pytest.raises(ToolArguments) as caught:
        Plan(calls)
    assert caught.value.reason == reason


def test_deep_arguments_are_refused() -> None:
    """Nesting is bounded, so that no plan exhausts the stack."""
    value: object = 1
    for _ in range(100):
        value = [value]
    with pytest.raises(ToolArguments) as caught:
        Plan([call("a", x=value)])
    assert caught.value.reason == "DEPTH_EXCEEDED"


def test_reports_must_match_running_calls() -> None:
    """A report for a call that is not running is a bug of the caller."""
    plan = Plan([call("a")])
    with pytest.raises(LocalProtocolError):
        plan.complete("a", 1)


@given(st.data())
def test_any_plan_ends_with_every_call_accounted_for_once(data: st.DataObject) -> None:
    """Whatever fails, each call is exactly one of succeeded, failed, skipped; order respects `after`."""
    size = data.draw(st.integers(1, 12))
    calls = [
        call(str(n), *data.draw(st.lists(st.sampled_from([str(m) for m in range(n)]), max_size=3)) if n else ())
        for n in range(size)
    ]
    plan = Plan(calls)
    running: list[PlannedCall] = plan.ready()
    while running:
        current = running.pop(data.draw(st.integers(0, len(running) - 1)))
        assert all(need in plan.results for need in current.after)
        if data.draw(st.booleans()):
            plan.complete(current.call_id, None)
        else:
            plan.fail(current.call_id, "X")
        running += plan.ready()
    assert plan.done
    parts = [set(plan.results), set(plan.failed), set(plan.skipped)]
    assert sum(map(len, parts)) == size == len(set.union(*parts))
