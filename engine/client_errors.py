"""What a server says went wrong, as the same error classes the server raised.

Law of this file: a client never parses sentences. Code, reason and delay come from the notice, or the
google.rpc details of a call's status. A failure that is told is never lost in silence: with nobody
to take it, it is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from laneway.routing.errors import (
    LanewayError,
    PeerProtocolError,
    RuntimeUnavailable,
    SessionExpired,
    Superseded,
    TokenExpired,
)
from laneway.routing.failures import error_of_code

__all__ = [
    "OnFailure",
    "error_of_call",
    "error_of_notice",
    "log_failure",
    "tell_failure",
    "worth_a_reconnect",
]

OnFailure: TypeAlias = Callable[[str, LanewayError], None]
"""Called with the id (`Receipt.id`) of an accepted event that failed outside of a run, and the error."""

_log: Final = logging.getLogger(__name__)

_STATUS_DETAILS: Final = "grpc-status-details-bin"
_RECONNECT_NEVER: Final = (Superseded,)


def error_of_notice(notice: Mapping[str, Any]) -> LanewayError:
    """Return the error of a `notice` header."""
    return error_of_code(
        notice.get("code"),
        notice.get("message", ""),
        reason=notice.get("reason", ""),
        retry_after_ms=notice.get("retry_after_ms"),
        retryable=notice.get("retryable") is True,
    )


def log_failure(event_id: str, error: LanewayError) -> None:
    """Log a warning: the `OnFailure` of who gave none."""
    _log.warning("event %s failed: %s: %s", event_id, error.code, error.message)


def tell_failure(client: str, notice: Mapping[str, Any], on_failure: OnFailure) -> bool:
    """Hand on the failure of one event of `client`; return False if the notice is about something else.

    What `on_failure` raises is logged: it is no trouble of the connection.
    """
    if "counter" not in notice:
        return False
    event_id, error = f"{client}:{notice['counter']}", error_of_notice(notice)
    try:
        on_failure(event_id, error)
    except Exception:
        _log.exception("on_failure raised on event %s, which failed: %s: %s", event_id, error.code, error.message)
    return True


def error_of_call(error: Any) -> LanewayError:
    """Return the error of a grpc.aio.AioRpcError; without our details, a retryable RuntimeUnavailable."""
    found = _error_of_details(error.trailing_metadata())
    if found is not None:
        return found
    status = error.code().name
    text = f"the call ended with {status}: {error.details()}"
    if status == "UNIMPLEMENTED":
        return PeerProtocolError(f"{text}; is this a laneway edge?", reason="NOT_AN_EDGE")
    if status == "RESOURCE_EXHAUSTED":
        return PeerProtocolError(text, reason="TOO_LARGE")
    return RuntimeUnavailable(text, reason=status)


def _error_of_details(metadata: Any) -> LanewayError | None:
    from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

    packed = next((value for key, value in metadata or () if key == _STATUS_DETAILS), None)
    if packed is None:
        return None
    status = status_pb2.Status.FromString(packed)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    delay: int | None = None
    for detail in status.details:
        if detail.Is(retry.DESCRIPTOR) and detail.Unpack(retry):
            delay = retry.retry_delay.ToMilliseconds()
        elif detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
    if not info.reason:
        return None
    return error_of_code(
        info.reason,
        status.message,
        reason=info.metadata.get("reason", ""),
        retry_after_ms=delay,
        retryable=info.metadata.get("retryable") == "true",
    )


def worth_a_reconnect(error: LanewayError, *, fresh_token: bool) -> bool:
    """Say whether connecting again may help.

    Args:
        fresh_token: the client can get new credentials.
    """
    if isinstance(error, SessionExpired | TokenExpired):
        return fresh_token
    return error.retryable and not isinstance(error, _RECONNECT_NEVER)
