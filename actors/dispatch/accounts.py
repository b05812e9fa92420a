"""What a dispatcher tells about itself: its books and gauges at one moment.

Law of this file: plain data; accepted = handled + expired + dropped + cancelled + failed + dead + pending.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from laneway.actors.dispatch.books import ENDINGS, Books
from laneway.actors.pools.gauges import PoolStatistics
from laneway.routing.dispatch import DispatchStatistics

__all__ = ["DispatcherStatistics", "totals"]


class DispatcherStatistics(NamedTuple):
    """The books and gauges of one dispatcher."""

    accepted: int
    handled: int
    expired: int
    dropped: int
    cancelled: int
    failed: int
    dead: int
    pending: int
    """Accepted and not over: queued, staged, waiting in a cell or running."""
    refused: int
    """Turned away at the door; not part of `accepted`."""
    reserved: int
    """Admitted, neither enqueued nor released yet; not part of `accepted`."""
    asks: int
    """Askers waiting now."""
    remembered_cancels: int
    draining: bool
    pools: tuple[PoolStatistics, ...]
    accepted_by_lane: tuple[int, ...]
    ended_by_lane: tuple[Mapping[str, int], ...]
    core: DispatchStatistics
    """The queues in front of the pools."""


def totals(books: Books) -> dict[str, int]:
    """Return what was accepted and how it ended, over all lanes."""
    ended = {status: sum(lane[status] for lane in books.ended) for status in ENDINGS}
    return {"accepted": sum(books.accepted), **ended}
