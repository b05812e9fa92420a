"""Histories of many sessions, one each, so that a session can be checked and forgotten when it is over.

Law of this file: to the engine's harness it is one history; what is written down goes to the session it is of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from tests.simulation.history import History, Home

__all__ = ["Ledgers"]


class _Routed(list[Any]):
    """A list of entries about events that keeps none of them."""

    def __init__(self, ledgers: Ledgers, name: str) -> None:
        super().__init__()
        self._ledgers = ledgers
        self._name = name

    def append(self, item: Any) -> None:
        self._ledgers.written += 1
        getattr(self._ledgers.of((item.env[3], item.env[4])), self._name).append(item)

    def __iadd__(self, items: Iterable[Any]) -> _Routed:  # type: ignore[override,misc]
        for item in items:
            self.append(item)
        return self


class _Effects(Counter[tuple[str, str, str]]):
    """Counts in the history of the session that the key names."""

    def __init__(self, ledgers: Ledgers) -> None:
        super().__init__()
        self._ledgers = ledgers

    def __getitem__(self, key: tuple[str, str, str]) -> int:
        return self._ledgers.of(key[:2]).effects[key]

    def __setitem__(self, key: tuple[str, str, str], count: int) -> None:
        self._ledgers.of(key[:2]).effects[key] = count


class Ledgers(History):
    """All sessions' histories.

    Attributes:
        written: entries so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.written = 0
        self._homes: dict[Home, History] = {}
        for name in ("enqueued", "started", "ended"):
            setattr(self, name, _Routed(self, name))
        self.effects = _Effects(self)

    @property
    def at(self) -> int:
        """Number of the next thing that is written down."""
        return self.written

    def __len__(self) -> int:
        return len(self._homes)

    def of(self, home: Home) -> History:
        """The history of one session."""
        found = self._homes.get(home)
        if found is None:
            found = self._homes[home] = History()
        return found

    def close(self, home: Home) -> History:
        """Take a session's history out."""
        return self._homes.pop(home, None) or History()
