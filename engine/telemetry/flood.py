"""How often the same message may be logged.

Law of this file: a flood costs a bounded number of lines, and how many were left out is always said:
with the next line of its kind, or with the first line of any kind after its window is over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["Flood", "FloodPolicy"]

_REST: Final = ("", "messages of many kinds")
_MESSAGE_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class FloodPolicy:
    """How much is written.

    Attributes:
        window_s: for how long is counted. same: records of one logger and message per window.
        total: records of all kinds per window. kinds: messages told apart at once; the rest share one row.
    """

    window_s: float = 10.0
    same: int = 20
    total: int = 1_000
    kinds: int = 256


class _Window:
    __slots__ = ("begun", "level", "passed", "suppressed")

    def __init__(self, begun: float, level: int) -> None:
        self.begun = begun
        self.level = level
        self.passed = 0
        self.suppressed = 0


class Flood:
    """Decides which records are written.

    Args:
        now: monotonic seconds.

    Attributes:
        left_out: records that were not written, since the start.
    """

    def __init__(self, now: Callable[[], float], policy: FloodPolicy | None = None) -> None:
        self._now = now
        self._policy = policy or FloodPolicy()
        self._windows: dict[tuple[str, str], _Window] = {}
        self._all = _Window(now(), logging.NOTSET)
        self.left_out = 0

    def admit(self, record: logging.LogRecord) -> list[logging.LogRecord]:
        """Return what to write now: summaries of floods that are over, and the record if it may pass.

        O(1) for a record that passes in a quiet log; O(kinds) when a window ends.
        """
        now = self._now()
        written = self._renewed(now)
        window = self._window(record, now)
        if window.passed < self._policy.same and self._all.passed < self._policy.total:
            window.passed += 1
            self._all.passed += 1
            written.append(record)
        else:
            window.level = max(window.level, record.levelno)
            window.suppressed += 1
            self.left_out += 1
        return written

    def rest(self) -> list[logging.LogRecord]:
        """Return the summaries of all that was left out so far, and begin anew."""
        told = [_summary(kind, window) for kind, window in self._windows.items() if window.suppressed]
        self._windows.clear()
        return told

    def _renewed(self, now: float) -> list[logging.LogRecord]:
        """End all windows together: one comparison per record, and nothing is kept for long."""
        if now - self._all.begun < self._policy.window_s:
            return []
        self._all = _Window(now, logging.NOTSET)
        return self.rest()

    def _window(self, record: logging.LogRecord, now: float) -> _Window:
        kind = (record.name, record.msg if isinstance(record.msg, str) else type(record.msg).__name__)
        window = self._windows.get(kind)
        if window is None:
            if len(self._windows) >= self._policy.kinds:
                kind = _REST
            window = self._windows.setdefault(kind, _Window(now, record.levelno))
        return window


def _summary(kind: tuple[str, str], window: _Window) -> logging.LogRecord:
    name, message = kind
    told = logging.LogRecord(
        name or __name__,
        window.level,
        "",
        0,
        "%d more like this were left out: %s",
        (window.suppressed, message[:_MESSAGE_CHARS]),
        None,
    )
    told.suppressed = window.suppressed
    return told
