"""What an application says of its event is looked at before it goes anywhere."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.engine.codec import check_event
from laneway.engine.frames import Frames
from laneway.routing.classify import KindTable
from laneway.routing.envelope import NO_DEADLINE
from laneway.routing.errors import LocalProtocolError

_TEXTS = st.one_of(
    st.text(max_size=4), st.sampled_from(["", "r1", "p:1", ".", "x" * 64, "x" * 65, "y" * 129, "\ud800"])
)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"run": "two words"}, "must be ids"),
        ({"entity": "my document"}, "must be ids"),
        ({"after": "x" * 129}, "must be ids"),
        ({"after": "\ud800:1"}, "must be ids"),
        ({"left_s": nan}, "seconds from now"),
        ({"left_s": 1e300}, "seconds from now"),
        ({"left_s": -inf}, "seconds from now"),
        ({"trace": "\ud800"}, "no traceparent"),
    ],
)
def test_what_cannot_travel_is_refused_with_its_reason(said: dict[str, Any], why: str) -> None:
    """By name, whatever else is right."""
    with pytest.raises(LocalProtocolError, match=why):
        check_event(b"body", **said)


def test_a_body_is_bytes_of_a_size() -> None:
    """Each of several."""
    check_event(b"1", b"22", body_bytes=2)
    for bodies in ((b"1", b"333"), (b"1", "2"), (bytearray(b"1"),)):
        with pytest.raises(LocalProtocolError, match="a body"):
            check_event(*bodies, body_bytes=2)  # type: ignore[arg-type]


@given(
    _TEXTS,
    _TEXTS,
    _TEXTS,
    st.one_of(st.floats(), st.sampled_from([inf, 0.0, -1.0, 8.9e15])),
    _TEXTS,
)
def test_what_passes_travels(run: str, entity: str, after: str, left_s: float, trace: str) -> None:
    """It can be packed, and whoever takes it refuses none of it."""
    try:
        check_event(b"x", run=run, entity=entity, after=after, left_s=left_s, trace=trace)
    except LocalProtocolError:
        return
    frames = Frames(KindTable(), lambda: 1.0)
    deadline = NO_DEADLINE if left_s == inf else 1.0 + left_s
    env = ("c", 1, "PUBLISH", "", "", run, entity, 2, deadline, trace, after, b"x", 0.0)
    (read,) = frames.decode(frames.encode({}, [env]))[1]
    assert (read[5], read[6], read[10]) == (run, entity, after)
