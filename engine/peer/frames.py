"""Messages to frames and back: what stands in one gRPC message between hosts.

Law of this file: a frame is a msgpack array of messages, a message an array whose first two items are
ints; no ext types. A host is authenticated but may be a broken version: whatever does not fit is a
PeerProtocolError, and nothing is allocated beyond the frame's own size times a constant.

Verbs below zero are the connection's own (see docs/hosts.md)::

    PING  [-1, n]         answered by PONG with the same n on the same stream; n is the sender's clock in us
    PONG  [-2, n]
    BYE   [-3, 0, text]   the last message, why the connection ends: on the urgent stream, or behind all data
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, NoReturn

import msgpack

from laneway.actors.hosts.peers import Message
from laneway.routing.errors import LocalProtocolError, PeerProtocolError

__all__ = ["BYE", "PING", "PONG", "MessagePacker", "decode_frame", "join"]

PING: Final = -1
PONG: Final = -2
BYE: Final = -3

_MAX_ITEMS: Final = 65_536
"""Of one array or map; far above what any part batches."""
_FIX_ARRAY: Final = 16
_PACKER_BYTES: Final = 16_384
"""First size of a buffer that is kept; it grows to the largest message."""


class MessagePacker:
    """Packs messages one at a time.

    Args:
        limit_bytes: largest packed message.
    """

    __slots__ = ("_limit_bytes", "_pack")

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._pack = msgpack.Packer(buf_size=_PACKER_BYTES).pack

    def pack(self, message: Message) -> bytes:
        """Return the message's bytes. Raises LocalProtocolError: not of plain types, or too large."""
        try:
            packed: bytes = self._pack(message)
        except (TypeError, ValueError, OverflowError) as error:
            raise LocalProtocolError(f"a message of verb {message[0]!r} cannot be packed: {error}") from error
        if len(packed) > self._limit_bytes:
            raise LocalProtocolError(
                f"a message of verb {message[0]!r} has {len(packed)} bytes, above the {self._limit_bytes} "
                "that hosts take at once; send it in parts",
                reason="TOO_LARGE",
            )
        return packed


def join(messages: Collection[bytes]) -> bytes:
    """Return the frame of packed messages, at most 65,535 of them."""
    count = len(messages)
    head = bytes((0x90 | count,)) if count < _FIX_ARRAY else b"\xdc" + count.to_bytes(2, "big")
    return head + b"".join(messages)


def decode_frame(data: bytes, limit_bytes: int) -> list[Message]:
    """Return a frame's messages. Raises PeerProtocolError.

    Args:
        limit_bytes: longest str or bin in it.
    """
    try:
        frame = msgpack.unpackb(
            data,
            strict_map_key=False,
            ext_hook=_no_ext,
            max_str_len=limit_bytes,
            max_bin_len=limit_bytes,
            max_array_len=_MAX_ITEMS,
            max_map_len=_MAX_ITEMS,
            max_ext_len=0,
        )
    except PeerProtocolError:
        raise
    except Exception as error:  # msgpack has errors of five unrelated classes
        raise PeerProtocolError(f"a frame of another host is not msgpack: {error!r}", reason="BAD_FRAME") from error
    if type(frame) is not list:
        raise PeerProtocolError(f"a frame is an array of messages, not {type(frame).__name__}", reason="BAD_FRAME")
    return [_message(item) for item in frame]


def _message(item: Any) -> Message:
    if type(item) is not list or len(item) < 2 or type(item[0]) is not int or type(item[1]) is not int:
        raise PeerProtocolError("a message is an array that begins with a verb and a number", reason="BAD_MESSAGE")
    return tuple(item)


def _no_ext(code: int, _data: bytes) -> NoReturn:
    raise PeerProtocolError(f"ext type {code} in a frame; hosts send plain types only", reason="BAD_FRAME")
