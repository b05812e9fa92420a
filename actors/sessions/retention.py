"""What of a session's outbound log is kept: as much as its retention says, and what went on unread.

Law of this file: an event leaves the log only if it left the ring, and if the log without it still
holds its retention. What a run said beyond all credit is read from the log later, so nothing leaves
before somebody has it; how much that can be is bounded where it is said (`routing/unread.py`).
"""

from __future__ import annotations

from typing import Final

from laneway.actors.ports import Claim, Store
from laneway.actors.sessions.outbound import DATA, Outbound

__all__ = ["trim"]

_ONE: Final = 1
"""`Store.read` gives at least one entry, however few bytes are asked for."""


async def trim(store: Store, claim: Claim, outbound: Outbound, floors: dict[int, int], *, retention_bytes: int) -> None:
    """Let the oldest events of both streams go, and raise their floors.

    Args:
        floors: stream -> first seq that the log still holds; moved here.
        retention_bytes: what is kept of each stream in any case.

    Raises StoreError. O(events that leave).
    """
    for stream, ring in enumerate(outbound.rings):
        floor = floors.get(stream, 1)
        if ring.first <= floor or ring.head_position <= retention_bytes:
            continue
        if stream == DATA and outbound.spilled:
            continue
        oldest = await store.read(claim.key, stream, floor, max_bytes=_ONE)
        if oldest and ring.head_position - oldest[0].position > retention_bytes:
            await store.trim(claim, stream, ring.first)
            floors[stream] = ring.first
