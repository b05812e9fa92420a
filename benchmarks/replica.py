"""A document being typed, and the copies of it that must end equal.

Law of this file: the bare CRDT library, nothing of ours but the frame around an update. A copy that
does not hold the author's text has no figure.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pycrdt import Doc, Text

from benchmarks.counts import Lost
from laneway.actors.sync.messages import MessageType, decode_message
from laneway.routing.envelope import BODY, KIND, Envelope

__all__ = ["Replica", "edits"]

_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz "


def edits(count: int) -> list[bytes]:
    """Return `count` Yjs updates, each one character typed at the end."""
    made: list[bytes] = []
    doc: Any = Doc()
    text = doc.get("text", type=Text)
    watching = doc.observe(lambda event: made.append(event.update))
    for number in range(count):
        text += _ALPHABET[number % len(_ALPHABET)]
    doc.unobserve(watching)
    return made


@dataclass(slots=True)
class Replica:
    """A subscriber's document.

    Attributes:
        late_s: of each update, how long after its scheduled time it was there.
    """

    late_s: list[float] = field(default_factory=list)
    doc: Any = field(default_factory=Doc)

    def apply(self, update: bytes) -> None:
        """Take what was received."""
        self.doc.apply_update(update)

    def take(self, env: Envelope, due_s: Sequence[float]) -> bool:
        """Take an event of the document; True if it was the answer to our asking, or an update."""
        if env[KIND] != "DOC_SYNC":
            return False
        message = decode_message(env[BODY])
        if message.type not in (MessageType.STEP2, MessageType.UPDATE):
            return False
        self.apply(message.payload)
        now = time.perf_counter()
        self.late_s += [now - due for due in due_s[len(self.late_s) : len(self.doc.get("text", type=Text))]]
        return True

    def check(self, who: str, count: int) -> None:
        """Raise Lost unless it holds the author's text."""
        text = str(self.doc.get("text", type=Text))
        if text != "".join(_ALPHABET[number % len(_ALPHABET)] for number in range(count)):
            raise Lost(f"{who}: the text after {count} edits is another one, of {len(text)} characters")
