"""What a dispatcher answers is plain: the envelope to go on with, or the error; its books are values."""

from __future__ import annotations

import pytest

from laneway.routing.classify import KindTable
from laneway.routing.dispatch import DispatchCore
from laneway.routing.envelope import envelope
from laneway.routing.errors import PeerProtocolError


def test_an_answer_is_the_event_or_the_error() -> None:
    """So that a caller tells them apart by type and nothing has to be unpacked."""
    env = envelope("NOPE", producer="p", counter=1, tenant="t", session="s", lane=2)
    (answer,) = DispatchCore(KindTable()).admit([env], 0.0)
    assert isinstance(answer, PeerProtocolError)


def test_statistics_are_values() -> None:
    """What was read does not change afterwards."""
    books = DispatchCore(KindTable()).statistics()
    with pytest.raises(AttributeError):
        books.pending = 1  # type: ignore[misc]
