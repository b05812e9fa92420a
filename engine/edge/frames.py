"""The binary form of frames: what gRPC and binary WebSocket messages carry.

Law of this file: one place joins codec, kinds, clock and limits of an edge; a wire only moves bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from laneway.actors.ports import Clock
from laneway.engine.codec import EnvelopePacker, decode_frame, encode_frame, unpack_envelope
from laneway.engine.limits import DEFAULT_LIMITS, Limits
from laneway.routing.classify import KindTable
from laneway.routing.envelope import Envelope

__all__ = ["Frame", "PackedFrames"]

Frame: TypeAlias = tuple[dict[str, Any], list[Envelope]]
"""Header and events."""


class PackedFrames:
    """Frames as msgpack (docs/protocol.md).

    Args:
        limits: of frames and bodies that come in.
    """

    __slots__ = ("_clock", "_kinds", "_limits", "_pack")

    def __init__(self, kinds: KindTable, clock: Clock, limits: Limits = DEFAULT_LIMITS) -> None:
        self._kinds = kinds
        self._clock = clock
        self._limits = limits
        self._pack = EnvelopePacker(kinds).pack

    def decode(self, data: bytes) -> Frame:
        """Return header and events. Raises PeerProtocolError."""
        now = self._clock.now()
        header, items = decode_frame(data, self._limits)
        return header, [unpack_envelope(item, now, self._kinds, self._limits) for item in items]

    def encode(self, header: Mapping[str, Any], envelopes: Sequence[Envelope]) -> bytes:
        """Return the frame's bytes. Raises LocalProtocolError if the header cannot be packed."""
        now = self._clock.now()
        return encode_frame(header, [self._pack(env, now) for env in envelopes])
