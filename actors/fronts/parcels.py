"""What fronts relay, as plain data: hellos, principals, frames and events.

Law of this file: a frame arrives as it left: its header untouched, its events packed one by one as in a
log, never merged or cut again. What came from another front was checked by its edge and is not doubted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from laneway.actors.packer import Packer
from laneway.actors.ports import Clock, Principal
from laneway.routing.envelope import DEADLINE, NO_DEADLINE, Envelope
from laneway.routing.handshake import Hello
from laneway.routing.link import LinkFrame
from laneway.routing.replay import Cursor

__all__ = ["Parcels", "hello_fields", "hello_of", "principal_of", "principal_row", "size_bytes"]

_HEADER_BYTES: Final = 256
"""What a frame weighs beside its events; headers are small, and bounded by the edge."""
_PARCEL_BYTES: Final = 524_288
"""Frames of one LINK_OUT together, unless a single one is larger: far below a message's bound."""


class Parcels:
    """Packs and unpacks; holds nothing.

    Args:
        packer: as for logs, so that kinds which only one side knows pass through.
    """

    def __init__(self, packer: Packer, clock: Clock) -> None:
        self._packer = packer
        self._clock = clock

    def pack(self, envs: Sequence[Envelope]) -> list[bytes]:
        """Pack events; deadlines travel as what is left of them."""
        now, pack = self._clock.now(), self._packer.pack
        return [pack(env, 0.0 if env[DEADLINE] == NO_DEADLINE else now) for env in envs]

    def unpack(self, items: Sequence[bytes]) -> list[Envelope]:
        """Unpack events, accepted now. Raises PeerProtocolError."""
        now, unpack = self._clock.now(), self._packer.unpack
        return [unpack(item, now) for item in items]

    def out(self, frames: Sequence[LinkFrame]) -> Iterator[tuple[list[list[Any]], int]]:
        """Yield (rows of a LINK_OUT, their size) until all frames are in."""
        rows: list[list[Any]] = []
        size = 0
        for header, envelopes in frames:
            items = self.pack(envelopes)
            more = size_bytes(items)
            if rows and size + more > _PARCEL_BYTES:
                yield rows, size
                rows, size = [], 0
            rows.append([header, items])
            size += more
        if rows:
            yield rows, size

    def frames(self, rows: Sequence[Sequence[Any]]) -> tuple[list[LinkFrame], int]:
        """Return the frames of a LINK_OUT and their size. Raises PeerProtocolError."""
        frames = [LinkFrame(header, self.unpack(items)) for header, items in rows]
        return frames, sum(size_bytes(items) for _, items in rows)


def size_bytes(items: Sequence[bytes]) -> int:
    """Return what one frame of these packed events counts in `Flow`."""
    return _HEADER_BYTES + sum(map(len, items))


def hello_fields(hello: Hello) -> dict[str, Any]:
    """Return a hello as plain data."""
    fields = asdict(hello)
    fields["cursor"] = None if hello.cursor is None else list(hello.cursor)
    return fields


def hello_of(fields: Mapping[str, Any]) -> Hello:
    """Return the hello that `hello_fields` was given."""
    cursor = fields["cursor"]
    own = {
        "versions": tuple(fields["versions"]),
        "cursor": None if cursor is None else Cursor(*cursor),
        "topics": tuple(fields["topics"]),
    }
    return Hello(**{**fields, **own})


def principal_row(principal: Principal) -> list[Any]:
    """Return [subject, tenant, scopes, expires_at]."""
    return [principal.subject, principal.tenant, sorted(principal.scopes), principal.expires_at]


def principal_of(row: Sequence[Any]) -> Principal:
    """Return the principal that `principal_row` was given."""
    subject, tenant, scopes, expires_at = row
    return Principal(subject, tenant, frozenset(scopes), expires_at)
