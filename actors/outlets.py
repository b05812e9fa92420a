"""What an outlet may do beside taking events; who needs it asks whether it can.

Law of this file: an outlet without these is a whole outlet: text is then numbered delta by delta, and
who is not read pauses.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from laneway.actors.ports import Out
from laneway.routing.envelope import Envelope
from laneway.routing.unread import Unread

__all__ = ["EmitsNow", "Extends", "Steers"]


@runtime_checkable
class Extends(Protocol):
    """An Outlet that gathers text deltas before it numbers them."""

    def extend(self, tenant: str, session: str, run: str, out: Out) -> bool:
        """Add a delta to those of the same run, kind and entity that wait for company.

        Returns False, having done nothing, if it must be emitted: none waits, or it would not fit, or
        there is no credit. O(1), never waits.
        """
        ...


@runtime_checkable
class EmitsNow(Protocol):
    """An Outlet that can say at once whether an event needs no waiting."""

    def emit_now(self, env: Envelope) -> bool:
        """As `Outlet.emit`, if it would not wait; else False, and nothing is done.

        Raises for an event that `emit` refuses.
        """
        ...


@runtime_checkable
class Steers(Protocol):
    """An Outlet that can be told what becomes of a run that nobody reads."""

    def when_unread(self, tenant: str, session: str, run: str, policy: Unread) -> None:
        """From now on this holds for what the run says; "pause" forgets it. O(1), never waits."""
        ...
