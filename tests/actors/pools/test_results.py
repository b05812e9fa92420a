"""What a handler gave becomes one outcome, and what it wants sent is sent first."""

from __future__ import annotations

import asyncio

import pytest

from laneway.actors.pools.results import BROKEN_OFF, end_span, outcome_of, raised
from laneway.actors.ports import Out
from laneway.routing.errors import Cancelled, HandlerFailed


async def _later(value):
    return value


@pytest.mark.parametrize(
    ("result", "value", "emitted"),
    [(None, b"", []), (b"x", b"x", []), (Out("A"), b"", ["A"]), ([Out("A"), Out("B")], b"", ["A", "B"])],
)
def test_each_kind_of_result_is_understood(rig, result, value, emitted):
    """Given at once, or awaited first."""

    async def main():
        for given in (result, _later(result)):
            context = rig.Context(rig.event(1), "")
            outcome = await outcome_of(given, context)
            assert (outcome.status, outcome.value) == ("handled", value)
            assert [out.kind for out in context.outs] == emitted

    asyncio.run(main())


def test_an_exception_that_is_returned_is_raised(rig):
    """So a batch handler can fail one event."""

    async def main():
        with pytest.raises(ZeroDivisionError):
            await outcome_of(ZeroDivisionError("x"), rig.Context(rig.event(1), ""))
        with pytest.raises(HandlerFailed, match="not int"):
            await outcome_of(5, rig.Context(rig.event(1), ""))

    asyncio.run(main())


def test_what_was_raised_keeps_its_code(rig):
    """A cancel is cancelled, not failed."""
    assert raised(Cancelled("enough"), rig.event(1)).status == "cancelled"
    assert raised(ValueError("bad"), rig.event(1)).code == "HANDLER_FAILED"


def test_the_span_ends_as_the_event_did():
    """With the code, unless it was handled."""
    ends = []

    class Span:
        def end(self, *why):
            ends.append(why)

    end_span(Span(), BROKEN_OFF)
    assert ends == [("CANCELLED", BROKEN_OFF.message)]
