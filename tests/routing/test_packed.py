import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.errors import PeerProtocolError
from laneway.routing.packed import pack_map, unpack_map

WORDS = st.text("aé日", max_size=40)
PACKABLE = st.recursive(
    WORDS | st.integers(0, 2**64 - 1), lambda inner: st.dictionaries(WORDS, inner, max_size=5), max_leaves=6
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | WORDS | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.dictionaries(WORDS, PACKABLE, max_size=5))
def test_what_is_packed_is_what_the_reference_reads(value):
    """Any msgpack implementation reads our maps."""
    assert msgpack.unpackb(pack_map(value), max_map_len=100_000) == value == unpack_map(pack_map(value))


@settings(deadline=None)
@given(st.dictionaries(WORDS, VALUES, max_size=5))
def test_any_map_of_the_reference_is_read(value):
    """Bodies made by the engine's codec are skipped through whatever is in them."""
    assert unpack_map(msgpack.packb(value)) == value


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data):
    """Nothing but PeerProtocolError comes out, however broken the input."""
    try:
        assert isinstance(unpack_map(data), dict)
    except PeerProtocolError:
        return


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "TRUNCATED"),
        (b"\x81\xa1a", "TRUNCATED"),
        (b"\xdf\xff\xff\xff\xff", "TRUNCATED"),
        (b"\xdb\xff\xff\xff\xff", "TRUNCATED"),
        (b"\x80\x80", "TRAILING_BYTES"),
        (b"\x90", "BAD_TYPE"),
        (b"\x81\x01\x01", "BAD_KEY"),
        (b"\x81\xa1\xff\x01", "BAD_UTF8"),
        (b"\x81\xa1a\xd4\x00\x00", "EXT_REFUSED"),
        (b"\x81\xa1a" + b"\x91" * 100 + b"\x01", "DEPTH_EXCEEDED"),
    ],
)
def test_broken_maps_have_their_reason(data, reason):
    """Each rule has its own refusal; a huge announced length costs nothing."""
    with pytest.raises(PeerProtocolError) as refused:
        unpack_map(data)
    assert refused.value.reason == reason


def test_long_maps_and_strings_use_the_long_forms():
    """More than 15 entries or 31 bytes are still what the reference reads."""
    value = {f"kind-{number}-{'x' * 40}": number for number in range(20)}
    assert msgpack.unpackb(pack_map(value)) == value == unpack_map(pack_map(value))
    assert unpack_map(msgpack.packb({"many": list(range(70_000)), "text": "y" * 70_000}))["text"] == "y" * 70_000
