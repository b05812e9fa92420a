"""How events end other than by their handler's answer: one outcome per cause, worded once.

Law of this file: an ending names the cause (`code`), says it in a sentence, and whether the same
event may be sent again. "expired" and "dropped" is only what never began; what was begun and stopped is "cancelled".
"""

from __future__ import annotations

from math import ceil
from typing import Final

from laneway.actors.ports import Outcome
from laneway.routing.errors import (
    Cancelled,
    DeadlineExceeded,
    Drained,
    HandlerFailed,
    HostLost,
    LanewayError,
    Overloaded,
)

__all__ = [
    "CARRIER_LOST",
    "HOST_LOST",
    "POISON",
    "cancelled",
    "drained",
    "dropped",
    "expired",
    "failed",
    "failure",
    "quarantined",
    "stopped_late",
    "to_tell",
]

_FAILED: Final = ("failed", "expired", "dropped", "dead")

HOST_LOST: Final = Outcome(
    "dead", b"", HostLost.code, "the engine stopped while this run was going on; retry it as a new run", True
)
"""A run that a former home had started."""
CARRIER_LOST: Final = Outcome(
    "dead", b"", HostLost.code, "the host that carried this run was lost; retry it as a new run", True
)
"""A run that went on on another host."""
POISON: Final = Outcome("dead", b"", "DEAD_LETTERED", "given up; see the dead letters", False)
"""Its handler took the process down each time."""


def cancelled(reason: str = "") -> Outcome:
    """Somebody asked for its end."""
    return Outcome("cancelled", code=Cancelled.code, message=reason or "cancelled on request")


def drained() -> Outcome:
    """The engine shut down first."""
    message = "the engine shut down before this event was done; send it again"
    return Outcome("cancelled", code=Drained.code, message=message, retryable=Drained.retryable)


def expired() -> Outcome:
    """Its deadline passed before its handler began."""
    message = "its deadline passed before its handler began"
    return Outcome("expired", code=DeadlineExceeded.code, message=message, retryable=DeadlineExceeded.retryable)


def dropped(retry_after_s: float) -> Outcome:
    """A low event that had waited too long, behind others that had; it never began."""
    return Outcome(
        "dropped",
        code=Overloaded.code,
        message="events of its session keep waiting too long in the low lane, so this one was dropped; send fewer",
        retryable=Overloaded.retryable,
        retry_after_ms=ceil(retry_after_s * 1000),
    )


def to_tell(outcome: Outcome) -> bool:
    """Whether who sent the event is told: if it came to nothing, and not because somebody cancelled it."""
    return outcome.status in _FAILED or outcome.code == DeadlineExceeded.code


def failure(outcome: Outcome, counter: int) -> dict[str, object]:
    """Return the notice that tells a producer what its event of that counter came to."""
    told = {"code": outcome.code, "message": outcome.message, "retryable": outcome.retryable}
    when = {} if outcome.retry_after_ms is None else {"retry_after_ms": outcome.retry_after_ms}
    return {**told, **when, "counter": counter}


def stopped_late() -> Outcome:
    """Its deadline passed inside its handler, which was stopped."""
    message = "its deadline passed while it was handled"
    return Outcome("cancelled", code=DeadlineExceeded.code, message=message, retryable=DeadlineExceeded.retryable)


def quarantined(cell: str) -> Outcome:
    """Its cell crashed too often and takes nothing for a while."""
    message = f"cell {cell!r} crashed too often and rests for a minute; try again then"
    return Outcome("failed", code=HandlerFailed.code, message=message, retryable=True)


def failed(error: BaseException) -> Outcome:
    """Its handler raised this: an error of the tree keeps its code, anything else is HANDLER_FAILED."""
    if isinstance(error, LanewayError):
        status = "cancelled" if isinstance(error, Cancelled) else "failed"
        return Outcome(status, code=error.code, message=error.message, retryable=error.retryable)
    message = f"the handler raised {type(error).__name__}: {str(error)[:1000]}"
    return Outcome("failed", code=HandlerFailed.code, message=message, retryable=HandlerFailed.retryable)
