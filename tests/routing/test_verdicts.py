"""What a dispatcher answers is plain: the envelope to go on with, or the error."""

from __future__ import annotations

from laneway.routing.envelope import envelope
from laneway.routing.errors import LaneFull
from laneway.routing.verdicts import Admitted, Refused


def test_an_answer_carries_what_to_go_on_with() -> None:
    """Admitted: the envelope, whose lane may be another now; refused: why."""
    env = envelope("K", producer="p", counter=1, tenant="t", session="s", lane=2)
    error = LaneFull("no room")
    assert Admitted(env).env is env
    assert Refused(error).error is error
