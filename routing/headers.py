"""Header content waiting for a frame: answers, pings, notices.

Law of this file: content leaves in the order in which it came; lists of answers gather, so that a
thousand OKs cost one frame; of pongs and qualities only the newest is worth sending. Bounded: the owner asks
`overfull` and ends the link.
"""

from __future__ import annotations

from typing import Any, Final

from laneway.routing.errors import LanewayError

__all__ = ["HeaderQueue", "notice"]

_MAX_ANSWERS: Final = 8192
_ANSWERS_PER_FRAME: Final = 1024
_REFUSALS_PER_FRAME: Final = 128
"""A refusal has a sentence: so many, beside as many OKs as there may be, are below a frame's 64 KiB of header."""
_NEWEST: Final = frozenset({"pong", "quality"})
"""Only the newest of these is worth sending."""


class HeaderQueue:
    """Header maps to go out, one a frame.

    Attributes:
        patient: nothing but lists of answers waits, which may wait for company.
    """

    __slots__ = ("_answers", "_headers", "patient")

    def __init__(self) -> None:
        self._headers: list[dict[str, Any]] = []
        self._answers = 0
        self.patient = True

    def __len__(self) -> int:
        return len(self._headers)

    @property
    def overfull(self) -> bool:
        """True if more than 8,192 answers wait: nobody reads them."""
        return self._answers > _MAX_ANSWERS

    def add(self, name: str, value: object) -> None:
        """Add one field: to the last frame waiting if it is free there (lists join), else to a new one."""
        self._answers += len(value) if isinstance(value, list) else 1
        if isinstance(value, list):
            most = _REFUSALS_PER_FRAME if name == "refused" else _ANSWERS_PER_FRAME
            for first in range(0, len(value), most):
                self._gather(name, value[first : first + most], most)
            return
        if name in _NEWEST and self._replace(name, value):
            return
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
        return header

    def _gather(self, name: str, rows: list[Any], most: int) -> None:
        """Add rows to the last frame waiting if they fit there, else to a new one."""
        last = self._headers[-1] if self._headers else None
        if last is not None and len(last.get(name, ())) + len(rows) <= most:
            last.setdefault(name, []).extend(rows)
        else:
            self._headers.append({name: rows})

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
