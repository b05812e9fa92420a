"""What turns envelopes into bytes and back, for logs and for other hosts.

Law of this file: deadlines are absolute inside a process and remaining time in bytes, so both ways need now.
"""

from __future__ import annotations

from typing import Protocol

from laneway.actors.ports import Clock
from laneway.routing.envelope import DEADLINE, NO_DEADLINE, Envelope

__all__ = ["LogPacker", "Packer"]


class Packer(Protocol):
    """Envelope <-> bytes for logs."""

    def pack(self, env: Envelope, now: float) -> bytes:
        """Envelope to bytes."""
        ...

    def unpack(self, data: bytes, now: float) -> Envelope:
        """Bytes to envelope."""
        ...


class LogPacker:
    """A packer with a clock, for the parts of one session."""

    __slots__ = ("_clock", "_packer")

    def __init__(self, packer: Packer, clock: Clock) -> None:
        self._packer = packer
        self._clock = clock

    def pack(self, env: Envelope) -> bytes:
        """Envelope to bytes."""
        return self._packer.pack(env, 0.0 if env[DEADLINE] == NO_DEADLINE else self._clock.now())

    def unpack(self, data: bytes) -> Envelope:
        """Bytes to envelope."""
        return self._packer.unpack(data, self._clock.now())
