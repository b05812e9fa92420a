"""Bytes to single envelopes and bodies, and back; frames of many are in `frames.py`.

Law of this file: nothing is allocated in proportion to a number that the peer merely claims, and
every refusal is a PeerProtocolError whose `reason` names the rule and leaves no state behind (the
rules are in `values.py`). Client data is never unpickled: bytes stay bytes.

Duplicate keys: the last one wins, in msgpack as in JSON.

Wire forms (docs/protocol.md)::

    event    = [producer, counter, kind int|str, tenant, session, run, entity, lane,
                remaining_ms int|nil, trace, after, body bin]
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

import msgpack

from laneway.engine.limits import DEFAULT_LIMITS, Limits
from laneway.engine.values import (
    check_values,
    from_json_error,
    from_msgpack_error,
    refuse,
    refuse_extension,
    refuse_id,
    scan,
)
from laneway.routing.classify import KindTable
from laneway.routing.envelope import NO_DEADLINE, Envelope
from laneway.routing.errors import LocalProtocolError, PeerProtocolError
from laneway.routing.lanes import LANE_COUNT
from laneway.routing.traceparent import parse

__all__ = [
    "ADDRESS",
    "EnvelopePacker",
    "check_event",
    "decode_json",
    "decode_text",
    "pack_body",
    "pack_envelope",
    "read_event",
    "unpack_body",
    "unpack_envelope",
    "valid_id",
]

_INT64_MAX: Final = 2**63 - 1
_MOST_S: Final = 9e15
"""Its milliseconds are a number of 64 bits."""
_ENTITY_CHARS: Final = 128

_ID: Final = re.compile(r"(?!\.+\Z)[A-Za-z0-9_.:-]+\Z")
ADDRESS: Final = re.compile(
    r"(?!\.+\n)(?:engine/)?[A-Za-z0-9_.:-]{1,64}+\n(?:(?!\.+\n)[A-Za-z0-9_.:-]{0,64}+\n){3}"
    r"(?!\.+\n)[A-Za-z0-9_.:-]{0,128}+\n(?!\.+\Z)[A-Za-z0-9_.:-]{0,128}+\Z"
)
"""producer, tenant, session, run, entity, after, joined by newlines: one match for six ids. The
engine's own parts are producers named ``engine/<run or pool>``."""
_JSON_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
"""Possessive and matching an unclosed string too, so that hostile quotes cost linear time."""

_ENVELOPE_FIELDS: Final = 12
_SMALL_BYTES: Final = 4_096
"""Up to here whatever an item holds is built before it is refused; above, its inner lists one by one."""
_PACKER_BYTES: Final = 4_096
"""First size of a buffer that is kept; it grows to the largest event."""
_SHAPES: Final = frozenset(
    (str, int, kind, str, str, str, str, int, remaining, str, str, bytes)
    for kind in (int, str)
    for remaining in (int, type(None))
)


def valid_id(text: str, limit_chars: int = 64) -> bool:
    """Return whether `text` is an id: 1 to 64 of `[A-Za-z0-9_.:-]` and not only dots.

    Entities (messages, calls, topics, documents) may be 128 characters long.
    """
    return len(text) <= limit_chars and _ID.match(text) is not None


def check_event(
    *bodies: bytes,
    run: str = "",
    entity: str = "",
    after: str = "",
    left_s: float = NO_DEADLINE,
    trace: str = "",
    body_bytes: int = DEFAULT_LIMITS.body_bytes,
) -> None:
    """Look at what an application says of an event, or of several, before it is numbered.

    What is refused here has gone nowhere. On a wire it would end the connection of all that is sent beside it, and
    in a log it could not be read again.

    Args:
        left_s: until its deadline; infinity: it has none. body_bytes: what one event holds at most.

    Raises LocalProtocolError: a run, an entity or an `after` that is no id, a time that is no number or of no use,
    a trace that is not ASCII, a body that is too large or not bytes.
    """
    if (
        (run and not valid_id(run))
        or (entity and not valid_id(entity, _ENTITY_CHARS))
        or (after and not valid_id(after, _ENTITY_CHARS))
    ):
        raise LocalProtocolError(
            f"run {run[:80]!r}, entity {entity[:80]!r} and after {after[:80]!r} must be ids or empty: "
            f"1 to 64 of A-Z a-z 0-9 _ . : - (entity and after: up to {_ENTITY_CHARS})"
        )
    if left_s != NO_DEADLINE and not -_MOST_S < left_s < _MOST_S:
        raise LocalProtocolError(f"a deadline in {left_s} s; give seconds from now, or none")
    if not trace.isascii():
        raise LocalProtocolError(f"trace {trace[:80]!r} is no traceparent")
    for body in bodies:
        if not isinstance(body, bytes):
            raise LocalProtocolError(f"a body of type {type(body).__name__}; a body is bytes")
        if len(body) > body_bytes:
            raise LocalProtocolError(f"a body of {len(body)} bytes; one event holds {body_bytes}")


