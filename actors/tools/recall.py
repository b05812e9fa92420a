"""What calls came to, for as long as this process lives: the ledger's memory where no store outlives it.

Law of this file: the same answers as a store would give, without its bytes. Bounded in bytes and time:
beyond either, the oldest are forgotten, and such a call would be a new one.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from laneway.actors.ports import Clock
from laneway.actors.tools.entries import CallKey, Settled, to_keep
from laneway.actors.tools.lifecycle import State

__all__ = ["Recall"]

_MAX_BYTES: Final = 67_108_864
"""Some 100,000 small results."""
_TTL_S: Final = 86_400.0
_ROW_BYTES: Final = 512
"""Of a row beside its content: key, hash and their places, measured at 480 with ids of 20 characters."""

_Row: TypeAlias = tuple[bytes, float, int, str, str, str, bool]
"""Hash, end in clock seconds, bytes, and the result's fields: nothing that the garbage collector would follow."""


class Recall:
    """Results by the key of their call.

    Args:
        clock: monotonic time.
        max_bytes: of all rows; the newest is kept in any case. ttl_s: how long one is known.
    """

    __slots__ = ("_bytes", "_clock", "_max_bytes", "_rows", "_ttl_s")

    def __init__(self, clock: Clock, max_bytes: int = _MAX_BYTES, ttl_s: float = _TTL_S) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._rows: dict[tuple[str, str, str, str, bool], _Row] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def used_bytes(self) -> int:
        """Bytes held, with their overhead."""
        return self._bytes

    def find(self, key: CallKey) -> tuple[bytes, Settled] | None:
        """Return hash and result of a call, or None if it is not known (any more). O(1)."""
        row = self._rows.get(key)
        if row is None or row[1] <= self._clock.now():
            return None
        return row[0], Settled(State(row[3]), row[4], row[5], row[6])

    def keep(self, key: CallKey, hashed: bytes, result: Settled) -> None:
        """Know a result from now on. O(1) amortised."""
        rows, now = self._rows, self._clock.now()
        if key in rows:
            self._forget(key)
        state, content, code, retryable = to_keep(result)
        size_bytes = _ROW_BYTES + content.__sizeof__()
        rows[(*key,)] = (hashed, now + self._ttl_s, size_bytes, state.value, content, code, retryable)
        self._bytes += size_bytes
        while len(rows) > 1:
            oldest = next(iter(rows))
            if rows[oldest][1] > now and self._bytes <= self._max_bytes:
                return
            self._forget(oldest)

    def _forget(self, key: tuple[str, str, str, str, bool]) -> None:
        self._bytes -= self._rows.pop(key)[2]
