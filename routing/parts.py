"""Parts of one large text event, and putting them together again.

Law of this file: the parts of an event, joined in order, are its body to the byte; each is at most
`limit` bytes and valid UTF-8 if the whole is. They carry the event's own id, address and lane, so
they stay in order, weigh as what they are, and end with it.

A part says which it is in the envelope's `after` field, as ``#3/7``. That field is free by then: the
dispatcher has consumed it and clears it on all that it hands out, so no client can forge a part, and
the mark crosses a wire with the envelope as it is.
"""

from __future__ import annotations

from typing import Final

from laneway.routing.envelope import AFTER, BODY, Envelope, envelope_id, key_of
from laneway.routing.errors import LocalProtocolError

__all__ = ["PART_BYTES", "Reassembler", "cut", "is_last", "part_of"]

PART_BYTES: Final = 16_384
"""Larger text bodies become parts: at 16 KiB one event holds a lane up for about as long as 75 small ones."""
_LOOK_BACK_BYTES: Final = 256
"""How far before the limit a line or word end is looked for."""


def cut(env: Envelope, limit: int = PART_BYTES) -> list[Envelope]:
    """Return the parts of an event, or the event itself if its body is within the limit. O(body).

    Cuts fall after a line end, else after a blank, near the limit; else between characters.

    Raises:
        LocalProtocolError: a limit below 4, which some characters would not fit.
    """
    body = env[BODY]
    if limit < 4:
        raise LocalProtocolError(f"a part limit of {limit} bytes is below the longest UTF-8 character; use 4 or more")
    pieces: list[bytes] = []
    start = 0
    while len(body) - start > limit:
        end = _cut_at(body, start, start + limit)
        pieces.append(body[start:end])
        start = end
    if not pieces:
        return [env]
    pieces.append(body[start:])
    count = len(pieces)
    return [(*env[:AFTER], f"#{index}/{count}", piece, env[12]) for index, piece in enumerate(pieces, 1)]


def part_of(env: Envelope) -> tuple[int, int] | None:
    """Return (index from 1, count) of a part that a dispatcher handed out, None of a whole event."""
    mark = env[AFTER]
    if not mark.startswith("#"):
        return None
    index, _, count = mark[1:].partition("/")
    return int(index), int(count)


def is_last(env: Envelope) -> bool:
    """True unless it is a part that is not the last of its event."""
    part = part_of(env)
    return part is None or part[0] == part[1]


def _cut_at(body: bytes, start: int, end: int) -> int:
    """Return where to cut body[start:], at most at `end` and beyond `start`."""
    earliest = max(start + 1, end - _LOOK_BACK_BYTES)
    for blank in (b"\n", b" "):
        found = body.rfind(blank, earliest - 1, end)
        if found >= 0:
            return found + 1
    place = end
    while place > end - 3 and body[place] & 0xC0 == 0x80:
        place -= 1
    # four continuation bytes in a row are not UTF-8: any cut is as good
    return place if body[place] & 0xC0 != 0x80 else end


class Reassembler:
    """Joins the parts of events; whole events pass through.

    What it holds is bounded by what is in flight; `drop` an event that ended before its last part.
    """

    __slots__ = ("_partial",)

    def __init__(self) -> None:
        self._partial: dict[tuple[str, str, str, int], list[Envelope]] = {}

    def __len__(self) -> int:
        return len(self._partial)

    def offer(self, env: Envelope) -> Envelope | None:
        """Take a part or a whole event; return the event if it is complete now, else None.

        Raises:
            LocalProtocolError: a part other than the next one of its event.
        """
        mark = part_of(env)
        if mark is None:
            return env
        index, count = mark
        key = key_of(env)
        parts = self._partial.setdefault(key, [])
        if index != len(parts) + 1:
            raise LocalProtocolError(
                f"part {index} of {count} of event {envelope_id(env)} came after {len(parts)}; "
                "deliver the parts of one event in order and to one place"
            )
        parts.append(env)
        if index < count:
            return None
        del self._partial[key]
        return (*env[:AFTER], "", b"".join([part[BODY] for part in parts]), env[12])

    def drop(self, env: Envelope) -> None:
        """Forget the parts of the event with this id; none is fine."""
        self._partial.pop(key_of(env), None)
