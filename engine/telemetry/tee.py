"""One more listener: what is counted here is told to the embedder's own probe as well.

Law of this file: our own numbers are whole whatever the other one does with its copy.
"""

from __future__ import annotations

from laneway.actors.ports import Observe, Probe

__all__ = ["Tee"]


class Tee:
    """A Probe in front of two. Doubles the cost of each measurement.

    Args:
        ours, theirs: told in this order.
    """

    def __init__(self, ours: Probe, theirs: Probe) -> None:
        self._ours = ours
        self._theirs = theirs

    def count(self, name: str, value: int = 1, **labels: str) -> None:
        """Count in both."""
        self._ours.count(name, value, **labels)
        self._theirs.count(name, value, **labels)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Record in both."""
        self._ours.observe(name, value, **labels)
        self._theirs.observe(name, value, **labels)

    def histogram(self, name: str, **labels: str) -> Observe:
        """Return a function that records in both."""
        ours, theirs = self._ours.histogram(name, **labels), self._theirs.histogram(name, **labels)

        def observe(value: float, times: int = 1, /) -> None:
            ours(value, times)
            theirs(value, times)

        return observe
