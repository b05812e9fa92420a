"""A cursor as one word, for event ids and URLs.

Law of this file: ``epoch.urgent.data``, and ``+bytes`` behind it where the seq after it was given in
part; what is read is checked like any cursor.
"""

from __future__ import annotations

import re
from typing import Any, Final

from laneway.routing.errors import PeerProtocolError
from laneway.routing.replay import Cursor

__all__ = ["cursor_word", "hello_cursor"]

_WORD: Final = re.compile(r"([A-Za-z0-9_.:-]{1,64})\.([0-9]{1,19})\.([0-9]{1,19})(?:\+([0-9]{1,19}))?\Z")


def cursor_word(cursor: Cursor) -> str:
    """Return the word of a cursor."""
    tail = f"+{cursor.skip}" if cursor.skip else ""
    return f"{cursor.epoch}.{cursor.urgent}.{cursor.data}{tail}"


def hello_cursor(word: str) -> dict[str, Any]:
    """Return the fields `cursor` and `skip` of a hello that resumes there. Raises PeerProtocolError."""
    match = _WORD.match(word)
    if match is None:
        raise PeerProtocolError("a cursor is the id of an event, as it came: epoch.urgent.data", reason="BAD_TYPE")
    return {"cursor": [match[1], int(match[2]), int(match[3])], "skip": int(match[4] or 0)}
