"""The handshake: what a client offers, parsed strictly, and the plan its link then follows.

Law of this file: everything negotiable about a link is decided here, once, before the first event;
afterwards the plan is frozen. Unknown keys and capabilities are skipped, so that version N + 1 can
talk to N; known keys with a wrong type are refused, because guessing hides bugs. What a client may
ask for is bounded by the policy on both sides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

from laneway.routing.errors import PeerProtocolError
from laneway.routing.replay import Cursor
from laneway.routing.segmenter import Segmenter

__all__ = [
    "MAX_CLIENT_CHARS",
    "PROTOCOL_VERSION",
    "Hello",
    "LinkPlan",
    "LinkPolicy",
    "negotiate",
    "parse_count",
    "parse_cursor",
    "parse_hello",
]

PROTOCOL_VERSION: Final = 1

MAX_CLIENT_CHARS: Final = 40
"""Of a client's id: a run without an id is named ``client-counter``, and a counter may have 19 digits."""

_MAX_ID_CHARS: Final = 64
_ID: Final = re.compile(r"[A-Za-z0-9_.:-]+")
_TOPIC: Final = re.compile(r"topic:[A-Za-z0-9_.:-]{1,122}")
"""A client chooses topics only: to listen to a user it must be that user."""
_MAX_INT: Final = 2**63 - 1
_MAX_TOPICS: Final = 64
_BANDWIDTH_SHARE: Final = 0.9
"""A declared bandwidth is paced below itself, so that the queue stays on our side, where urgent overtakes."""


@dataclass(frozen=True, slots=True)
class Hello:
    """A client's offer.

    Attributes:
        versions: protocol versions it speaks.
        client: its own stable id, at most 40 characters; a newer link of the same client supersedes the older one.
        session: the session it wants.
        cursor: what it already has, or None for a fresh start; `cursor.skip` in bytes.
        run: without a cursor: begin where this run began, so that all of it is read; a run that is not
            known (yet) begins at the present end.
        grant: absolute data position it grants at once, or None.
        grants: False if it will neither grant nor ack (paced by rate; stock AG-UI clients).
        chunk_chars, flush_s, max_items, max_frame_bytes, heartbeat_s: wishes; 0 = no wish.
        bandwidth_bytes_per_s: declared bandwidth, 0 = not declared.
        hold_sentence: give text in whole sentences (for speech).
        topics: what to listen to beside one's own user and tenant, at most 64.
    """

    versions: tuple[int, ...]
    client: str
    session: str
    cursor: Cursor | None = None
    run: str = ""
    grant: int | None = None
    grants: bool = True
    chunk_chars: int = 0
    flush_s: float = 0.0
    max_items: int = 0
    max_frame_bytes: int = 0
    heartbeat_s: float = 0.0
    bandwidth_bytes_per_s: int = 0
    hold_sentence: bool = False
    topics: tuple[str, ...] = ()

    @property
    def skip(self) -> int:
        """Bytes the client has of the data seq after its cursor."""
        return self.cursor.skip if self.cursor is not None else 0


@dataclass(frozen=True, slots=True)
class LinkPolicy:
    """What this engine offers.

    Attributes:
        chunk_chars: longest text item, in characters; a client may ask for less (>= 16).
        flush_s: longest wait for company of text, five times that of other events; a client may ask for
            0.001 to 1.
        max_items: events a frame at most. max_frame_bytes: largest frame at most.
        heartbeat_s: pause between pings; a client may ask for 1 to 300.
        silence_factor: a link without a sign of life for heartbeat_s times this is lost.
        pace_bytes_per_s: rate for clients that never grant.
        segmenter: decides where sentences end; None = our own rules.
    """

    chunk_chars: int = 200
    flush_s: float = 0.010
    max_items: int = 64
    max_frame_bytes: int = 1_048_576
    heartbeat_s: float = 10.0
    silence_factor: float = 2.5
    pace_bytes_per_s: int = 262_144
    segmenter: Segmenter | None = None


