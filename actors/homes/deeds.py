"""Who a session or document is at home with, as the shared store has it: one small record for each.

Law of this file: a record is replaced by compare-and-set only, so nobody takes back what another has
written since. It is a signpost and grants nothing: the right to write is the log's generation, which
the record names, so that of two who claimed at once all see the same winner.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgpack

from laneway.actors.ports import Store
from laneway.routing.errors import StoreError

__all__ = ["ELSEWHERE", "Deed", "Deeds", "Life"]

ELSEWHERE: Final = "ELSEWHERE"
"""Reason of the Fenced that says: it is at home with another front; ask again where."""
_PREFIX: Final = "home/"
_ERASED_S: Final = 1.0
"""An erased record is an empty one that ends: the port deletes without comparing, and must not here."""


class Life(NamedTuple):
    """One life of a host."""

    name: str
    incarnation: str


class Deed(NamedTuple):
    """What a record says.

    Attributes:
        life: the front that it is at home with.
        generation: of the claim it was written under.
        view: number of the membership view its writer had: a view as new as that one, in which the
            writer is missing, means that it is over.
    """

    life: Life
    generation: int
    view: int


class Deeds:
    """Records by the key of the log (``tenant/session/name``). Each call is one of the store's."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def read(self, key: str) -> tuple[int, Deed | None]:
        """Return the record's version, for `write`, and what it says. Raises StoreError."""
        version, value = await self._store.get(_PREFIX + key)
        if not value:
            return version, None
        try:
            name, incarnation, generation, view = msgpack.unpackb(value)
        except ValueError as error:
            raise StoreError(f"the record {_PREFIX}{key} is damaged ({error}); delete it") from error
        return version, Deed(Life(name, incarnation), generation, view)

    async def write(self, key: str, deed: Deed, version: int) -> int:
        """Put a record in place of the one of `version`; returns the new version, 0 if it was replaced meanwhile."""
        value = msgpack.packb([*deed.life, deed.generation, deed.view])
        return await self._store.put(_PREFIX + key, value, version=version)

    async def erase(self, key: str, version: int) -> None:
        """Forget the record if it is still the one of `version`."""
        await self._store.put(_PREFIX + key, b"", version=version, ttl_s=_ERASED_S)
