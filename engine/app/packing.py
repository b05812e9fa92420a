"""Envelope <-> bytes for session logs: the wire codec, forgiving about kinds.

Law of this file: a log can always be read back. Kinds are the embedder's, and may be added after the
engine has started, or be gone since the log was written; such an event is still itself, and the
dispatcher says what comes of it (a dead letter, if nobody takes it).
"""

from __future__ import annotations

from laneway.engine.codec import EnvelopePacker, unpack_envelope
from laneway.routing.classify import IN, Kind, KindTable
from laneway.routing.envelope import Envelope
from laneway.routing.lanes import Lane

__all__ = ["LogPacking", "LoggedKinds"]


class LoggedKinds(KindTable):
    """A view of the live table in which every name is a kind; the live table does not learn it.

    Args:
        live: the engine's table; rows added later are seen too.
    """

    __slots__ = ()

    def __init__(self, live: KindTable) -> None:
        self._by_name = live._by_name  # noqa: SLF001 - a view shares the rows
        self._by_number = live._by_number  # noqa: SLF001

    def get(self, name: str) -> Kind | None:
        """Return the row; a plain inbound one for an unknown name."""
        return super().get(name) or Kind(name, Lane.NORMAL, direction=IN)

    def require(self, name: str | int) -> Kind:
        """Return the row by name or wire number. Raises PeerProtocolError for an unknown number."""
        if isinstance(name, str) and name not in self:
            return Kind(name, Lane.NORMAL, direction=IN)
        return super().require(name)


class LogPacking:
    """The `Packer` of session logs."""

    def __init__(self, kinds: KindTable) -> None:
        self._kinds = LoggedKinds(kinds)
        self.pack = EnvelopePacker(self._kinds).pack

    def unpack(self, data: bytes, now: float) -> Envelope:
        """Bytes to envelope. Raises PeerProtocolError for damaged bytes."""
        return unpack_envelope(data, now, self._kinds)
