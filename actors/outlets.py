"""What an outlet may do beside taking events; who needs it asks whether it can.

Law of this file: an outlet without these is a whole outlet: text is then numbered delta by delta, and
who is not read pauses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias, runtime_checkable

from laneway.routing.envelope import Envelope
from laneway.routing.unread import Unread

__all__ = ["Add", "EmitsNow", "Gathers", "Steers"]

Add: TypeAlias = Callable[[bytes], bool]
"""Adds one delta to those that wait for company; False, having done nothing, if it must be emitted."""


@runtime_checkable
class Gathers(Protocol):
    """An Outlet that gathers text deltas before it numbers them."""

    def gathering(self, tenant: str, session: str, run: str, kind: str, entity: str) -> Add | None:
        """Return what adds deltas to those of the same run, kind and entity that wait for company; None if none waits.

        The next event of the run, also an end that others tell, makes it refuse from then on, as does credit that
        is used up. O(1), never waits.
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
