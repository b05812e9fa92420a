"""Which failed attempt is worth another, and whether the retry budget still allows it.

Law of this file: only the engine retries, at most three attempts, and retries add at most a tenth to
the calls (a token bucket: each call pays 0.1 in, each retry takes 1), so that a tool in trouble does
not meet a storm (reliability study section 4 item 10; the budget is Finagle's and the SRE book's).
"""

from __future__ import annotations

from typing import Final

from laneway.routing.errors import LanewayError, OutcomeUnknown, ToolUnavailable

__all__ = ["BASE_S", "CAP_S", "MAX_ATTEMPTS", "RetryBudget", "worth_retrying"]

MAX_ATTEMPTS: Final = 3
BASE_S: Final = 0.050
CAP_S: Final = 10.0
_REASONS_NOT_TO: Final = frozenset({"BREAKER_OPEN", "DEADLINE", "CPU_LIMIT"})


def worth_retrying(error: LanewayError) -> bool:
    """True if the same call, at once, may well succeed."""
    if isinstance(error, OutcomeUnknown) or error.reason in _REASONS_NOT_TO:
        return False
    return isinstance(error, ToolUnavailable) or error.retryable


class RetryBudget:
    """The bucket of one tool.

    Args:
        share: what a call pays in. capacity: most that can be saved; also the start.
    """

    __slots__ = ("_capacity", "_share", "_tokens")

    def __init__(self, share: float = 0.1, capacity: float = 10.0) -> None:
        self._share = share
        self._capacity = capacity
        self._tokens = capacity

    def deposit(self) -> None:
        """One call came in."""
        if self._tokens < self._capacity:
            self._tokens = min(self._capacity, self._tokens + self._share)

    def withdraw(self) -> bool:
        """Take one retry; False if the budget is spent."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
