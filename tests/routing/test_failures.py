"""An error told as plain data is raised on the other side as the class that it was."""

from __future__ import annotations

import pytest

from laneway.routing.errors import HostLost, LanewayError, Overloaded, PeerProtocolError, TokenInvalid
from laneway.routing.failures import error_fields, error_of_code, error_of_fields

EXAMPLES = [Overloaded("full", reason="HOST", retry_after_ms=70), HostLost("gone"), TokenInvalid("no")]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: error.code)
def test_an_error_survives_the_way(error: LanewayError) -> None:
    """Class, sentence, reason and delay come back from plain data."""
    found = error_of_fields(error_fields(error))
    assert type(found) is type(error)
    assert (found.message, found.reason, found.retry_after_ms) == (error.message, error.reason, error.retry_after_ms)


def test_an_unknown_code_keeps_its_promise() -> None:
    """A newer version's code stays that code; whether to retry is the other side's word."""
    found = error_of_fields(["NEW_THING", "?", "", True, 9])
    assert (found.code, found.retryable, found.retry_after_ms) == ("NEW_THING", True, 9)
    assert "NEW_THING" in str(found)


def test_half_a_character_is_no_trouble() -> None:
    """A sentence that quotes what is no text still arrives."""
    told = error_fields(HostLost("\udcff"))
    assert told[1].encode() == b"?"


def test_values_of_a_wrong_type_are_dropped() -> None:
    """What the other side says of an error need not be well formed."""
    odd = error_of_code(7, None, reason=1, retry_after_ms="soon")
    assert (odd.code, odd.reason, odd.retry_after_ms, odd.retryable) == ("7", "", None, False)


@pytest.mark.parametrize("fields", [None, "OVERLOADED", [], ["OVERLOADED", "full"]], ids=repr)
def test_what_is_no_error_is_refused(fields: object) -> None:
    """Anything but five fields breaks the contract between hosts."""
    with pytest.raises(PeerProtocolError, match="retry_after_ms"):
        error_of_fields(fields)
