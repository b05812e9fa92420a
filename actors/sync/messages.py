"""y-protocols messages: the frames that yjs clients speak, one message per event body.

Law of this file: a message is read whole or refused; nothing follows it. State vectors are checked
entry by entry before any library is given them.

Source: github.com/yjs/y-protocols, PROTOCOL.md, sync.js and y-websocket's message types
(0 sync: step 1 state vector, step 2 answer, update; 1 awareness; 3 query awareness).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final, NamedTuple

from laneway.actors.sync.lib0 import Reader, refuse, var_bytes, varuint

__all__ = [
    "Message",
    "MessageType",
    "decode_message",
    "decode_vector",
    "encode_message",
    "encode_vector",
    "least",
]


class MessageType(IntEnum):
    """What a message is; the value's tens digit is the outer type, its units the sync step."""

    STEP1 = 0
    """Payload: the sender's state vector; asks for what it lacks."""
    STEP2 = 1
    """Payload: an update, the answer to a step 1."""
    UPDATE = 2
    """Payload: an update."""
    AWARENESS = 10
    """Payload: presence of some clients."""
    QUERY_AWARENESS = 30
    """Asks for everybody's presence."""


_TYPES: Final = {divmod(int(kind), 10): kind for kind in MessageType}
"""(outer type, sync step) -> what it is."""


class Message(NamedTuple):
    """One message."""

    type: MessageType
    payload: bytes


def decode_message(body: bytes) -> Message:
    """Read one message. Raises PeerProtocolError."""
    reader = Reader(body)
    outer = reader.varuint()
    step = reader.varuint() if outer == 0 else 0
    kind = _TYPES.get((outer, step))
    if kind is None:
        refuse("UNKNOWN_KIND", f"message type {outer} (step {step}) is not a y-protocols message known here")
    payload = b"" if kind is MessageType.QUERY_AWARENESS else reader.bytes()
    reader.end()
    return Message(kind, payload)


def encode_message(kind: MessageType, payload: bytes = b"") -> bytes:
    """Frame one message."""
    outer, step = divmod(kind, 10)
    if kind is MessageType.QUERY_AWARENESS:
        return varuint(outer)
    return (bytes((outer, step)) if outer == 0 else varuint(outer)) + var_bytes(payload)


def decode_vector(data: bytes) -> dict[int, int]:
    """Read a state vector: client -> next clock. Raises PeerProtocolError."""
    reader = Reader(data)
    vector = {reader.varuint(): reader.varuint() for _ in range(reader.count(2))}
    reader.end()
    return vector


def encode_vector(vector: Mapping[int, int]) -> bytes:
    """Write a state vector."""
    entries = (varuint(client) + varuint(clock) for client, clock in vector.items())
    return varuint(len(vector)) + b"".join(entries)


def least(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    """Return what both certainly have."""
    return {client: min(clock, other[client]) for client, clock in one.items() if client in other}