@dataclass(frozen=True, slots=True)
class LinkPlan:
    """What a link follows. `pace_bytes_per_s` 0 = not paced; the rest as in LinkPolicy."""

    version: int = PROTOCOL_VERSION
    chunk_chars: int = 200
    flush_s: float = 0.010
    max_items: int = 64
    heartbeat_s: float = 10.0
    dead_after_s: float = 25.0
    grants: bool = True
    pace_bytes_per_s: int = 0
    hold_sentence: bool = False
    max_frame_bytes: int = 1_048_576
    segmenter: Segmenter | None = None

    def describe(self) -> dict[str, int | float | bool]:
        """Return the plan as the map that `welcome` carries."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "segmenter"}


def parse_hello(offer: object) -> Hello:
    """Read the `hello` map of a client's first frame.

    Raises:
        PeerProtocolError: BAD_TYPE, BAD_ID, NUMBER_RANGE; the message names the field.
    """
    offer = _map(offer, "hello")
    versions = offer.get("v")
    if not isinstance(versions, list) or not versions or not all(type(v) is int for v in versions):
        raise _bad_type("hello.v", "a list of version numbers", versions)
    caps = _map(offer.get("caps") or {}, "hello.caps")
    grant = offer.get("grant")
    return Hello(
        versions=tuple(versions),
        client=_identifier(offer, "client", MAX_CLIENT_CHARS),
        session=_identifier(offer, "session", _MAX_ID_CHARS),
        cursor=_resume_cursor(offer),
        run=_identifier(offer, "run", _MAX_ID_CHARS) if offer.get("run") else "",
        grant=None if grant is None else parse_count(grant, "hello.grant"),
        grants=_flag(caps, "grants", default=True),
        chunk_chars=parse_count(caps.get("chunk_chars", 0), "caps.chunk_chars"),
        flush_s=parse_count(caps.get("flush_ms", 0), "caps.flush_ms") / 1000,
        max_items=parse_count(caps.get("max_items", 0), "caps.max_items"),
        max_frame_bytes=parse_count(caps.get("max_frame_bytes", 0), "caps.max_frame_bytes"),
        heartbeat_s=parse_count(caps.get("heartbeat_ms", 0), "caps.heartbeat_ms") / 1000,
        bandwidth_bytes_per_s=parse_count(caps.get("bandwidth_bytes_per_s", 0), "caps.bandwidth_bytes_per_s"),
        hold_sentence=caps.get("hold") == "sentence",
        topics=parse_topics(offer.get("topics") or []),
    )


def parse_cursor(value: object, field: str) -> Cursor:
    """Read ``[epoch, urgent seq, data seq]`` (hello, ack, welcome).

    Raises:
        PeerProtocolError: BAD_TYPE or NUMBER_RANGE.
    """
    if not isinstance(value, list | tuple) or len(value) != 3 or not isinstance(value[0], str):
        raise _bad_type(field, "[epoch, urgent seq, data seq]", value)
    return Cursor(value[0], parse_count(value[1], field), parse_count(value[2], field))


def parse_count(value: object, field: str) -> int:
    """Read a whole number of 0..2^63-1 (True and False are none).

    Raises:
        PeerProtocolError: BAD_TYPE or NUMBER_RANGE.
    """
    if type(value) is not int:
        raise _bad_type(field, "a whole number", value)
    if not 0 <= value <= _MAX_INT:
        raise PeerProtocolError(f"{field} is outside 0..2^63-1", reason="NUMBER_RANGE")
    return value


def parse_topics(value: object) -> tuple[str, ...]:
    """Read a list of at most 64 ``topic:NAME``, names of `[A-Za-z0-9_.:-]`.

    Raises:
        PeerProtocolError: BAD_TYPE, TOO_MANY_ITEMS, or BAD_TOPIC.
    """
    if not isinstance(value, list | tuple) or not all(isinstance(topic, str) for topic in value):
        raise _bad_type("hello.topics", "a list of strings", value)
    if len(value) > _MAX_TOPICS:
        raise PeerProtocolError(
            f"hello.topics has {len(value)} entries, {_MAX_TOPICS} is the most", reason="TOO_MANY_ITEMS"
        )
    for topic in value:
        if _TOPIC.fullmatch(topic) is None:
            raise PeerProtocolError(
                f"{topic[:80]!r} is no topic to listen to: write topic:NAME with a name of A-Z a-z 0-9 _ . : -",
                reason="BAD_TOPIC",
            )
    return tuple(value)


def negotiate(hello: Hello, policy: LinkPolicy) -> LinkPlan:
    """Choose what the link follows, within the policy.

    Raises:
        PeerProtocolError: UNKNOWN_VERSION if there is no common version.
    """
    if PROTOCOL_VERSION not in hello.versions:
        raise PeerProtocolError(
            f"this engine speaks protocol version {PROTOCOL_VERSION}, the client {list(hello.versions)[:8]}",
            reason="UNKNOWN_VERSION",
        )
    heartbeat_s = _clamp(hello.heartbeat_s, 1.0, 300.0) if hello.heartbeat_s else policy.heartbeat_s
    pace = int(hello.bandwidth_bytes_per_s * _BANDWIDTH_SHARE)
    if not hello.grants:
        pace = min(pace, policy.pace_bytes_per_s) if pace else policy.pace_bytes_per_s
    return LinkPlan(
        version=PROTOCOL_VERSION,
        chunk_chars=int(_clamp(hello.chunk_chars or policy.chunk_chars, 16, policy.chunk_chars)),
        flush_s=_clamp(hello.flush_s, 0.001, 1.0) if hello.flush_s else policy.flush_s,
        max_items=int(_clamp(hello.max_items or policy.max_items, 1, policy.max_items)),
        heartbeat_s=heartbeat_s,
        dead_after_s=heartbeat_s * policy.silence_factor,
        grants=hello.grants,
        pace_bytes_per_s=max(pace, 256) if pace else 0,
        hold_sentence=hello.hold_sentence,
        segmenter=policy.segmenter,
        max_frame_bytes=int(
            _clamp(hello.max_frame_bytes or policy.max_frame_bytes, 4096, max(4096, policy.max_frame_bytes))
        ),
    )


def _resume_cursor(offer: Mapping[str, object]) -> Cursor | None:
    skip = parse_count(offer.get("skip") or 0, "hello.skip")
    if offer.get("cursor") is None:
        return None
    return parse_cursor(offer["cursor"], "hello.cursor")._replace(skip=skip)


def _identifier(offer: Mapping[str, object], field: str, max_chars: int) -> str:
    value = offer.get(field)
    if not isinstance(value, str):
        raise _bad_type(f"hello.{field}", "a string", value)
    if len(value) > max_chars or _ID.fullmatch(value) is None or not value.strip("."):
        raise PeerProtocolError(
            f"hello.{field} must be 1 to {max_chars} of A-Z a-z 0-9 _ . : - and not only dots", reason="BAD_ID"
        )
    return value


def _flag(caps: Mapping[str, object], field: str, *, default: bool) -> bool:
    value = caps.get(field, default)
    if not isinstance(value, bool):
        raise _bad_type(f"caps.{field}", "true or false", value)
    return value


def _map(value: object, field: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise _bad_type(field, "a map", value)
    return value


def _bad_type(field: str, wanted: str, got: object) -> PeerProtocolError:
    return PeerProtocolError(f"{field} must be {wanted}, got {type(got).__name__}", reason="BAD_TYPE")


def _clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
