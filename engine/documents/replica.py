"""A client's copy of a shared document: edit it at once, exchange y-protocols messages when there is a link.

Law of this file: sans-IO. Local edits collect until `changes()`; `receive` takes any message in any
order, twice or late, and returns what is to be sent back. Text positions are code points.

Typical use, `send(kind, body)` being one event with entity = the document's id::

    replica = Replica("notes")
    send("DOC_SYNC", replica.hello())                # subscribe, and ask for what is there
    replica.insert_text(0, "Hello")
    for body in replica.changes():                   # after every edit, or now and then
        send("DOC_SYNC", body)
    for answer in replica.receive(event_body):       # for every DOC_SYNC and PRESENCE event
        send("DOC_SYNC", answer)

After a new link or a RESUME_FAILED send `hello` again: it brings whatever was missed.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pycrdt import Text

from laneway.actors.sync.content import Content
from laneway.actors.sync.messages import MessageType, decode_message, decode_vector, encode_message, encode_vector
from laneway.actors.sync.patch import PATCH_LIMITS, apply, diff, parse_operations
from laneway.actors.sync.presence import PresenceTable
from laneway.actors.sync.update import UpdateLimits, parse_update
from laneway.actors.sync.values import Json, canonical, check
from laneway.engine.documents.yjs import YjsDocument, YjsEngine, byte_index, stop_panics
from laneway.routing.errors import LocalProtocolError

__all__ = ["Replica"]

_LIMITS: Final = UpdateLimits(structs=10_000_000)
_MERGE: Final = 100


class Replica:
    """One client's replica of one document. Not thread-safe.

    Args:
        name: document id (the `entity` of its events).
        client_id: own id, unique among all clients ever; random (32 bits, as in yjs) by default.
    """

    def __init__(self, name: str, client_id: int | None = None) -> None:
        self.name = name
        self.client_id = client_id if client_id is not None else 1 + secrets.randbelow(2**32 - 1)
        self._document = YjsDocument(name, self.client_id)
        self._content = Content(self._document)
        self._changes: list[bytes] = []
        self._presence = PresenceTable(max_clients=10_000, state_chars=65_536)
        self._presence_clock = 0

    # ---- the wire ---------------------------------------------------------------------------

    def hello(self) -> bytes:
        """Return the DOC_SYNC body that subscribes, and asks for what this replica lacks."""
        return encode_message(MessageType.STEP1, encode_vector(self._content.vector()))

    def changes(self) -> list[bytes]:
        """Return DOC_SYNC bodies with the local edits since the last call (usually none or one)."""
        merge = YjsEngine().merge
        parts = [self._changes[index : index + _MERGE] for index in range(0, len(self._changes), _MERGE)]
        self._changes = []
        return [encode_message(MessageType.UPDATE, merge(part)) for part in parts]

    def receive(self, body: bytes) -> list[bytes]:
        """Take the body of a DOC_SYNC or PRESENCE event; return DOC_SYNC bodies to send back.

        Raises PeerProtocolError for a malformed one; nothing of it is kept, except that after reason
        BAD_UPDATE (the library failed midway) a new replica is needed: see `sound`.
        """
        message = decode_message(body)
        if message.type is MessageType.STEP1:
            decode_vector(message.payload)
            return [encode_message(MessageType.STEP2, self._document.diff(message.payload))]
        if message.type is MessageType.AWARENESS:
            self._presence.receive(message.payload, "", 0.0)
        elif message.type in (MessageType.STEP2, MessageType.UPDATE):
            update = parse_update(message.payload, _LIMITS)
            if not update.empty and self._content.integrate(update).held:
                return [self.hello()]
        return []

    # ---- state ------------------------------------------------------------------------------

    def json(self) -> Json:
        """Return the shared state as JSON. O(document)."""
        return self._document.json()

    def canonical(self) -> bytes:
        """Return the state's canonical JSON text: equal texts, equal states."""
        return canonical(self.json())

    def fingerprint(self) -> bytes:
        """Return state vector and delete set: what two replicas must share to be equal."""
        return self._document.fingerprint()

    @property
    def pending(self) -> int:
        """Received updates that wait for missing ones."""
        return self._content.pending

    @property
    def sound(self) -> bool:
        """False once the library failed in the middle of a change: replace this replica by a new one."""
        return not self._content.spoiled

    def patch(self, operations: Sequence[Mapping[str, Any]]) -> None:
        """Apply a JSON patch (RFC 6902) to the state, whole or not at all. Raises PeerProtocolError."""
        parsed = parse_operations(check(list(map(dict, operations)), PATCH_LIMITS.json))
        if not isinstance(apply(self.json(), parsed), dict):
            raise LocalProtocolError("the root of a document is an object; give it a dict")
        fresh = self._content.patch(parsed)
        if fresh:
            self._changes.append(fresh)

    def set(self, state: Mapping[str, Json]) -> None:
        """Make the state equal to `state`, with the fewest changes. Raises PeerProtocolError."""
        self.patch(diff(self.json(), dict(state)))

    # ---- text -------------------------------------------------------------------------------

    def text(self, name: str = "text") -> str:
        """Return the shared text under this root name (what editors bind to)."""
        return str(self._text(name))

    def insert_text(self, index: int, value: str, name: str = "text") -> None:
        """Insert before the code point at `index`. O(text). Raises LocalProtocolError for a bad index."""
        shared = self._text(name)
        start, _ = self._span(str(shared), index, index)
        whole = _whole(value)
        self._edit(lambda: shared.insert(start, whole))

    def delete_text(self, index: int, count: int, name: str = "text") -> None:
        """Delete `count` code points from `index`. O(text). Raises LocalProtocolError for a bad range."""
        shared = self._text(name)
        start, stop = self._span(str(shared), index, index + count)
        if stop > start:
            self._edit(lambda: shared.__delitem__(slice(start, stop)))

    def _text(self, name: str) -> Text:
        with stop_panics(f"text {name!r} of document {self.name!r}"):
            shared: Text = self._document.doc.get(_whole(name), type=Text)
            return shared

    def _span(self, text: str, start: int, stop: int) -> tuple[int, int]:
        if not 0 <= start <= stop <= len(text):
            raise LocalProtocolError(f"range {start}:{stop} is outside the text of {len(text)} characters")
        return byte_index(text, start), byte_index(text, stop)

    def _edit(self, change: Callable[[], object]) -> None:
        with stop_panics(f"an edit of document {self.name!r}"):
            change()
        for fresh in self._document.taken():
            self._content.note(fresh)
            self._changes.append(fresh)

    # ---- presence ---------------------------------------------------------------------------

    def presence(self, state: Mapping[str, Json] | None) -> bytes:
        """Return the PRESENCE body that tells this client's state; None says that it left.

        Send it again every 15 s; who is silent for 30 s counts as gone.
        """
        self._presence_clock += 1
        text = json.dumps(check(dict(state)) if state is not None else None, separators=(",", ":"), ensure_ascii=False)
        own = PresenceTable.entry(self.client_id, self._presence_clock, text)
        self._presence.receive(own, "", 0.0)
        return encode_message(MessageType.AWARENESS, own)

    def peers(self) -> dict[int, Json]:
        """Return client id -> presence state, this client included."""
        return {client: json.loads(state) for client, state in self._presence.states().items()}

    def close(self) -> None:
        """Free the document; idempotent."""
        self._content.close()


def _whole(text: str) -> str:
    """Return the text if the wire can carry it; half a surrogate pair makes the library panic."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise LocalProtocolError("a text holds half of a surrogate pair; pass whole characters") from None
    return text
