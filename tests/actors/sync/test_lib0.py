"""lib0's encoding, read within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.actors.sync.lib0 import MAX_VARUINT, Reader, var_bytes, varuint
from laneway.routing.errors import PeerProtocolError


@given(st.integers(0, MAX_VARUINT), st.binary(max_size=40))
def test_what_is_written_is_read(number, data):
    """Numbers and bytes come back, and nothing is left."""
    reader = Reader(varuint(number) + var_bytes(data))
    assert reader.varuint() == number
    assert reader.bytes() == data
    reader.end()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "TRUNCATED"),
        (b"\x80", "TRUNCATED"),
        (varuint(2**53), "NUMBER_RANGE"),
        (b"\xff" * 30, "NUMBER_RANGE"),
    ],
)
def test_bad_numbers_are_refused(data, reason):
    """Endless, huge and missing varints."""
    with pytest.raises(PeerProtocolError) as caught:
        Reader(data).varuint()
    assert caught.value.reason == reason


def test_claimed_lengths_are_held_against_what_is_left():
    """Nothing is read or counted beyond the data."""
    for read in (Reader.bytes, Reader.text, Reader.count):
        with pytest.raises(PeerProtocolError, match="TRUNCATED"):
            read(Reader(varuint(2**40)))
    with pytest.raises(PeerProtocolError, match="TRUNCATED"):
        Reader(b"\x02\x00\x00").count(2)
    with pytest.raises(PeerProtocolError, match="BAD_UTF8"):
        Reader(b"\x01\xff").text()
    with pytest.raises(PeerProtocolError, match="TRAILING_BYTES"):
        Reader(b"\x00").end()
    with pytest.raises(PeerProtocolError, match="NUMBER_RANGE"):
        Reader(b"\xff" * 30).skip_varint()
