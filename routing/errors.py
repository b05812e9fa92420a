"""Every error laneway raises or sends, in one tree; a code is stable across versions.

Law of this file: an error has a `code` (what a program matches), a finished `message` (what a
person reads: what happened, why, what to do), `retryable` (whether the same call may succeed
later) and, where it is known, `retry_after_ms`. Only `engine/edge/status.py` maps them to a wire.

::

    LanewayError
    +-- ConfigError              CONFIG
    +-- ProtocolError            PROTOCOL
    |   +-- LocalProtocolError   LOCAL_PROTOCOL      the caller broke the contract: a bug here
    |   +-- PeerProtocolError    MALFORMED           the client broke it; `reason` says which rule
    +-- AccessError              PERMISSION_DENIED
    |   +-- Unauthenticated      UNAUTHENTICATED     no or unusable credentials
    |   +-- TokenInvalid         TOKEN_INVALID
    |   +-- TokenExpired         TOKEN_EXPIRED
    +-- AdmissionError           REFUSED
    |   +-- RateLimited          RATE_LIMITED        + retry_after_ms
    |   +-- Overloaded           OVERLOADED          + retry_after_ms
    |   +-- LaneFull             LANE_FULL           + retry_after_ms; the session's or tenant's cap
    |   +-- StoreUnavailable     STORE_UNAVAILABLE   + retry_after_ms
    |   +-- Draining             DRAINING            + retry_after_ms
    +-- SessionError             SESSION
    |   +-- UnknownSession       NOT_FOUND           also what a foreign tenant sees
    |   +-- SessionExpired       SESSION_EXPIRED
    |   +-- ResumeFailed         RESUME_FAILED       reason EPOCH_MISMATCH | OUT_OF_WINDOW
    |   +-- Superseded           SUPERSEDED          a newer link of the same client is live
    |   +-- SlowConsumer         SLOW_CONSUMER       resumable
    |   +-- LinkClosed           LINK_CLOSED         the client said goodbye
    |   +-- LinkLost             LINK_LOST           no sign of life from the client; resumable
    |   +-- Fenced               NOT_OWNER           a newer home holds this log
    |   +-- IdempotencyMismatch  IDEMPOTENCY_MISMATCH same key, other arguments
    +-- RunError                 RUN_FAILED
    |   +-- Cancelled            CANCELLED
    |   +-- DeadlineExceeded     DEADLINE_EXCEEDED
    |   +-- HandlerFailed        HANDLER_FAILED
    |   +-- HostLost             HOST_LOST
    |   +-- Drained              DRAINED
    |   +-- Paused               PAUSED              nobody read it; a new run with parentRunId goes on
    |   +-- ModelFailed          MODEL_FAILED
    +-- ToolError                TOOL_FAILED
    |   +-- UnknownTool          TOOL_UNKNOWN
    |   +-- ToolDenied           TOOL_DENIED
    |   +-- ToolArguments        INVALID_ARGUMENT
    |   +-- ToolTimeout          TOOL_TIMEOUT
    |   +-- ToolCrashed          TOOL_CRASHED
    |   +-- ToolUnavailable      TOOL_UNAVAILABLE    + retry_after_ms; breaker open, server gone
    |   +-- OutcomeUnknown       OUTCOME_UNKNOWN     crashed between effect and record; never re-run
    +-- StoreError               STORE_FAILED
    +-- RuntimeUnavailable       RUNTIME_UNAVAILABLE
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AccessError",
    "AdmissionError",
    "Cancelled",
    "ConfigError",
    "DeadlineExceeded",
    "Drained",
    "Draining",
    "Fenced",
    "HandlerFailed",
    "HostLost",
    "IdempotencyMismatch",
    "LaneFull",
    "LanewayError",
    "LinkClosed",
    "LinkLost",
    "LocalProtocolError",
    "ModelFailed",
    "OutcomeUnknown",
    "Overloaded",
    "Paused",
    "PeerProtocolError",
    "ProtocolError",
    "RateLimited",
    "ResumeFailed",
    "RunError",
    "RuntimeUnavailable",
    "SessionError",
    "SessionExpired",
    "SlowConsumer",
    "StoreError",
    "StoreUnavailable",
    "Superseded",
    "TokenExpired",
    "TokenInvalid",
    "ToolArguments",
    "ToolCrashed",
    "ToolDenied",
    "ToolError",
    "ToolTimeout",
    "ToolUnavailable",
    "Unauthenticated",
    "UnknownSession",
    "UnknownTool",
]


class LanewayError(Exception):
    """Root of the tree. Raise a leaf, never this class.

    Args:
        message: a finished sentence for a person.
        reason: an upper-case refinement of the code (`DEPTH_EXCEEDED`), or empty.
        retry_after_ms: earliest useful retry in milliseconds, or None if unknown.
    """

    code: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, reason: str = "", retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.retry_after_ms = retry_after_ms

    def __str__(self) -> str:
        label = f"{self.code}/{self.reason}" if self.reason else self.code
        return f"{label}: {self.message}"


class ConfigError(LanewayError):
    """The set-up is wrong; the message names the field and the fix."""

    code = "CONFIG"


class ProtocolError(LanewayError):
    """One side broke the contract."""

    code = "PROTOCOL"


class LocalProtocolError(ProtocolError):
    """The caller in this process broke it: a bug to fix, not a condition to handle."""

    code = "LOCAL_PROTOCOL"


class PeerProtocolError(ProtocolError):
    """The client broke it; `reason` names the rule (DEPTH_EXCEEDED, UNKNOWN_KIND, ...)."""

    code = "MALFORMED"


class AccessError(LanewayError):
    """The principal may not do this."""

    code = "PERMISSION_DENIED"


class Unauthenticated(AccessError):
    """No usable credentials were given."""

    code = "UNAUTHENTICATED"


class TokenInvalid(Unauthenticated):
    """The token's signature, claims or form are wrong."""

    code = "TOKEN_INVALID"


