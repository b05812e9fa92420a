"""What waits is taken in order and in bounded frames."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from laneway.engine.peer.frames import MessagePacker, decode_frame
from laneway.engine.peer.outbound import Outbound

PACK = MessagePacker(100_000).pack


@given(st.lists(st.integers(0, 300), min_size=1, max_size=60), st.integers(1, 500), st.integers(1, 20))
def test_all_that_waits_is_taken_in_order(sizes: list[int], frame_bytes: int, frame_messages: int) -> None:
    """Frames together hold every message once; each is closed at the first of its bounds."""
    out = Outbound(frame_bytes, frame_messages)
    for number, size in enumerate(sizes):
        out.put(PACK((1, number, bytes(size))))
    taken: list[int] = []
    while out:
        before = out.queued_bytes
        messages = decode_frame(frame := out.take(), 1_000)
        assert len(messages) <= frame_messages
        assert len(frame) < frame_bytes + 320
        assert out.queued_bytes < before
        taken += [message[1] for message in messages]
    assert taken == list(range(len(sizes)))
    assert out.queued_bytes == 0


def test_all_of_one_moment_goes_into_one_frame() -> None:
    """What is queued before the writer looks is one frame; the writer is woken."""
    out = Outbound(65_536, 256)
    assert not out.wake.is_set()
    for number in range(256):
        out.put(PACK((1, number)))
    assert out.wake.is_set()
    assert len(decode_frame(out.take(), 1_000)) == 256
    assert not out


def test_clearing_forgets() -> None:
    """Nothing of a lost connection is left."""
    out = Outbound(65_536, 256)
    out.put(PACK((1, 1)))
    out.clear()
    assert (len(out), out.queued_bytes) == (0, 0)
