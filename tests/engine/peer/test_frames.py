"""Frames: what goes in comes out, and whatever else comes is refused with a typed error."""

from __future__ import annotations

import re
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.actors.hosts import peers
from laneway.engine.peer.frames import BYE, PING, PONG, MessagePacker, decode_frame, join
from laneway.routing.errors import LocalProtocolError, PeerProtocolError

LIMIT = 1_000_000

_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=10,
)
_verbs = st.integers(-3, 30)


@given(st.lists(st.tuples(_verbs, st.integers(0, 2**63), _values), max_size=40))
def test_messages_survive(messages: list[tuple[object, ...]]) -> None:
    """A frame of any messages gives the same messages."""
    pack = MessagePacker(LIMIT).pack
    assert decode_frame(join([pack(message) for message in messages]), LIMIT) == messages


@pytest.mark.parametrize("count", [0, 1, 15, 16, 256, 65_535])
def test_frames_of_any_length(count: int) -> None:
    """The head of a frame fits its number of messages."""
    packed = MessagePacker(LIMIT).pack((1, 2))
    assert len(decode_frame(join([packed] * count), LIMIT)) == count


@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    """Any bytes are messages or a PeerProtocolError."""
    try:
        messages = decode_frame(data, LIMIT)
    except PeerProtocolError:
        return
    assert all(type(message) is tuple and type(message[0]) is int for message in messages)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgpack.packb({"a": 1}),
        msgpack.packb([1, 2]),
        msgpack.packb([[1]]),
        msgpack.packb([["1", 2]]),
        msgpack.packb([[True, 2]]),
        msgpack.packb([[1, 2, msgpack.ExtType(4, b"x")]]),
        msgpack.packb([[1, 2, msgpack.ExtType(4, b"")]]),
        msgpack.packb([[1, 2, msgpack.Timestamp(1)]]),
        msgpack.packb([[1, 2]]) + b"\x00",
        b"\xdd\xff\xff\xff\xff",
        b"\x91\x93\x01\x02\xdd\xff\xff\xff\xff",
        b"\x91" * 5_000,
        msgpack.packb([[1, 2, bytes(LIMIT + 1)]]),
        msgpack.packb([[1, 2, [None] * 65_537]]),
        b"\x91\x93\x01\x02\xa1\xff",
        b"\x91\x93\x01\x02\x81\x90\x01",
    ],
)
def test_what_is_not_a_frame_is_refused(data: bytes) -> None:
    """Truncated, trailing, too deep, too long, ext types, other shapes: all typed."""
    with pytest.raises(PeerProtocolError):
        decode_frame(data, LIMIT)


@pytest.mark.parametrize("bad", [object(), 2**64, "\ud800", {1, 2}, 1j])
def test_what_cannot_be_packed_is_the_callers_error(bad: object) -> None:
    """A message of other than plain types raises, and the next one packs as if nothing had been."""
    packer = MessagePacker(LIMIT)
    with pytest.raises(LocalProtocolError, match="verb 5"):
        packer.pack((5, 1, [1, 2, bad]))
    assert decode_frame(join([packer.pack((1, 2))]), LIMIT) == [(1, 2)]


def test_a_message_above_the_limit_is_the_callers_error() -> None:
    """What the other side would refuse is not sent."""
    packer = MessagePacker(1_000)
    with pytest.raises(LocalProtocolError, match="in parts"):
        packer.pack((5, 1, bytes(1_000)))
    packer.pack((5, 1, bytes(990)))


def test_the_documented_verbs_are_those_that_exist() -> None:
    """docs/hosts.md names every verb with its number."""
    text = (Path(__file__).parents[3] / "docs" / "hosts.md").read_text(encoding="utf-8")
    documented = {name: int(number) for number, name in re.findall(r"^\| (-?\d+) `([A-Z_]+)` \|", text, re.MULTILINE)}
    own = {"PING": PING, "PONG": PONG, "BYE": BYE}
    wanted = {name: getattr(peers, name) for name in peers.__all__ if name.isupper() and name != "VERBS"}
    assert (own | wanted).items() <= documented.items()
