"""One run as its AG-UI client sees it: delivered items in, server-sent events out.

Law of this file: only what AG-UI knows goes out, as the stock clients take it (measured with
@ag-ui/client 0.0.59 and 1.0.0): LF framing, no null for what is absent, no field or type of our
own at the top (kinds that AG-UI lacks travel as CUSTOM if they carry JSON), the client's own ids,
RUN_STARTED first, nothing after the run's end. Everything keeps the order of the session.

Each event's `id:` is the cursor after it, so that a client that lost its connection goes on
exactly there: the word of `cursors.py`, and ``~document`` behind it for a client that was given the
state of that shared document.

The outcome "cancelled" kills clients older than 1.0; they get none, and
``metadata.finishedReason`` says it (https://github.com/ag-ui-protocol/ag-ui/issues/2327).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring
from typing import Any, Final, NamedTuple

from laneway.engine.codec import decode_json
from laneway.engine.edge.agui_input import RunRequest
from laneway.engine.edge.cursors import cursor_word, hello_cursor
from laneway.engine.events import EVENT_TYPES, from_envelope
from laneway.routing.envelope import BODY, ENTITY, KIND, RUN, SEAL, Envelope
from laneway.routing.errors import PeerProtocolError
from laneway.routing.items import GAP_KIND, read_items
from laneway.routing.replay import Cursor

__all__ = ["Place", "RunOutput", "parse_place"]

_URGENT: Final = 0
_TEXT: Final = {
    "TEXT_MESSAGE_CONTENT": '{"type":"TEXT_MESSAGE_CONTENT","messageId":"',
    "TOOL_CALL_ARGS": '{"type":"TOOL_CALL_ARGS","toolCallId":"',
    "REASONING_MESSAGE_CONTENT": '{"type":"REASONING_MESSAGE_CONTENT","messageId":"',
}
"""The hot kinds; ids of our alphabet need no escaping."""
_KNOWN: Final = frozenset(EVENT_TYPES)
_ENDS: Final = frozenset({"RUN_FINISHED", "RUN_ERROR"})
_SHARED: Final = frozenset({"STATE_SNAPSHOT", "STATE_DELTA", "ACTIVITY_SNAPSHOT", "ACTIVITY_DELTA", "CUSTOM"})
"""AG-UI kinds that mean something outside of a run."""
_NULLABLE: Final = frozenset({"value", "snapshot"})
"""Required fields whose value may be null; elsewhere null is fatal to the clients."""
_UNNAMED: Final = "."
"""Stands for a state without a document; no id is only dots."""
_MAX_DOCUMENT_CHARS: Final = 128


class Place(NamedTuple):
    """Where a client stands: a cursor, and the document whose state it follows."""

    cursor: Cursor
    document: str = ""

    def __str__(self) -> str:
        word = cursor_word(self.cursor)
        return f"{word}~{self.document}" if self.document else word


def parse_place(text: str) -> Place:
    """Read a `Last-Event-ID` of ours. Raises PeerProtocolError(BAD_TYPE)."""
    word, _, document = text.partition("~")
    hello = hello_cursor(word)
    epoch, urgent, data = hello["cursor"]
    return Place(Cursor(epoch, urgent, data, hello["skip"]), document[:_MAX_DOCUMENT_CHARS])


class RunOutput:
    """Writes the events of one run.

    Args:
        asked: the run.
        place: where the link begins.
        resumed: the client has had the beginning of the run.
        only_end: write nothing of the run but its end.

    Attributes:
        over: the run has ended; nothing more will be written.
    """

    def __init__(self, asked: RunRequest, place: Place, *, resumed: bool = False, only_end: bool = False) -> None:
        self.over = False
        self._only_end = only_end
        self._asked = asked
        self._run = asked.run_id
        self._begun = resumed
        self._epoch = place.cursor.epoch
        _, self._urgent, self._data, self._skip = place.cursor
        self._document = place.document

    @property
    def place(self) -> Place:
        """Where a client stands that has everything written so far."""
        return Place(Cursor(self._epoch, self._urgent, self._data, self._skip), self._document)

    def take(self, header: Mapping[str, Any], envelopes: Sequence[Envelope]) -> bytes:
        """Return what to send for one frame of the link, in order; empty if it is not for this client.

        Raises PeerProtocolError for a frame whose shape does not fit its items.
        """
        if not envelopes or header.get("snapshot") is True or self.over:
            return b""  # a stock client brings its own history
        out: list[str] = []
        urgent = header.get("stream") == _URGENT
        for first, span, _, tail, env, _ in read_items(header, envelopes):
            last = first + span - 1
            if urgent:
                self._urgent = last
            elif tail:
                self._data, self._skip = last - 1, tail
            else:
                self._data, self._skip = last, 0
            self._write(env, out)
            if self.over:
                break
        return "".join(out).encode()

    def _write(self, env: Envelope, out: list[str]) -> None:
        kind, run = env[KIND], env[RUN]
        if (run != self._run and run) or (self._only_end and kind not in _ENDS):
            return
        if not self._begun and kind != "RUN_STARTED" and (kind not in _ENDS or not run):
            return
        opening = _TEXT.get(kind)
        if opening is not None:
            body = env[BODY]
            if run and (not body or body[0] != SEAL):
                delta = encode_basestring(body.decode("utf-8", "replace"))
                out.append(f'id: {self._id()}\ndata: {opening}{env[ENTITY]}","delta":{delta}}}\n\n')
                return
        event = self._event(env)
        if event is not None:
            data = json.dumps(event, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            out.append(f"id: {self._id()}\ndata: {data}\n\n")

    def _id(self) -> str:
        if self._skip or self._document:
            return str(self.place)
        return f"{self._epoch}.{self._urgent}.{self._data}"  # as `cursor_word`, without the objects around it

    def _event(self, env: Envelope) -> dict[str, Any] | None:
        """Return the AG-UI event of an envelope, or None if this client does not get it."""
        kind = env[KIND]
        if kind not in _KNOWN:
            return _custom(env)
        if kind == "RAW" or not (env[RUN] or self._follows(env)):
            return None
        event = _readable(env)
        if event is None:
            return None
        if kind == "RUN_STARTED":
            self._begun = True
            self._own_ids(event)
        elif kind in _ENDS:
            self.over = True
            if event["type"] == "RUN_FINISHED":
                self._own_ids(event)
        return {name: value for name, value in event.items() if value is not None or name in _NULLABLE}

    def _follows(self, env: Envelope) -> bool:
        """Return whether an event outside of runs makes sense here: a delta needs its snapshot before it."""
        kind = env[KIND]
        if kind == "STATE_SNAPSHOT":
            self._document = env[ENTITY] or _UNNAMED
        elif kind == "STATE_DELTA":
            return self._document == (env[ENTITY] or _UNNAMED)
        return kind in _SHARED

    def _own_ids(self, event: dict[str, Any]) -> None:
        """Give the client its own ids back, and only what its version knows."""
        asked = self._asked
        names = {"threadId": asked.thread, "runId": asked.run}
        event.update(names)
        if asked.outcomes:
            if isinstance(event.get("input"), dict):
                event["input"] = {**event["input"], **names}
            return
        event.pop("protocolVersion", None)
        event.pop("input", None)  # to an older client it must be whole, tools and context too
        outcome = event.get("outcome")
        if isinstance(outcome, Mapping) and outcome.get("type") == "cancelled":
            del event["outcome"]
            event["metadata"] = {**(event.get("metadata") or {}), "finishedReason": "cancelled"}


def _readable(env: Envelope) -> dict[str, Any] | None:
    """Return the event without `rawEvent`; of a body that cannot be read only the end of a run is told."""
    try:
        event = from_envelope(env)
    except PeerProtocolError as error:
        if env[KIND] not in _ENDS:
            return None
        return {
            "type": "RUN_ERROR",
            "message": f"the end of the run cannot be read: {error.message}",
            "code": error.code,
        }
    event.pop("rawEvent", None)
    return event


def _custom(env: Envelope) -> dict[str, Any] | None:
    """Return an event of a kind that AG-UI lacks as CUSTOM, if its body is a JSON object or array."""
    if env[KIND] == GAP_KIND or env[BODY][:1] not in (b"{", b"["):
        return None
    try:
        value = decode_json(env[BODY])
    except PeerProtocolError:
        return None
    event = {"type": "CUSTOM", "name": env[KIND], "value": value}
    if env[ENTITY]:
        event["metadata"] = {"entity": env[ENTITY]}
    return event
