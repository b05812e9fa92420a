"""What turns envelopes into bytes and back, for logs and for other hosts.

Law of this file: deadlines are absolute inside a process and remaining time in bytes, so both ways need now.
"""

from __future__ import annotations

from typing import Protocol

from laneway.routing.envelope import Envelope

__all__ = ["Packer"]


class Packer(Protocol):
    """Envelope <-> bytes for logs."""

    def pack(self, env: Envelope, now: float) -> bytes:
        """Envelope to bytes."""
        ...

    def unpack(self, data: bytes, now: float) -> Envelope:
        """Bytes to envelope."""
        ...
