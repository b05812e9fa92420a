"""The protobuf message `laneway.v1.Frame` by hand: one tag, one length, the bytes.

Law of this file: what is written here parses with stubs generated from `edge.proto`, and what
those stubs write is read here, unknown fields included. By hand because the message is one
field: a protobuf object would cost a copy and an allocation per frame, and the edge never needs
more than the bytes. Encoding: https://protobuf.dev/programming-guides/encoding/ .
"""

from __future__ import annotations

from typing import Final

from laneway.routing.errors import PeerProtocolError

__all__ = ["CALL", "CALL_METHOD", "SERVICE", "SESSION", "SESSION_METHOD", "unwrap", "wrap"]

SERVICE: Final = "laneway.v1.Edge"
SESSION: Final = "Session"
CALL: Final = "Call"
SESSION_METHOD: Final = f"/{SERVICE}/{SESSION}"
CALL_METHOD: Final = f"/{SERVICE}/{CALL}"

_FRAME_TAG: Final = 0x0A
"""Field 1, wire type 2 (length-delimited)."""
_MAX_VARINT_BYTES: Final = 10


def wrap(frame: bytes) -> bytes:
    """Return the `Frame` message around a frame. O(n): one copy."""
    length = len(frame)
    if not length:
        return b""
    if length <= 0x7F:
        return bytes((_FRAME_TAG, length)) + frame
    if length <= 0x3FFF:
        return bytes((_FRAME_TAG, length & 0x7F | 0x80, length >> 7)) + frame
    prefix = bytearray((_FRAME_TAG,))
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + frame


def unwrap(message: bytes) -> bytes:
    """Return the frame inside a `Frame` message; as protobuf says, the last one given wins.

    Raises PeerProtocolError(TRUNCATED) if the bytes are not a protobuf message. O(n): one copy.
    """
    frame = b""
    at = 0
    end = len(message)
    if end > 1 and message[0] == _FRAME_TAG:  # nothing but the frame: nearly every message
        length, start = _varint(message, 1)
        if start + length == end:
            return message[start:]
    while at < end:
        tag, at = _varint(message, at)
        start, at = _field(message, at, tag & 7)
        if tag == _FRAME_TAG:
            frame = message[start:at]
    return frame


def _field(message: bytes, at: int, wire_type: int) -> tuple[int, int]:
    """Return where the field's content starts and where it ends."""
    if wire_type == 2:
        length, start = _varint(message, at)
        end = start + length
    elif wire_type == 0:
        start = at
        _, end = _varint(message, at)
    elif wire_type in (1, 5):
        start = at
        end = at + (8 if wire_type == 1 else 4)
    else:
        raise PeerProtocolError(f"wire type {wire_type} does not occur in a Frame", reason="BAD_TYPE")
    if end > len(message):
        raise PeerProtocolError("the Frame message ends inside a field", reason="TRUNCATED")
    return start, end


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(message[at : at + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise PeerProtocolError("the Frame message ends inside a number", reason="TRUNCATED")
