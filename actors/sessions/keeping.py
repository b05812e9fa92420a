"""Events as a session numbered them, on their way into its log; and stores that keep them as they are.

Law of this file: a log is bytes for whoever reads it. A store that dies with its process may keep the
events themselves, and packs them only for a reader: most events of most sessions never have one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from laneway.actors.ports import Claim, Entry, Store
from laneway.routing.envelope import Envelope
from laneway.routing.replay import SEQ_COST_BYTES, Numbered

__all__ = ["AppendsAtOnce", "Run", "Source", "keeper"]


class Run(NamedTuple):
    """Events of one stream, contiguous in seq.

    Attributes:
        rows: at least one, with the positions that a ring gave. pack: event -> what its entry holds.
    """

    stream: int
    rows: Sequence[Numbered]
    pack: Callable[[Envelope], bytes]

    @property
    def body_bytes(self) -> int:
        """Bytes of the bodies: what the positions say. O(1)."""
        (_, first, env), last, count = self.rows[0], self.rows[-1][1], len(self.rows)
        return last - first + len(env[11]) - SEQ_COST_BYTES * (count - 1)

    def entries(self) -> list[Entry]:
        """Return the same as entries. O(bytes)."""
        stream, pack = self.stream, self.pack
        return [Entry(stream, seq, position, pack(env)) for seq, position, env in self.rows]


class Source(Protocol):
    """What gathers events between two appends; see `Committer.stir`."""

    @property
    def waiting_bytes(self) -> int:
        """What has gathered and was not handed out."""
        ...

    def take(self) -> Sequence[Run]:
        """Hand out, once, what has gathered."""
        ...

    def written(self, run: Run) -> None:
        """The store has a run that was handed out."""
        ...


@runtime_checkable
class AppendsAtOnce(Protocol):
    """A Store that dies with this process, so that its `append` never waits and it may keep events as they are.

    It is written to without a task, nothing is packed before somebody reads it, and what only serves a
    later process (who was accepted, started, ended) is not written at all.
    """

    def append_now(self, claim: Claim, entries: Sequence[Entry], runs: Sequence[Run] = ()) -> None:
        """As `Store.append` of both; if it raises StoreError, nothing was written."""
        ...

    def rest(self, claim: Claim) -> None:
        """Its home is gone to sleep; nothing happens if the claim is not the newest any more."""
        ...


def keeper(store: Store) -> AppendsAtOnce | None:
    """Return the store if it keeps events as they are; a class that replaces `append` alone does not."""
    for kind in type(store).__mro__:
        if "append" in vars(kind):
            return store if "append_now" in vars(kind) and isinstance(store, AppendsAtOnce) else None
    return None