# ---- envelopes ------------------------------------------------------------------------------


def pack_envelope(env: Envelope, now: float, kinds: KindTable) -> bytes:
    """Return the item of one envelope: built-in kinds by number, the deadline as remaining ms.

    Raises PeerProtocolError(UNKNOWN_KIND) if the kind is not in the table.
    """
    return EnvelopePacker(kinds).pack(env, now)


class EnvelopePacker:
    """`pack_envelope` for many: keeps its buffer and the kinds' wire names. Not for two threads at once."""

    __slots__ = ("_kinds", "_names", "_packer")

    def __init__(self, kinds: KindTable) -> None:
        self._kinds = kinds
        self._names: dict[str, int | str] = {}
        self._packer = msgpack.Packer(buf_size=_PACKER_BYTES)

    def pack(self, env: Envelope, now: float) -> bytes:
        """As `pack_envelope`."""
        producer, counter, kind, tenant, session, run, entity, lane, deadline, trace, after, body, _ = env
        name = self._names.get(kind)
        if name is None:
            row = self._kinds.require(kind)
            name = self._names[kind] = row.number or row.name
        remaining = None if deadline == NO_DEADLINE else max(0, math.ceil((deadline - now) * 1000.0))
        try:
            packed: bytes = self._packer.pack(
                (producer, counter, name, tenant, session, run, entity, lane, remaining, trace, after, body)
            )
        except (TypeError, ValueError, OverflowError, struct.error) as error:
            self._packer.reset()  # what was packed before the field that cannot be
            raise _unpackable(error) from error
        return packed


def unpack_envelope(data: bytes, now: float, kinds: KindTable, limits: Limits = DEFAULT_LIMITS) -> Envelope:
    """Return the envelope of one item; ACCEPTED is `now`, the deadline absolute again.

    The lane is what the sender asked for (0..3): the caller classifies. An unusable traceparent
    becomes an empty one. tenant and session may be empty: the edge stamps them.
    Raises PeerProtocolError.
    """
    return read_event(_unpack_row(data), now, kinds, limits)


def read_event(row: Sequence[Any], now: float, kinds: KindTable, limits: Limits = DEFAULT_LIMITS) -> Envelope:
    """As `unpack_envelope`, of twelve fields that were unpacked already."""
    producer, counter, kind, tenant, session, run, entity, lane, remaining, trace, after, body = row
    if not (type(body) is bytes and type(counter) is type(lane) is int and type(trace) is str):
        _refuse_fields()
    if len(body) > limits.body_bytes:
        refuse("TOO_LARGE", f"a body of {len(body)} bytes is over the limit of {limits.body_bytes}")
    try:
        address = "\n".join((producer, tenant, session, run, entity, after))
    except TypeError:
        _refuse_fields()
    if ADDRESS.match(address) is None:
        refuse_id()
    if not (1 <= counter <= _INT64_MAX and 0 <= lane < LANE_COUNT):
        refuse("NUMBER_RANGE", f"counter is 1 to 2^63-1 and lane 0 to {LANE_COUNT - 1}")
    if remaining is None:
        deadline = NO_DEADLINE
    elif type(remaining) is not int:
        _refuse_fields()
    elif 0 <= remaining <= _INT64_MAX:
        deadline = now + remaining / 1000.0
    else:
        refuse("NUMBER_RANGE", "remaining_ms is 0 to 2^63-1, or nil for no deadline")
    if trace and parse(trace) is None:
        trace = ""
    if type(kind) is not int and type(kind) is not str:
        _refuse_fields()
    name = kinds.require(kind).name
    return (producer, counter, name, tenant, session, run, entity, lane, deadline, trace, after, body, now)


