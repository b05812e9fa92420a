"""Envelope <-> bytes for session logs and between hosts: the wire codec, forgiving about kinds.

Law of this file: a log can always be read back. Kinds are the embedder's, and may be added after the
engine has started, or be gone since the log was written; such an event is still itself, and the
dispatcher says what comes of it (a dead letter, if nobody takes it). What comes from another host of
the cluster was checked where it entered: its form is looked at, its ids are not.
"""

from __future__ import annotations

from typing import Any, Final

import msgpack

from laneway.engine.codec import EnvelopePacker, unpack_envelope
from laneway.routing.classify import IN, Kind, KindTable
from laneway.routing.envelope import NO_DEADLINE, Envelope
from laneway.routing.errors import PeerProtocolError
from laneway.routing.lanes import LANE_COUNT, Lane

__all__ = ["HostPacking", "LogPacking", "LoggedKinds"]

_SHAPES: Final = frozenset(
    (str, int, kind, str, str, str, str, int, remaining, str, str, bytes)
    for kind in (int, str)
    for remaining in (int, type(None))
)
"""Types of a packed event's fields."""


class LoggedKinds(KindTable):
    """A view of the live table in which every name is a kind; the live table does not learn it.

    Args:
        live: the engine's table; rows added later are seen too.
    """

    __slots__ = ()

    def __init__(self, live: KindTable) -> None:
        self._by_name = live._by_name  # noqa: SLF001 - a view shares the rows
        self._by_number = live._by_number  # noqa: SLF001
        self.plain = live.plain

    def get(self, name: str) -> Kind | None:
        """Return the row; a plain inbound one for an unknown name."""
        return self._by_name.get(name) or Kind(name, Lane.NORMAL, direction=IN)

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


class HostPacking:
    """The `Packer` between hosts of one cluster; parts of large texts keep their marks. 1.5 us each way."""

    def __init__(self, kinds: KindTable) -> None:
        self._kinds = LoggedKinds(kinds)
        self.pack = EnvelopePacker(self._kinds).pack

    def unpack(self, data: bytes, now: float) -> Envelope:
        """Bytes to envelope, as `codec.unpack_envelope`. Raises PeerProtocolError for damaged bytes."""
        row: Any
        try:
            row = msgpack.unpackb(data, use_list=False, max_map_len=0, max_ext_len=0)
        except (ValueError, TypeError) as error:
            raise PeerProtocolError(f"a host sent an event that cannot be read: {error}") from error
        if type(row) is not tuple or tuple(map(type, row)) not in _SHAPES or not 0 <= row[7] < LANE_COUNT:
            raise PeerProtocolError("a host sent what is no event", reason="BAD_TYPE")
        producer, counter, kind, tenant, session, run, entity, lane, remaining, trace, after, body = row
        name = self._kinds.require(kind).name
        deadline = NO_DEADLINE if remaining is None else now + remaining / 1000.0
        return (producer, counter, name, tenant, session, run, entity, lane, deadline, trace, after, body, now)
