"""Where an end that cuts in stands."""

from __future__ import annotations

import msgpack

from laneway.actors.sessions.standing import standing_after
from laneway.routing.envelope import BODY
from tests.actors.sessions.stage import an_event


def test_only_the_error_of_a_run_is_opened() -> None:
    """It keeps what it said and tells after which seq; every other body goes as it came, whatever it is."""
    told = standing_after(an_event(1, "RUN_ERROR", body=msgpack.packb({"message": "no"})), 7)
    assert msgpack.unpackb(told[BODY]) == {"message": "no", "after": 7}
    assert msgpack.unpackb(standing_after(an_event(1, "RUN_ERROR"), 0)[BODY]) == {"after": 0}
    other = an_event(1, body=b"\xff")
    assert standing_after(other, 7) is other
