"""The hand-written Frame message and the generated one are the same wire format."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.engine.proto.laneway.v1 import edge_pb2
from laneway.engine.proto.message import SERVICE, unwrap, wrap
from laneway.routing.errors import PeerProtocolError


@given(st.one_of(st.binary(max_size=300), st.integers(120, 20_000).map(bytes)))
def test_generated_stubs_and_the_hand_written_reader_agree(frame: bytes) -> None:
    """Either side reads what the other writes."""
    assert edge_pb2.Frame.FromString(wrap(frame)).frame == frame
    assert unwrap(edge_pb2.Frame(frame=frame).SerializeToString()) == frame


def test_unknown_fields_are_skipped() -> None:
    """A newer client's extra fields do not disturb an older server; the last `frame` wins."""
    extra = b"\x10\x96\x01" + b"\x1a\x03abc" + b"\x21" + bytes(8) + b"\x2d" + bytes(4)
    assert unwrap(extra + wrap(b"old") + extra + wrap(b"new") + extra) == b"new"


@given(st.binary(max_size=64))
def test_any_bytes_give_a_frame_or_a_typed_error(message: bytes) -> None:
    """Garbage never raises anything but the protocol error."""
    with contextlib.suppress(PeerProtocolError):
        assert isinstance(unwrap(message), bytes)


def test_a_length_beyond_the_message_is_truncated() -> None:
    """A 4 GiB length claim costs nothing."""
    with pytest.raises(PeerProtocolError) as caught:
        unwrap(b"\x0a\xff\xff\xff\xff\x0f")
    assert caught.value.reason == "TRUNCATED"


def test_the_schema_is_the_service_we_name() -> None:
    """The constants are the generated descriptor's."""
    assert list(edge_pb2.DESCRIPTOR.services_by_name["Edge"].methods_by_name) == ["Session", "Call"]
    assert edge_pb2.DESCRIPTOR.services_by_name["Edge"].full_name == SERVICE
