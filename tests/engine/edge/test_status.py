"""Every error has a status on every wire, and the gRPC one says enough to act on."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2

from laneway.engine.edge import status
from laneway.engine.edge.status import retry_after_s, rich_status, wire_status
from laneway.routing.errors import LanewayError, PeerProtocolError, RateLimited, TokenInvalid, UnknownSession


def _tree(root: type[LanewayError]) -> list[type[LanewayError]]:
    children = [child for child in root.__subclasses__() if child.__module__ == LanewayError.__module__]
    return [root, *(leaf for child in children for leaf in _tree(child))]


@pytest.mark.parametrize("kind", _tree(LanewayError), ids=lambda kind: kind.code)
def test_every_code_has_a_row(kind: type[LanewayError]) -> None:
    """No code falls back to INTERNAL by being forgotten; each row names real statuses."""
    assert kind.code in status._BY_CODE
    row = wire_status(kind("why"))
    assert row.grpc in grpc.StatusCode.__members__
    assert 400 <= row.http < 600
    assert 1000 <= row.ws <= 1013 or 4000 <= row.ws < 5000


def test_too_large_is_told_as_such_on_every_wire() -> None:
    """The size rule outranks the class of the error."""
    assert wire_status(PeerProtocolError("big", reason="TOO_LARGE")) == ("RESOURCE_EXHAUSTED", 413, 1009)
    assert wire_status(TokenInvalid("big", reason="TOO_LARGE")).http == 413


def test_rich_status_carries_code_reason_and_delay() -> None:
    """ErrorInfo names our code and RetryInfo the delay, after AIP-193."""
    found = rich_status(RateLimited("too fast", reason="SESSION", retry_after_ms=1500))
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert found.details[0].Unpack(info)
    assert found.details[1].Unpack(retry)
    assert (found.code, found.message) == (grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], "too fast")
    assert (info.reason, info.domain) == ("RATE_LIMITED", "laneway")
    assert dict(info.metadata) == {"reason": "SESSION", "retryable": "true"}
    assert retry.retry_delay.ToMilliseconds() == 1500


def test_no_delay_is_invented() -> None:
    """Without retry_after_ms there is no RetryInfo and no Retry-After."""
    assert len(rich_status(UnknownSession("none")).details) == 1
    assert retry_after_s(UnknownSession("none")) is None
    assert retry_after_s(RateLimited("x", retry_after_ms=1001)) == 2
