"""What is retried, and how often at most."""

from __future__ import annotations

import pytest

from laneway.actors.tools.retries import RetryBudget, worth_retrying
from laneway.routing.errors import (
    LanewayError,
    OutcomeUnknown,
    Overloaded,
    ToolArguments,
    ToolCrashed,
    ToolTimeout,
    ToolUnavailable,
)


@pytest.mark.parametrize(
    ("error", "worth"),
    [
        (ToolUnavailable("gone"), True),
        (ToolTimeout("slow"), True),
        (Overloaded("full"), True),
        (ToolUnavailable("open", reason="BREAKER_OPEN"), False),
        (ToolTimeout("late", reason="DEADLINE"), False),
        (OutcomeUnknown("?"), False),
        (ToolCrashed("dead"), False),
        (ToolArguments("bad"), False),
    ],
)
def test_only_passing_errors_are_worth_another_attempt(error: LanewayError, worth: bool) -> None:
    """Transient errors are, terminal and unknown ones are not."""
    assert worth_retrying(error) is worth


def test_retries_add_at_most_a_tenth() -> None:
    """After the saved budget is spent, ten calls pay for one retry."""
    budget = RetryBudget(capacity=2.0)
    assert [budget.withdraw() for _ in range(3)] == [True, True, False]
    retries = 0
    for _ in range(1000):
        budget.deposit()
        retries += budget.withdraw()
    assert 95 <= retries <= 100
