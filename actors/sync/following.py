"""Which sessions of this front follow which documents, so that they can be followed again elsewhere.

Law of this file: a session's own front remembers what it follows, because the document's front may be
lost. What is remembered is enough to ask anew from nothing: who asked for frames, and whether the JSON
is followed. Pure bookkeeping, bounded by the sessions that are awake.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from laneway.actors.sync.messages import MessageType, decode_message, encode_message, encode_vector
from laneway.routing.envelope import BODY, ENTITY, KIND, PRODUCER, SESSION, TENANT, Envelope, with_body

__all__ = ["Following"]

_ANEW: Final = encode_message(MessageType.STEP1, encode_vector({}))
_STATE: Final = b"[]"
_SHORT: Final = 64
_PRODUCERS: Final = 64
"""As a view keeps them."""

Document = tuple[str, str]
"""(tenant, name)"""


@dataclass(slots=True)
class _Followed:
    """One document: at which front it was last, and session -> who asked for frames ("" = for the JSON)."""

    at: str = ""
    sessions: dict[str, dict[str, Envelope]] = field(default_factory=dict)


class Following:
    """The table. All calls but `leave` and `at` are O(1)."""

    def __init__(self) -> None:
        self._documents: dict[Document, _Followed] = {}

    def __len__(self) -> int:
        return len(self._documents)

    def note(self, env: Envelope, front: str) -> bool:
        """An event was taken by a document at this front; True if its followers here knew it at another one."""
        document = (env[TENANT], env[ENTITY])
        followed = self._documents.get(document)
        moved = followed is not None and followed.at != front
        asks = _asks(env)
        if asks is not None:
            if followed is None:
                followed = self._documents[document] = _Followed()
            asked = followed.sessions.setdefault(env[SESSION], {})
            if len(asked) < _PRODUCERS:
                asked[asks] = with_body(env, _ANEW if asks else _STATE)
        if followed is not None:
            followed.at = front
        return moved

    def at(self, fronts: set[str]) -> list[Document]:
        """Return the documents that were last at one of these fronts. O(documents)."""
        return [document for document, followed in self._documents.items() if followed.at in fronts]

    def front(self, document: Document) -> str:
        """Return where it was last, or empty."""
        followed = self._documents.get(document)
        return "" if followed is None else followed.at

    def again(self, document: Document) -> Iterator[Envelope]:
        """Yield the events that make every session here follow it as before."""
        followed = self._documents.get(document)
        if followed is not None:
            for asked in list(followed.sessions.values()):
                yield from list(asked.values())

    def leave(self, tenant: str, session: str) -> set[str]:
        """Forget a session; returns the fronts of what it followed. O(documents)."""
        fronts = set()
        for document, followed in list(self._documents.items()):
            if document[0] == tenant and followed.sessions.pop(session, None) is not None:
                fronts.add(followed.at)
                if not followed.sessions:
                    del self._documents[document]
        return fronts


def _asks(env: Envelope) -> str | None:
    """Return who asks for frames, "" for the JSON, None if the event asks for nothing that lasts."""
    if env[KIND] == "DOC_SYNC" and decode_message(env[BODY]).type is MessageType.STEP1:
        return env[PRODUCER]
    return "" if env[KIND] == "DOC_PATCH" and b"".join(env[BODY][:_SHORT].split()) == _STATE else None
