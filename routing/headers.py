"""Header content waiting for a frame: answers, pings, notices.

Law of this file: content leaves in the order in which it came; lists of answers gather, so that a
thousand OKs cost one frame; refusals with one word (code, reason, message, delay) are one row, which begins
with the counters of all their events; of pongs and qualities only the newest is worth sending. Bounded: the
owner asks `overfull` and ends the link.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

from laneway.routing.answers import join_oks
from laneway.routing.envelope import Envelope
from laneway.routing.errors import LanewayError

__all__ = ["HeaderQueue", "Refused", "notice", "refused"]

Refused: TypeAlias = tuple[list[int], str, str, str, int | None]
"""Counters of events, and code, reason, message and delay in ms of what they are refused with."""

_MAX_ANSWERS: Final = 8192
"""Rows; one of `ok` answers a range of events."""
_ANSWERS_PER_FRAME: Final = 1024
_SENTENCES: Final = 128
"""A row of refusals has a sentence: so many, beside as many counters as there may be, are below a frame's 64 KiB."""
_LATE_ROWS: Final = 4
"""Where a word is looked for: a frame's refusals have a few, and the next frame's are often the same."""
_NEWEST: Final = frozenset({"pong", "quality"})
"""Only the newest of these is worth sending."""


class HeaderQueue:
    """Header maps to go out, one a frame.

    Attributes:
        patient: nothing but lists of answers waits, which may wait for company.
        refusing: refusals that name a delay wait, which may wait longer. waiting: there is a header.
    """

    __slots__ = ("_answers", "_headers", "_refused", "patient", "refusing", "waiting")

    def __init__(self) -> None:
        self._headers: list[dict[str, Any]] = []
        self._answers = self._refused = 0
        self.patient = True
        self.refusing = False
        self.waiting = False

    @property
    def overfull(self) -> bool:
        """True if more than 8,192 answers wait: nobody reads them."""
        return self._answers > _MAX_ANSWERS

    def add(self, name: str, value: object) -> None:
        """Add one field: to the last frame waiting if it is free there (lists join), else to a new one."""
        self._put(name, value)
        self.waiting = bool(self._headers)

    def _put(self, name: str, value: object) -> None:
        if isinstance(value, list):
            if name == "refused":
                for row in value:
                    self._refuse(row)
                return
            for first in range(0, len(value), _ANSWERS_PER_FRAME):
                self._gather(name, value[first : first + _ANSWERS_PER_FRAME])
            return
        if name in _NEWEST and self._replace(name, value):
            return
        self._answers += 1
        self.patient = False
        last = self._headers[-1] if self._headers else None
        if last is not None and name not in last:
            last[name] = value
        else:
            self._headers.append({name: value})

    def take(self) -> dict[str, Any]:
        """Return the next header, empty if none waits."""
        if not self._headers:
            return {}
        header = self._headers.pop(0)
        if not self._headers:
            self._answers = 0
            self.patient = True
            self.refusing = self.waiting = False
        return header

    def _gather(self, name: str, rows: list[Any]) -> None:
        """Add rows to the last frame waiting if they fit there, else to a new one."""
        last = self._headers[-1] if self._headers else None
        if last is not None and len(last.get(name, ())) + len(rows) <= _ANSWERS_PER_FRAME:
            there = last.setdefault(name, [])
            before = len(there)
            if name == "ok":
                join_oks(there, rows)
            else:
                there.extend(rows)
            self._answers += len(there) - before
        else:
            self._headers.append({name: rows})
            self._answers += len(rows)

    def _refuse(self, row: Sequence[Any]) -> None:
        """Add a row of refusals: to a late row of the last frame that has the same word, or as one of its own."""
        counters, word = row[0], list(row[1:])
        self._answers += len(counters)
        self.refusing = self.refusing or word[3] is not None
        for first in range(0, len(counters), _ANSWERS_PER_FRAME):
            some = counters[first : first + _ANSWERS_PER_FRAME]
            rows = self._refusing(len(some))
            for late in rows[-_LATE_ROWS:]:
                if late[1:] == word:
                    late[0] += some
                    break
            else:
                rows.append([some, *word])

    def _refusing(self, more: int) -> list[list[Any]]:
        """Return the rows of the last frame if so many refusals fit there, else of a new one; they are counted."""
        last = self._headers[-1] if self._headers else {}
        rows: list[list[Any]] = last.get("refused", [])
        if not self._headers or (rows and (self._refused + more > _ANSWERS_PER_FRAME or len(rows) >= _SENTENCES)):
            self._headers.append({})
            rows = []
        if not rows:
            self._headers[-1]["refused"] = rows
            self._refused = 0
        self._refused += more
        return rows

    def _replace(self, name: str, value: object) -> bool:
        for header in self._headers:
            if name in header:
                header[name] = value
                return True
        return False


def notice(error: LanewayError, *, fatal: bool = False) -> dict[str, object]:
    """Return the `notice` map that tells a client of an error; `fatal` = the link closes after it."""
    fields: dict[str, object] = {
        "code": error.code,
        "reason": error.reason,
        "message": error.message,
        "retryable": error.retryable,
        "retry_after_ms": error.retry_after_ms,
    }
    if fatal:
        fields["fatal"] = True
    return fields


def refused(refusals: Iterable[tuple[Envelope, LanewayError]]) -> list[Refused]:
    """Return the rows of `refused` that tell of these events: one for each error."""
    rows: dict[int, Refused] = {}
    for env, error in refusals:
        if (row := rows.get(id(error))) is None:
            row = rows[id(error)] = ([], error.code, error.reason, error.message, error.retry_after_ms)
        row[0].append(env[1])
    return list(rows.values())
