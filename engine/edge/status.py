"""Our error codes on each wire: gRPC status, HTTP status, WebSocket close code. One table.

Law of this file: the code and reason of routing/errors.py are the contract; a wire's own status
is derived here and nowhere else, and never carries more than the error's finished sentence.

Choices: `retryable` refusals of one peer are RESOURCE_EXHAUSTED/429 and of the whole engine
UNAVAILABLE/503 (https://google.aip.dev/193, RFC 9110 section 15, RFC 6585); WebSocket codes
4000-4999 are private use (RFC 6455 section 7.4.2) and repeat the HTTP status, except where the
RFC has its own: 1002 protocol error, 1009 too big, 1011 internal, 1012 restart, 1013 try later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from laneway.routing.errors import LanewayError

if TYPE_CHECKING:
    from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

__all__ = ["DOMAIN", "HTTP_STATUSES", "WireStatus", "retry_after_s", "rich_status", "wire_status"]

DOMAIN: Final = "laneway"
"""Domain of every google.rpc.ErrorInfo we send."""


class WireStatus(NamedTuple):
    """One row.

    Attributes:
        grpc: name of the canonical code (`grpc.StatusCode[...]`).
        http: HTTP status.
        ws: WebSocket close code.
    """

    grpc: str
    http: int
    ws: int


_INTERNAL: Final = WireStatus("INTERNAL", 500, 1011)

_BY_CODE: Final = {
    "INTERNAL": _INTERNAL,
    "CONFIG": _INTERNAL,
    "PROTOCOL": WireStatus("INVALID_ARGUMENT", 400, 1002),
    "LOCAL_PROTOCOL": _INTERNAL,
    "MALFORMED": WireStatus("INVALID_ARGUMENT", 400, 1002),
    "PERMISSION_DENIED": WireStatus("PERMISSION_DENIED", 403, 4403),
    "UNAUTHENTICATED": WireStatus("UNAUTHENTICATED", 401, 4401),
    "TOKEN_INVALID": WireStatus("UNAUTHENTICATED", 401, 4401),
    "TOKEN_EXPIRED": WireStatus("UNAUTHENTICATED", 401, 4401),
    "REFUSED": WireStatus("RESOURCE_EXHAUSTED", 429, 4429),
    "RATE_LIMITED": WireStatus("RESOURCE_EXHAUSTED", 429, 4429),
    "OVERLOADED": WireStatus("UNAVAILABLE", 503, 1013),
    "LANE_FULL": WireStatus("RESOURCE_EXHAUSTED", 429, 4429),
    "STORE_UNAVAILABLE": WireStatus("UNAVAILABLE", 503, 1013),
    "DRAINING": WireStatus("UNAVAILABLE", 503, 1012),
    "SESSION": WireStatus("FAILED_PRECONDITION", 409, 4409),
    "NOT_FOUND": WireStatus("NOT_FOUND", 404, 4404),
    "SESSION_EXPIRED": WireStatus("UNAUTHENTICATED", 401, 4401),
    "RESUME_FAILED": WireStatus("OUT_OF_RANGE", 409, 4409),
    "SUPERSEDED": WireStatus("ABORTED", 409, 4409),
    "SLOW_CONSUMER": WireStatus("RESOURCE_EXHAUSTED", 429, 4429),
    "LINK_CLOSED": WireStatus("CANCELLED", 499, 1000),
    "LINK_LOST": WireStatus("UNAVAILABLE", 408, 4408),
    "NOT_OWNER": WireStatus("UNAVAILABLE", 503, 1013),
    "IDEMPOTENCY_MISMATCH": WireStatus("ALREADY_EXISTS", 409, 4409),
    "RUN_FAILED": _INTERNAL,
    "CANCELLED": WireStatus("CANCELLED", 499, 4499),
    "DEADLINE_EXCEEDED": WireStatus("DEADLINE_EXCEEDED", 504, 4504),
    "HANDLER_FAILED": _INTERNAL,
    "HOST_LOST": WireStatus("UNAVAILABLE", 503, 1013),
    "DRAINED": WireStatus("UNAVAILABLE", 503, 1012),
    "PAUSED": WireStatus("UNAVAILABLE", 503, 1013),
    "MODEL_FAILED": WireStatus("UNAVAILABLE", 502, 1011),
    "TOOL_FAILED": _INTERNAL,
    "TOOL_UNKNOWN": WireStatus("NOT_FOUND", 404, 4404),
    "TOOL_DENIED": WireStatus("PERMISSION_DENIED", 403, 4403),
    "INVALID_ARGUMENT": WireStatus("INVALID_ARGUMENT", 400, 4400),
    "TOOL_TIMEOUT": WireStatus("DEADLINE_EXCEEDED", 504, 4504),
    "TOOL_CRASHED": _INTERNAL,
    "TOOL_UNAVAILABLE": WireStatus("UNAVAILABLE", 503, 1013),
    "OUTCOME_UNKNOWN": WireStatus("UNKNOWN", 500, 1011),
    "STORE_FAILED": WireStatus("UNAVAILABLE", 503, 1013),
    "RUNTIME_UNAVAILABLE": WireStatus("UNAVAILABLE", 503, 1013),
}

_BY_REASON: Final = {
    "TOO_LARGE": WireStatus("RESOURCE_EXHAUSTED", 413, 1009),
    "BAD_HOST": WireStatus("PERMISSION_DENIED", 421, 4403),
    "BAD_ORIGIN": WireStatus("PERMISSION_DENIED", 403, 4403),
    "BINARY_MESSAGE": WireStatus("INVALID_ARGUMENT", 400, 1003),
    "ENCODED": WireStatus("INVALID_ARGUMENT", 415, 1003),
    "HEADERS_TOO_LARGE": WireStatus("RESOURCE_EXHAUSTED", 431, 1009),
    "METHOD": WireStatus("UNIMPLEMENTED", 405, 1002),
    "NOT_ACCEPTABLE": WireStatus("INVALID_ARGUMENT", 406, 1002),
    "NO_ROUTE": WireStatus("UNIMPLEMENTED", 404, 4404),
    "SLOW_BODY": WireStatus("DEADLINE_EXCEEDED", 408, 4408),
    "SLOW_HEADERS": WireStatus("DEADLINE_EXCEEDED", 408, 4408),
    "TEXT_MESSAGE": WireStatus("INVALID_ARGUMENT", 400, 1003),
    "UNSUPPORTED_MEDIA": WireStatus("INVALID_ARGUMENT", 415, 1003),
    "URL_TOO_LONG": WireStatus("RESOURCE_EXHAUSTED", 414, 1009),
}
"""Reasons that HTTP or WebSocket have a number of their own for (RFC 9110 section 15, RFC 6585)."""

HTTP_STATUSES: Final = tuple(sorted({row.http for table in (_BY_CODE, _BY_REASON) for row in table.values()}))
"""Every status that an error can have."""


def wire_status(error: LanewayError) -> WireStatus:
    """Return the row of an error's reason, else of its code; codes this version does not know are INTERNAL."""
    return _BY_REASON.get(error.reason) or _BY_CODE.get(error.code, _INTERNAL)


