"""Each cause of an ending has one status, one code and one sentence."""

from __future__ import annotations

import pytest

from laneway.actors import endings
from laneway.actors.ports import Outcome
from laneway.routing.errors import Cancelled, ToolUnavailable


@pytest.mark.parametrize(
    ("outcome", "status", "code", "retryable"),
    [
        (endings.cancelled("enough"), "cancelled", "CANCELLED", False),
        (endings.drained(), "cancelled", "DRAINED", True),
        (endings.expired(), "expired", "DEADLINE_EXCEEDED", True),
        (endings.stopped_late(), "cancelled", "DEADLINE_EXCEEDED", True),
        (endings.quarantined("c"), "failed", "HANDLER_FAILED", True),
        (endings.CARRIER_LOST, "dead", "HOST_LOST", True),
        (endings.failed(ToolUnavailable("gone")), "failed", "TOOL_UNAVAILABLE", True),
        (endings.failed(Cancelled("on request")), "cancelled", "CANCELLED", False),
        (endings.failed(KeyError("x")), "failed", "HANDLER_FAILED", False),
    ],
)
def test_an_ending_says_what_happened_and_whether_to_try_again(outcome, status, code, retryable):
    """Status, code and retryability are those of the error tree, and there is always a sentence."""
    assert (outcome.status, outcome.code, outcome.retryable) == (status, code, retryable)
    assert outcome.message


def test_a_foreign_exception_is_named_and_bounded():
    """The message says what was raised, cut to what fits a frame."""
    outcome = endings.failed(ValueError("x" * 5000))
    assert outcome.message.startswith("the handler raised ValueError: xxx")
    assert len(outcome.message) < 1100


def test_who_sent_an_event_is_told_what_nobody_asked_for():
    """A deadline stops a handler as a cancel does, but nobody asked for that."""
    assert endings.to_tell(endings.stopped_late())
    assert endings.to_tell(endings.expired())
    assert endings.to_tell(endings.failed(ValueError("x")))
    assert not endings.to_tell(endings.cancelled("asked"))
    assert not endings.to_tell(Outcome("handled"))


def test_a_failure_tells_when_to_come_again_if_that_is_known():
    """The notice of an event names its counter; without a delay it has no such field."""
    told = {"code": "DEADLINE_EXCEEDED", "message": endings.expired().message, "retryable": False, "counter": 7}
    notice = endings.failure(endings.expired(), 7)
    assert notice == {**told, "retryable": endings.expired().retryable}
    assert "retry_after_ms" in endings.failure(endings.dropped(0.5), 7)
