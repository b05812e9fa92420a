"""A frame is events of one producer in one session, in order; anything else is not one."""

from __future__ import annotations

import pytest

from laneway.routing.envelope import COUNTER, KIND, LANE, Envelope, cost_bytes, envelope, with_trace
from laneway.routing.frame import FEWEST, ascending, frame_of


def _event(counter: int, *, session: str = "s", tenant: str = "t", producer: str = "p", after: str = "") -> Envelope:
    return envelope(
        "K",
        producer=producer,
        counter=counter,
        tenant=tenant,
        session=session,
        lane=1 + counter % 2,
        after=after,
        body=bytes(counter),
    )


def test_its_columns_are_those_of_its_events() -> None:
    """In their order; what they weigh is the sum."""
    envs = [_event(counter) for counter in (3, 4, 7, 9)]
    frame = frame_of(envs)
    assert frame is not None
    assert (frame.tenant, frame.session, frame.producer, len(frame)) == ("t", "s", "p", 4)
    assert frame == envs
    assert frame.counters == [env[COUNTER] for env in envs]
    assert (frame.kinds, frame.lanes) == ([env[KIND] for env in envs], [env[LANE] for env in envs])
    assert (frame.cost_bytes, frame.largest_bytes) == (sum(map(cost_bytes, envs)), 9)


def test_it_keeps_its_events_whatever_becomes_of_the_list() -> None:
    """Whoever brought the list may change it."""
    envs = [_event(counter) for counter in range(1, 5)]
    frame = frame_of(envs)
    assert frame is not None
    envs.clear()
    assert len(frame) == 4


def test_its_sampled_events_are_found() -> None:
    """Mostly there are none."""
    envs = [_event(counter) for counter in range(1, 6)]
    plain, sampled = frame_of(envs), frame_of([*envs[:2], with_trace(envs[2], "00-x"), *envs[3:]])
    assert plain is not None
    assert sampled is not None
    assert list(plain.traced) == []
    assert [env[COUNTER] for env in sampled.traced] == [3]


@pytest.mark.parametrize(
    "last",
    [
        _event(9, session="x"),
        _event(9, tenant="x"),
        _event(9, producer="x"),
        _event(9, after="p:1"),
        _event(2),
        _event(3),
    ],
)
def test_events_that_do_not_belong_together_are_no_frame(last: Envelope) -> None:
    """Another session, tenant or producer, an order to keep, a counter that does not ascend."""
    assert frame_of([_event(1), _event(2), _event(3), last]) is None


def test_few_events_are_no_frame() -> None:
    """A line for each costs less."""
    assert frame_of([_event(counter) for counter in range(1, FEWEST)]) is None
    assert frame_of([]) is None


def test_counters_ascend_with_holes_or_without() -> None:
    """Each is above the one before it."""
    assert ascending([5])
    assert ascending([5, 6, 7])
    assert ascending([5, 7, 90])
    assert not ascending([5, 5])
    assert not ascending([5, 7, 6])
