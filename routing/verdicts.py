"""What a dispatcher's decisions answer: admitted or refused, and the books of both.

Law of this file: plain values. Whoever asked acts on them; nothing here decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from laneway.routing.envelope import Envelope
from laneway.routing.errors import LanewayError

__all__ = ["DispatchStatistics", "Verdict"]


Verdict: TypeAlias = Envelope | LanewayError
"""Admitted: the event is reserved; `enqueue` or `release` this envelope (its lane may have changed). Or
refused: nothing was kept, and the error says why and, where that helps, when to retry."""


class DispatchStatistics(NamedTuple):
    """The books and gauges of one dispatcher's decisions."""

    admitted: int
    done: int
    expired: int
    dropped: int
    """Low events that had waited too long, one after the other."""
    cancelled: int
    released: int
    """Admitted and given back before they were enqueued."""
    pending: int
    """In flight: admitted and not over."""
    pending_bytes: int
    parked: int
    after_timeouts: int
    """Events that went on although the one they named was not over."""
    demoted: int
    """Critical events beyond their rate."""
    refused: Mapping[str, int]
    """By error code."""
    waiting: tuple[int, ...]
    """Queued per lane, critical first; a part counts as one."""
    pools: Mapping[str, int]
    """Queued per pool."""
    oldest: Mapping[str, float]
    """When about the longest waiting event of a pool was accepted; a pool that nothing waits for is not there."""
    limits: Mapping[str, Mapping[str, float]]
    """How many events of a lane may wait for a pool; where waits are short there is no limit, and nothing here."""