class TokenExpired(Unauthenticated):
    """The token was good and is over; a fresh one helps."""

    code = "TOKEN_EXPIRED"
    retryable = True


class AdmissionError(LanewayError):
    """Not accepted, nothing was kept; the producer may retry after `retry_after_ms`."""

    code = "REFUSED"
    retryable = True


class RateLimited(AdmissionError):
    """Faster than the rate agreed for this session, principal or tenant."""

    code = "RATE_LIMITED"


class Overloaded(AdmissionError):
    """The engine sheds load of this class for the moment."""

    code = "OVERLOADED"


class LaneFull(AdmissionError):
    """The session (or tenant) already has as much queued as it may."""

    code = "LANE_FULL"


class StoreUnavailable(AdmissionError):
    """The log cannot be written, so nothing durable is accepted."""

    code = "STORE_UNAVAILABLE"


class Draining(AdmissionError):
    """This engine is shutting down; another one, or this one later, will serve."""

    code = "DRAINING"


class SessionError(LanewayError):
    """The session or link cannot go on as asked."""

    code = "SESSION"


class UnknownSession(SessionError):
    """There is no such session for this principal."""

    code = "NOT_FOUND"


class SessionExpired(SessionError):
    """The credentials of the link are over."""

    code = "SESSION_EXPIRED"
    retryable = True


class ResumeFailed(SessionError):
    """The gap cannot be replayed whole; a snapshot follows. Never a partial replay."""

    code = "RESUME_FAILED"


class Superseded(SessionError):
    """A newer link of the same client took over."""

    code = "SUPERSEDED"


class SlowConsumer(SessionError):
    """The link fell further behind than the log reaches; resume or reload."""

    code = "SLOW_CONSUMER"
    retryable = True


class LinkClosed(SessionError):
    """The client said goodbye; its session and runs go on."""

    code = "LINK_CLOSED"


class LinkLost(SessionError):
    """The client gave no sign of life within the agreed time; it may resume."""

    code = "LINK_LOST"
    retryable = True


class Fenced(SessionError):
    """A newer home has this log; connecting again finds it."""

    code = "NOT_OWNER"
    retryable = True


class IdempotencyMismatch(SessionError):
    """The same idempotency key came with other arguments."""

    code = "IDEMPOTENCY_MISMATCH"


class RunError(LanewayError):
    """A run ended without its result."""

    code = "RUN_FAILED"


class Cancelled(RunError):
    """Ended on request."""

    code = "CANCELLED"


class DeadlineExceeded(RunError):
    """Its deadline passed before or while it was handled."""

    code = "DEADLINE_EXCEEDED"
    retryable = True


class HandlerFailed(RunError):
    """The handler raised; the message names it and the cause."""

    code = "HANDLER_FAILED"


class HostLost(RunError):
    """The process that carried it died; a retry is a new run with parentRunId."""

    code = "HOST_LOST"
    retryable = True


class Drained(RunError):
    """The engine shut down before it could end; logged before exit."""

    code = "DRAINED"
    retryable = True


class Paused(RunError):
    """Nobody read it, so its model was let go; a new run with parentRunId goes on where it stopped."""

    code = "PAUSED"
    retryable = True


class ModelFailed(RunError):
    """The model endpoint refused, broke off or answered nonsense."""

    code = "MODEL_FAILED"
    retryable = True


class ToolError(LanewayError):
    """A tool call ended without its result."""

    code = "TOOL_FAILED"


class UnknownTool(ToolError):
    """No tool of that name is in the catalogue for this principal."""

    code = "TOOL_UNKNOWN"


class ToolDenied(ToolError):
    """The call is outside the principal's scopes or the sandbox's rules."""

    code = "TOOL_DENIED"


class ToolArguments(ToolError):
    """The arguments do not fit the tool's schema; `reason` is the path."""

    code = "INVALID_ARGUMENT"


class ToolTimeout(ToolError):
    """Still running at its deadline; stopped."""

    code = "TOOL_TIMEOUT"
    retryable = True


class ToolCrashed(ToolError):
    """Its worker process died."""

    code = "TOOL_CRASHED"


class ToolUnavailable(ToolError):
    """Its server is gone or its breaker is open."""

    code = "TOOL_UNAVAILABLE"
    retryable = True


class OutcomeUnknown(ToolError):
    """A crash fell between effect and record; it is not run again by itself."""

    code = "OUTCOME_UNKNOWN"


class StoreError(LanewayError):
    """A store operation failed; the message names the operation and the cause."""

    code = "STORE_FAILED"
    retryable = True


class RuntimeUnavailable(LanewayError):
    """The runtime cannot start or reach its hosts."""

    code = "RUNTIME_UNAVAILABLE"
    retryable = True
