"""What went wrong arrives as the class that was raised, from every place a server may say it."""

from __future__ import annotations

import grpc
import pytest

from laneway.engine.client_errors import (
    error_of_call,
    error_of_notice,
    log_failure,
    tell_failure,
    worth_a_reconnect,
)
from laneway.engine.edge.status import rich_status
from laneway.engine.edge.stream import notice
from laneway.routing.errors import (
    Draining,
    HandlerFailed,
    LanewayError,
    PeerProtocolError,
    RateLimited,
    RuntimeUnavailable,
    SessionExpired,
    SlowConsumer,
    Superseded,
    TokenExpired,
    TokenInvalid,
)

EXAMPLES = [RateLimited("slow", reason="SESSION", retry_after_ms=70), Superseded("newer"), TokenInvalid("no")]


class _Call:
    """The parts of an AioRpcError that are read."""

    def __init__(self, status: grpc.StatusCode, metadata: tuple[tuple[str, bytes], ...] = ()) -> None:
        self._status, self._metadata = status, metadata

    def code(self) -> grpc.StatusCode:
        return self._status

    def details(self) -> str:
        return "why"

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        return self._metadata


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: error.code)
def test_errors_survive_both_ways(error: LanewayError) -> None:
    """A notice and a status's details give back class, reason, sentence and delay."""
    details = (("grpc-status-details-bin", rich_status(error).SerializeToString()),)
    for found in (error_of_notice(notice(error, fatal=True)), error_of_call(_Call(grpc.StatusCode.ABORTED, details))):
        assert type(found) is type(error)
        assert (found.message, found.reason) == (error.message, error.reason)
        assert found.retry_after_ms == error.retry_after_ms


def test_unknown_codes_keep_their_promise() -> None:
    """A newer server's code is an error with that code; whether to retry is the server's word."""
    found = error_of_notice({"code": "NEW_THING", "message": "?", "retryable": True, "retry_after_ms": 9})
    assert (found.code, found.retryable, found.retry_after_ms) == ("NEW_THING", True, 9)
    assert "NEW_THING" in str(found)


def test_statuses_without_our_details() -> None:
    """A broken connection is retryable; a server that is no edge, and a message too large, are not."""
    assert error_of_call(_Call(grpc.StatusCode.UNAVAILABLE)).retryable
    assert error_of_call(_Call(grpc.StatusCode.UNIMPLEMENTED)).reason == "NOT_AN_EDGE"
    assert error_of_call(_Call(grpc.StatusCode.RESOURCE_EXHAUSTED)).reason == "TOO_LARGE"


def test_what_is_worth_a_reconnect() -> None:
    """Load, drains, slowness and broken networks are; protocol errors, refusals of the person and takeovers not."""
    for error in (Draining("x"), SlowConsumer("x"), RuntimeUnavailable("x")):
        assert worth_a_reconnect(error, fresh_token=False)
    for error in (PeerProtocolError("x"), TokenInvalid("x"), Superseded("x")):
        assert not worth_a_reconnect(error, fresh_token=True)
    for error in (SessionExpired("x"), TokenExpired("x")):
        assert worth_a_reconnect(error, fresh_token=True)
        assert not worth_a_reconnect(error, fresh_token=False)


FAILURE = {"code": "HANDLER_FAILED", "message": "a bug", "retryable": False, "counter": 7}


def test_a_failure_is_handed_on_with_the_events_id() -> None:
    """A notice with a counter is one event's failure; every other notice is not."""
    told: list[tuple[str, LanewayError]] = []

    def take(event_id: str, error: LanewayError) -> None:
        told.append((event_id, error))

    assert tell_failure("ada", FAILURE, take)
    assert not tell_failure("ada", notice(Draining("soon"), fatal=False), take)
    assert [(event_id, type(error), error.message) for event_id, error in told] == [("ada:7", HandlerFailed, "a bug")]


def test_a_failure_is_never_silent(caplog: pytest.LogCaptureFixture) -> None:
    """Without somebody to take it, or when that one fails, it is in the log."""
    assert tell_failure("ada", FAILURE, log_failure)
    assert caplog.messages == ["event ada:7 failed: HANDLER_FAILED: a bug"]
    caplog.clear()

    def broken(event_id: str, error: LanewayError) -> None:
        raise ZeroDivisionError

    assert tell_failure("ada", FAILURE, broken)
    assert "ada:7" in caplog.text
    assert "ZeroDivisionError" in caplog.text
