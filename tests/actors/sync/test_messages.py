"""y-protocols framing, against pycrdt's own helpers."""

from __future__ import annotations

import contextlib

import pycrdt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.actors.sync.messages import (
    MessageType,
    decode_message,
    decode_vector,
    encode_message,
    encode_vector,
    least,
)
from laneway.routing.errors import PeerProtocolError

vectors = st.dictionaries(st.integers(0, 2**53 - 1), st.integers(0, 2**31), max_size=5)


@given(st.sampled_from(MessageType), st.binary(max_size=300))
def test_messages_come_back(kind, payload):
    """Encode, decode: the same; a query has no payload."""
    message = decode_message(encode_message(kind, payload))
    assert message.type is kind
    assert message.payload == (b"" if kind is MessageType.QUERY_AWARENESS else payload)


@given(st.binary(max_size=300))
def test_frames_are_those_of_the_protocol(payload):
    """Byte for byte what pycrdt's protocol helpers make."""
    assert encode_message(MessageType.UPDATE, payload) == pycrdt.create_update_message(payload)
    assert encode_message(MessageType.AWARENESS, payload) == pycrdt.create_awareness_message(payload)
    doc = pycrdt.Doc()
    assert encode_message(MessageType.STEP1, doc.get_state()) == pycrdt.create_sync_message(doc)


@given(vectors, vectors)
def test_vectors_come_back_and_meet(one, other):
    """A vector survives the wire; `least` is what both have."""
    assert decode_vector(encode_vector(one)) == one
    both = least(one, other)
    assert all(clock <= one[client] and clock <= other[client] for client, clock in both.items())
    assert both.keys() == one.keys() & other.keys()


@given(st.binary(max_size=60))
def test_any_bytes_give_a_message_or_a_typed_error(data):
    """Nothing else comes out."""
    for read in (decode_message, decode_vector):
        with contextlib.suppress(PeerProtocolError):
            read(data)


def test_a_negative_inner_type_is_no_other_message():
    """Sync step 10 is not awareness."""
    for body in (b"\x00\x0a\x00", b"\x02\x00", b"\x04\x00"):
        with pytest.raises(PeerProtocolError, match="UNKNOWN_KIND"):
            decode_message(body)