def retry_after_s(error: LanewayError) -> int | None:
    """Return whole seconds for an HTTP Retry-After header, rounded up, or None."""
    return None if error.retry_after_ms is None else -(-error.retry_after_ms // 1000)


def rich_status(error: LanewayError) -> Status:
    """Return the google.rpc.Status with ErrorInfo and RetryInfo that a gRPC call ends with.

    ErrorInfo.reason is our code; its metadata holds `reason` and `retryable`, and RetryInfo the
    delay where it is known (https://google.aip.dev/193#statusdetails).
    """
    from google.protobuf.any_pb2 import Any
    from google.protobuf.duration_pb2 import Duration
    from google.rpc import code_pb2, error_details_pb2, status_pb2  # type: ignore[import-untyped]

    info = error_details_pb2.ErrorInfo(reason=error.code, domain=DOMAIN)
    info.metadata["retryable"] = "true" if error.retryable else "false"
    if error.reason:
        info.metadata["reason"] = error.reason
    status = status_pb2.Status(code=code_pb2.Code.Value(wire_status(error).grpc), message=error.message)
    details: list[Any] = [Any()]
    details[0].Pack(info)
    if error.retry_after_ms is not None:
        delay = Duration()
        delay.FromMilliseconds(error.retry_after_ms)
        details.append(Any())
        details[1].Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    status.details.extend(details)
    return status
