"""What one connection has carried so far.

Law of this file: figures only, read off at one moment; whoever shows them knows how to add them up.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["PeerStatistics"]


class PeerStatistics(NamedTuple):
    """One live connection, as it is now.

    Attributes:
        name, incarnation: of the other host. dialled: True if this side opened the connection.
        sent_messages, received_messages: without heartbeats.
        sent_bytes, received_bytes: of frames, heartbeats included.
        queued_bytes: waiting to be written.
        round_trip_s: of the last heartbeat on the urgent stream; None before the first.
    """

    name: str
    incarnation: str
    dialled: bool
    sent_messages: int
    received_messages: int
    sent_bytes: int
    received_bytes: int
    queued_bytes: int
    round_trip_s: float | None
