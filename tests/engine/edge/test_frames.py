"""Frames as msgpack, there and back."""

from __future__ import annotations

import pytest

from laneway.engine.edge.frames import PackedFrames
from laneway.engine.limits import Limits
from laneway.routing.errors import PeerProtocolError
from tests.engine.edge.double import KINDS, SystemClock, user_message


def test_there_and_back() -> None:
    """Header and events are the same; only ACCEPTED is the receiver's own."""
    frames = PackedFrames(KINDS, SystemClock())
    header, envelopes = frames.decode(frames.encode({"ping": 3}, [user_message("hello")]))
    assert header == {"ping": 3}
    assert [env[:12] for env in envelopes] == [user_message("hello")[:12]]


def test_limits_hold() -> None:
    """A frame above the edge's own limit is refused."""
    frames = PackedFrames(KINDS, SystemClock(), Limits(frame_bytes=1024))
    with pytest.raises(PeerProtocolError) as refused:
        frames.decode(frames.encode({}, [user_message("x" * 2000)]))
    assert refused.value.reason == "TOO_LARGE"