def _unpack_row(data: bytes) -> Any:
    try:
        row = msgpack.unpackb(
            data,
            use_list=False,
            list_hook=None if len(data) <= _SMALL_BYTES else _envelope_row,
            ext_hook=refuse_extension,
            max_array_len=_ENVELOPE_FIELDS,
            max_map_len=0,
            max_ext_len=0,
        )
    except PeerProtocolError:
        raise
    except ValueError as error:
        raise from_msgpack_error(error) from error
    if type(row) is not tuple or len(row) != _ENVELOPE_FIELDS:
        _refuse_fields()
    return row


def _envelope_row(row: Sequence[Any]) -> Sequence[Any]:
    """Check the fields' types; called for inner lists first, which so are refused at once."""
    if tuple(map(type, row)) not in _SHAPES:
        _refuse_fields()
    return row


def _refuse_fields() -> NoReturn:
    refuse("BAD_TYPE", f"an item is an array of {_ENVELOPE_FIELDS} fields of fixed types; see docs/protocol.md")


# ---- bodies ---------------------------------------------------------------------------------


def pack_body(body: Mapping[str, Any]) -> bytes:
    """Return a body as msgpack. Raises LocalProtocolError if a value is not JSON-like."""
    return _pack(body)


def unpack_body(data: bytes, limits: Limits = DEFAULT_LIMITS) -> dict[str, Any]:
    """Return the map of one msgpack body; O(bytes). Raises PeerProtocolError."""
    if len(data) > limits.body_bytes:
        refuse("TOO_LARGE", f"a body of {len(data)} bytes is over the limit of {limits.body_bytes}")
    end = scan(data, 0, limits)
    if end != len(data):
        refuse("TRAILING_BYTES", f"{len(data) - end} bytes follow the body")
    body = _build(data, limits)
    if not isinstance(body, dict):
        refuse("BAD_TYPE", "this kind's body is a msgpack map")
    check_values(body, limits)
    return body


def decode_text(data: bytes, limits: Limits = DEFAULT_LIMITS) -> str:
    """Return a plain text body. Raises PeerProtocolError for bad UTF-8, NUL and a BOM."""
    if len(data) > limits.body_bytes:
        refuse("TOO_LARGE", f"a text of {len(data)} bytes is over the limit of {limits.body_bytes}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PeerProtocolError(f"not UTF-8 at byte {error.start}", reason="BAD_UTF8") from error
    if "\0" in text or text.startswith("\ufeff"):
        refuse("BAD_UTF8", "a text holds no NUL and does not start with a byte order mark")
    return text


def decode_json(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Any:
    """Return one JSON document; numbers finite and 64-bit. O(bytes). Raises PeerProtocolError."""
    from pydantic_core import from_json  # 20 ms that a gRPC-only process does not need

    decode_text(data, limits)
    if _values_at_most(data) > limits.values:
        _count_json_values(data, limits)
    try:
        document = from_json(data, cache_strings="keys")
    except ValueError as error:
        raise from_json_error(error) from error
    check_values(document, limits)
    return document


def _values_at_most(data: bytes) -> int:
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def _count_json_values(data: bytes, limits: Limits) -> None:
    """Count what stands outside of strings, and stop as soon as it is too much."""
    values = strings = end = 0
    for string in _JSON_STRING.finditer(data):
        strings += 1
        values += _values_at_most(data[end : string.start()])
        if max(values, strings // 2) > limits.values:
            break
        end = string.end()
    else:
        values += _values_at_most(data[end:])
    if max(values, strings // 2) > limits.values:
        refuse("TOO_MANY_ITEMS", f"over {limits.values} values in one document; send less at once")


# ---- msgpack ------------------------------------------------------------------------------------


def _build(data: bytes, limits: Limits) -> Any:
    """Build the value that `_scan` has walked over."""
    try:
        return msgpack.unpackb(data, strict_map_key=True, max_array_len=limits.elements, max_map_len=limits.elements)
    except ValueError as error:
        raise from_msgpack_error(error) from error


def _pack(value: object) -> bytes:
    try:
        packed: bytes = msgpack.packb(value)
    except (TypeError, ValueError, OverflowError, struct.error) as error:
        raise _unpackable(error) from error
    return packed


def _unpackable(error: Exception) -> LocalProtocolError:
    return LocalProtocolError(f"cannot be packed: {error}; bodies hold JSON values and 64-bit numbers")
