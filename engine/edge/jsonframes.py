"""The JSON form of frames: what browsers read and write, and nothing is lost on the way.

Law of this file: one mapping, both ways, for WebSocket text messages, server-sent events and JSON
answers (docs/protocol.md). A frame is ``{"header": {...}, "events": [...]}``; an event is an object
of the envelope's fields, empty ones left out. Its body stands under exactly one key, or none:

- ``text``: the body is this text in UTF-8;
- ``data``: the body is this object in msgpack;
- ``sealed``: a delta that carries more than its text: 0xFF, then this object in msgpack;
- ``base64``: the body is these bytes.

Beside `data`, `sealed` and `base64` stands ``bytes``, what the body weighs for credit; a client knows that
of a text. Coming in it is passed over.

What comes in is held to the same limits as msgpack; a kind travels by name or number.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from laneway.actors.ports import Clock
from laneway.engine.codec import decode_json, decode_text, pack_body, unpack_body, unpack_envelope
from laneway.engine.frames import Frame
from laneway.engine.limits import DEFAULT_LIMITS, Limits
from laneway.engine.values import refuse
from laneway.routing.classify import KindTable
from laneway.routing.envelope import BODY, DEADLINE, KIND, NO_DEADLINE, SEAL, Envelope
from laneway.routing.errors import LocalProtocolError, PeerProtocolError

__all__ = ["JsonFrames"]

_FIELDS: Final = (
    ("producer", 0),
    ("counter", 1),
    ("kind", KIND),
    ("tenant", 3),
    ("session", 4),
    ("run", 5),
    ("entity", 6),
    ("lane", 7),
    ("trace", 9),
    ("after", 10),
)
_DEFAULTS: Final[dict[str, Any]] = {
    "producer": "peer",
    "counter": 0,
    "kind": "",
    "tenant": "",
    "session": "",
    "run": "",
    "entity": "",
    "lane": 0,
    "remaining_ms": None,
    "trace": "",
    "after": "",
}
"""What an absent field means; `lane` 0 asks for the kind's own."""
_BODIES: Final = ("text", "data", "sealed", "base64")
_WEIGHT: Final = "bytes"
_BYTES_KINDS: Final = frozenset({"DOC_SYNC", "PRESENCE"})
"""Always base64: some of their messages happen to be text."""
_SEAL: Final = bytes([SEAL])


class JsonFrames:
    """Frames as JSON.

    Args:
        limits: of frames and bodies that come in.
    """

    __slots__ = ("_clock", "_kinds", "_limits")

    def __init__(self, kinds: KindTable, clock: Clock, limits: Limits = DEFAULT_LIMITS) -> None:
        self._kinds = kinds
        self._clock = clock
        self._limits = limits

    def decode(self, data: bytes) -> Frame:
        """Return header and events of one JSON document. Raises PeerProtocolError."""
        document = decode_json(data, self._limits)
        if not isinstance(document, dict) or not document.keys() <= {"header", "events"}:
            refuse("BAD_TYPE", 'a frame is {"header": {...}, "events": [...]}')
        header = document.get("header", {})
        if not isinstance(header, dict):
            refuse("BAD_TYPE", "a frame's header is an object")
        return header, self.events(document.get("events", []))

    def events(self, given: object, trace: str = "") -> list[Envelope]:
        """Return the envelopes of a decoded list of events. Raises PeerProtocolError.

        Args:
            trace: W3C traceparent of the request, for events without one of their own.
        """
        if not isinstance(given, list):
            refuse("BAD_TYPE", "events are a list of objects")
        if len(given) > self._limits.items:
            refuse("TOO_MANY_ITEMS", f"{len(given)} events in one frame are over the limit of {self._limits.items}")
        now = self._clock.now()
        return [self._envelope(event, now, trace) for event in given]

    def encode(self, header: Mapping[str, Any], envelopes: Sequence[Envelope]) -> bytes:
        """Return one JSON document, in one line."""
        from pydantic_core import to_json

        return to_json({"header": header, "events": [self.event(env) for env in envelopes]})

    def event(self, env: Envelope) -> dict[str, Any]:
        """Return the object of one event."""
        fields: dict[str, Any] = {name: env[index] for name, index in _FIELDS if env[index] != ""}
        if env[DEADLINE] != NO_DEADLINE:
            fields["remaining_ms"] = max(0, math.ceil((env[DEADLINE] - self._clock.now()) * 1000.0))
        if env[BODY]:
            fields.update(_shown(env[KIND], env[BODY]))
            if "text" not in fields:
                fields[_WEIGHT] = len(env[BODY])
        return fields

    def _envelope(self, event: object, now: float, trace: str) -> Envelope:
        if not isinstance(event, dict):
            refuse("BAD_TYPE", "an event is an object")
        for name in event:
            if name not in _DEFAULTS and name not in _BODIES and name != _WEIGHT:
                refuse("BAD_TYPE", f"{name[:64]!r} is not a field of an event")
        if "counter" not in event:
            refuse("NUMBER_RANGE", "an event needs its `counter`: 1, and one more for each that this client sends")
        bodies = [name for name in _BODIES if name in event]
        if len(bodies) > 1:
            refuse("BAD_TYPE", f"an event has one body, not {' and '.join(bodies)}")
        body = _taken(bodies[0], event[bodies[0]]) if bodies else b""
        row = [event.get(name, default) for name, default in (_DEFAULTS | {"trace": trace}).items()]
        return unpack_envelope(_packed([*row, body]), now, self._kinds, self._limits)


def _shown(kind: str, body: bytes) -> dict[str, Any]:
    """Return the body under the first key that gives these very bytes back."""
    if kind not in _BYTES_KINDS:
        if body[0] == SEAL:
            sealed = _as_map(body[1:])
            if sealed is not None:
                return {"sealed": sealed}
        try:
            return {"text": decode_text(body)}
        except PeerProtocolError:
            data = _as_map(body)
            if data is not None:
                return {"data": data}
    return {"base64": base64.b64encode(body).decode("ascii")}


def _as_map(data: bytes) -> dict[str, Any] | None:
    """Return the msgpack map if JSON can hold it and packing it again gives the same bytes."""
    try:
        found = unpack_body(data)
    except PeerProtocolError:
        return None
    return found if _is_json(found) and pack_body(found) == data else None


def _is_json(document: object) -> bool:
    """Return whether a checked document holds no bytes."""
    level = [document]
    while level:
        below: list[object] = []
        for value in level:
            if isinstance(value, bytes):
                return False
            if isinstance(value, dict):
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
        level = below
    return True


def _taken(form: str, value: object) -> bytes:
    """Return the bytes that a body stands for. Raises PeerProtocolError."""
    if form in ("data", "sealed"):
        if not isinstance(value, dict):
            refuse("BAD_TYPE", f"{form} is an object")
        packed = _packed(value)
        return _SEAL + packed if form == "sealed" else packed
    if not isinstance(value, str):
        refuse("BAD_TYPE", f"{form} is a string")
    if form == "text":
        return _utf8(value)
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise PeerProtocolError("base64 is not base64 (RFC 4648 section 4, padded)", reason="BAD_BASE64") from error


def _packed(value: Any) -> bytes:
    try:
        return pack_body(value)
    except LocalProtocolError as error:  # the values were checked: only half a surrogate pair is left
        raise PeerProtocolError(str(error), reason="BAD_UTF8") from error


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise PeerProtocolError("a text holds half a surrogate pair", reason="BAD_UTF8") from error
