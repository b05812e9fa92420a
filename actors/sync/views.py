"""What one session is still to be told of a document: a cursor, not a queue.

Law of this file: a view is bounded whatever its session's speed. Frames that wait beyond 64 KiB are
forgotten and made up for by one difference from the state vector; the JSON view keeps only what it
last told and compares. So a slow session costs little and delays nobody.

Source: y-protocols (a session that asked gets step 2, updates, awareness); AG-UI STATE_SNAPSHOT and
STATE_DELTA (a delta applies to exactly what was told before).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Final, Protocol

import msgpack

from laneway.actors.ports import Out
from laneway.actors.sync.content import Content
from laneway.actors.sync.messages import MessageType, encode_message, encode_vector, least
from laneway.actors.sync.patch import diff
from laneway.actors.sync.presence import PresenceTable
from laneway.actors.sync.update import parse_update
from laneway.actors.sync.values import Json, canonical, same

__all__ = ["FRAMES", "STATE", "FrameView", "Origin", "StateView", "View", "state_change"]

FRAMES: Final = "frames"
STATE: Final = "state"
_QUEUE_BYTES: Final = 65_536
_MERGE: Final = 100
_SMALL_BYTES: Final = 256
_PRODUCERS: Final = 64

Origin = tuple[str, str]
"""(session, producer) an update came from; ("", "") for the engine's own."""


class View(Protocol):
    """One session's view."""

    session: str
    trace: str

    @property
    def dirty(self) -> bool:
        """Whether there is something to tell."""
        ...

    @property
    def needs_content(self) -> bool:
        """Whether telling it needs the document."""
        ...


class FrameView:
    """A session that speaks y-protocols.

    Args:
        merge: folds at most 100 updates into one.
    """

    def __init__(self, session: str, document: str, merge: Callable[[Sequence[bytes]], bytes]) -> None:
        self.session = session
        self.trace = ""
        self._document = document
        self._merge = merge
        self._producers: set[str] = set()
        self._asked: dict[int, int] | None = None
        self._greet = False
        self._updates: list[bytes] = []
        self._bytes = 0
        self._dropped: dict[int, int] | None = None
        self._present: set[int] = set()
        self._everybody = False

    @property
    def dirty(self) -> bool:
        """Whether there is something to tell."""
        return bool(self.needs_content or self._updates or self._present or self._everybody)

    @property
    def needs_content(self) -> bool:
        """Whether telling it needs the document."""
        return self._asked is not None or self._greet or self._dropped is not None

    def ask(self, vector: dict[int, int], producer: str) -> None:
        """Answer a sync step 1. Several before the answer get one that serves all."""
        if len(self._producers) < _PRODUCERS:
            self._producers.add(producer)
        self._asked = vector if self._asked is None else least(self._asked, vector)
        self._greet = self._everybody = True

    def greet(self) -> None:
        """Ask the session for what it has (a sync step 1 of ours)."""
        self._greet = True

    def resync(self) -> None:
        """The document may have changed unseen: tell all of it, and ask."""
        self._asked = {}
        self._greet = True

    def add(self, update: bytes, origin: Origin) -> None:
        """Tell an update, unless the session's only client made it."""
        if origin == (self.session, next(iter(self._producers), "")) and len(self._producers) == 1:
            return
        self._updates.append(update)
        self._bytes += len(update)
        if self._bytes > _QUEUE_BYTES:
            self._drop()

    def _drop(self) -> None:
        """Forget the queue but for where it began, per client."""
        dropped = self._dropped or {}
        for raw in self._updates:
            for struct in parse_update(raw).structs:
                dropped[struct.client] = min(struct.clock, dropped.get(struct.client, struct.clock))
        self._dropped = dropped
        self._updates.clear()
        self._bytes = 0

    def tell_presence(self, clients: Sequence[int]) -> None:
        """Tell these clients' awareness, as it is when the frame goes out."""
        self._present.update(clients)

    def take(self, content: Content | None, presence: PresenceTable) -> list[Out]:
        """Return what is to be told now, and count it as told. Needs the content if `needs_content`."""
        bodies = self._differences(content) if content is not None else []
        while self._updates:
            part, self._updates = self._updates[:_MERGE], self._updates[_MERGE:]
            bodies.append(encode_message(MessageType.UPDATE, self._merge(part)))
        self._bytes = 0
        outs = [Out("DOC_SYNC", body, self._document) for body in bodies]
        if self._everybody or self._present:
            payload = presence.encode(None if self._everybody else sorted(self._present))
            self._everybody = False
            self._present.clear()
            if payload != b"\0":
                outs.append(Out("PRESENCE", encode_message(MessageType.AWARENESS, payload), self._document))
        return outs

    def _differences(self, content: Content) -> list[bytes]:
        bodies, vector = [], content.vector()
        if self._asked is not None or self._dropped is not None:
            known = vector if self._asked is None else self._asked
            if self._dropped is not None:
                known = {client: min(clock, self._dropped.get(client, clock)) for client, clock in known.items()}
            kind = MessageType.UPDATE if self._asked is None else MessageType.STEP2
            bodies.append(encode_message(kind, content.document.diff(encode_vector(known))))
            self._asked = self._dropped = None
        if self._greet:
            bodies.append(encode_message(MessageType.STEP1, encode_vector(vector)))
            self._greet = False
        return bodies


class StateView:
    """A session that follows the document as AG-UI state."""

    def __init__(self, session: str, document: str) -> None:
        self.session = session
        self.trace = ""
        self.dirty = True
        self._document = document
        self._told: Json = None
        self._digest = b""

    @property
    def needs_content(self) -> bool:
        """Always: it is told the document."""
        return True

    def restart(self) -> None:
        """Tell a snapshot next."""
        self._told, self._digest, self.dirty = None, b"", True

    def freeze(self) -> None:
        """The document is put away: keep only a digest of what was told."""
        if self._told is not None:
            self._told, self._digest = None, _digest(self._told)

    def thaw(self, value: Json) -> None:
        """The document is back: if it is what was told, deltas go on."""
        if self._digest:
            same_again = _digest(value) == self._digest
            self._told, self._digest = (value if same_again else None), b""
            self.dirty = self.dirty or not same_again

    def take(self, value: Json, change: Callable[[Json, Json], Out]) -> list[Out]:
        """Return what tells `value`, and count it as told.

        Args:
            change: as `state_change`, perhaps shared between views.
        """
        self.dirty = False
        told, self._told = self._told, value
        if told is not None and (told is value or same(told, value)):
            return []
        return [change(told, value)._replace(entity=self._document)]


def state_change(told: Json, value: Json) -> Out:
    """Return STATE_DELTA, or STATE_SNAPSHOT if nothing was told yet or it is smaller. O(document)."""
    if told is None:
        return Out("STATE_SNAPSHOT", msgpack.packb({"snapshot": value}))
    delta = msgpack.packb({"delta": diff(told, value)})
    if len(delta) > _SMALL_BYTES:
        snapshot = msgpack.packb({"snapshot": value})
        if len(snapshot) < len(delta):
            return Out("STATE_SNAPSHOT", snapshot)
    return Out("STATE_DELTA", delta)


def _digest(value: Json) -> bytes:
    return blake2b(canonical(value), digest_size=16).digest()
