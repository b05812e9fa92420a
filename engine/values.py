"""The rules of what may stand in a document from a peer, whatever its encoding.

Law of this file: structure (depth, counts, lengths, extension types) is checked on the bytes,
before any object is built; values (finite, 64-bit, text without NUL) after, without recursion.

Why so: the C decoder accepts 1,023 levels, extension types and NaN, and allocates a list as long
as its header claims before any entry came. Declared counts that allocate ahead of the data are
how such parsers were felled (CVE-2020-36049).
"""

from __future__ import annotations

import math
from typing import Any, Final, NoReturn

import msgpack

from laneway.engine.limits import DEFAULT_LIMITS, Limits
from laneway.routing.errors import PeerProtocolError

__all__ = [
    "check_values",
    "from_json_error",
    "from_msgpack_error",
    "refuse",
    "refuse_extension",
    "refuse_id",
    "scan",
]

_INT64_MIN: Final = -(2**63)
_UINT64_MAX: Final = 2**64 - 1

_FIXED: Final = {0xC0: 1, 0xC2: 1, 0xC3: 1, 0xCA: 5, 0xCB: 9, 0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9} | {
    0xD0: 2,
    0xD1: 3,
    0xD2: 5,
    0xD3: 9,
}
"""Whole size in bytes of a scalar by its first byte."""
_SIZED: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
"""Width of the length field of bin and str."""
_COUNTED: Final = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
"""Width of the count field, and values per entry, of array and map."""


def refuse(reason: str, message: str) -> NoReturn:
    """Raise PeerProtocolError with this reason."""
    raise PeerProtocolError(message, reason=reason)


def refuse_extension(*_: object) -> NoReturn:
    """Raise for an extension type of msgpack; also the hook of a decoder."""
    refuse("EXT_REFUSED", "msgpack extension types (timestamps too) are not used here")


def refuse_id() -> NoReturn:
    """Raise for an id of an event that is none."""
    refuse("BAD_ID", "an id is 1 to 64 of A-Z a-z 0-9 _ . : - (entity and after: up to 128) and not only dots")


def scan(data: bytes, start: int, limits: Limits) -> int:
    """Walk over one msgpack value without building it and return the offset after it.

    O(values), not O(bytes): strings are stepped over. Raises PeerProtocolError.
    """
    position, size = start, len(data)
    open_: list[int] = []  # values still to come, per open container
    left, values = 1, 0
    while True:
        if left == 0:
            if not open_:
                break
            left = open_.pop()
            continue
        left -= 1
        if position >= size:
            refuse("TRUNCATED", "the data ends inside a value")
        first = data[position]
        if first < 0x80 or first >= 0xE0:
            position += 1
        elif first >= 0xA0 and first < 0xC0:
            position += 1 + (first & 0x1F)
        elif (fixed := _FIXED.get(first)) is not None:
            position += fixed
        elif (width := _SIZED.get(first)) is not None:
            position += 1 + width + int.from_bytes(data[position + 1 : position + 1 + width], "big")
        else:
            position, count, each = _scan_container(data, position, first)
            if count > limits.elements:
                refuse("TOO_MANY_ITEMS", f"{count} entries in one array or map; the limit is {limits.elements}")
            values += count
            if values > limits.values:
                refuse("TOO_MANY_ITEMS", f"over {limits.values} values in one body")
            open_.append(left)
            if len(open_) > limits.depth:
                refuse("DEPTH_EXCEEDED", f"nested deeper than {limits.depth}")
            left = count * each
    if position > size:
        refuse("TRUNCATED", "the data ends inside a value")
    return position


def _scan_container(data: bytes, position: int, first: int) -> tuple[int, int, int]:
    """Return (offset of the first entry, entries, values per entry) of an array or map."""
    if first < 0x90:
        return position + 1, first & 0x0F, 2
    if first < 0xA0:
        return position + 1, first & 0x0F, 1
    row = _COUNTED.get(first)
    if row is None:
        if first == 0xC1:
            refuse("BAD_TYPE", "0xc1 is not a msgpack type")
        refuse_extension()
    width, each = row
    after = position + 1 + width
    return after, int.from_bytes(data[position + 1 : after], "big"), each


def check_values(document: object, limits: Limits = DEFAULT_LIMITS) -> None:
    """Check a decoded document: depth, counts, finite and 64-bit numbers, text without NUL.

    Raises PeerProtocolError. Iterative (a hostile depth cannot exhaust the stack), O(values).
    """
    level: list[object] = [document]
    depth = values = 0
    while level:
        depth += 1
        below: list[object] = []
        for value in level:
            kind = type(value)
            if kind is str:
                _check_text(value)  # type: ignore[arg-type]
            elif kind is dict or kind is list or kind is tuple:
                values += _open_container(value, below, limits)
            elif kind is float or kind is int:
                _check_number(value)  # type: ignore[arg-type]
            elif value is not None and kind is not bool and kind is not bytes:
                refuse("BAD_TYPE", f"a value of type {kind.__name__} cannot travel")
        if values > limits.values:
            refuse("TOO_MANY_ITEMS", f"over {limits.values} values in one document")
        if depth > limits.depth and any(isinstance(value, dict | list | tuple) for value in level):
            refuse("DEPTH_EXCEEDED", f"nested deeper than {limits.depth}")
        level = below


def _open_container(value: Any, below: list[object], limits: Limits) -> int:
    """Add a container's members to the next level and return how many there are."""
    if len(value) > limits.elements:
        refuse("TOO_MANY_ITEMS", f"{len(value)} entries in one array or map; the limit is {limits.elements}")
    if isinstance(value, dict):
        for key in value:
            if type(key) is not str:
                refuse("BAD_KEY", "a map's keys are strings")
            _check_text(key)
        below.extend(value.values())
    else:
        below.extend(value)
    return len(value)


def _check_text(text: str) -> None:
    if "\0" in text:
        refuse("BAD_UTF8", "a text holds no NUL")


def _check_number(number: float) -> None:
    if type(number) is int:
        if not _INT64_MIN <= number <= _UINT64_MAX:
            refuse("NUMBER_RANGE", "an integer is -2^63 to 2^64-1")
    elif not math.isfinite(number):
        refuse("NON_FINITE", "a number is finite: no NaN, no Infinity, no 1e400")


def from_msgpack_error(error: ValueError) -> PeerProtocolError:
    """Translate the C decoder's refusal."""
    text = str(error)
    if isinstance(error, UnicodeDecodeError):
        return PeerProtocolError(f"a string is not UTF-8: {error.reason}", reason="BAD_UTF8")
    if isinstance(error, msgpack.StackError):
        return PeerProtocolError("nested too deep", reason="DEPTH_EXCEEDED")
    if isinstance(error, msgpack.ExtraData):
        return PeerProtocolError("bytes follow the value", reason="TRAILING_BYTES")
    rules = (
        ("incomplete", "TRUNCATED"),
        ("max_ext_len", "EXT_REFUSED"),
        ("max_array_len", "TOO_MANY_ITEMS"),
        ("max_map_len", "BAD_TYPE"),
        ("map key", "BAD_KEY"),
    )
    reason = next((reason for words, reason in rules if words in text), "BAD_TYPE")
    return PeerProtocolError(f"not the msgpack expected here: {text or type(error).__name__}", reason=reason)


def from_json_error(error: ValueError) -> PeerProtocolError:
    """Translate the JSON parser's refusal."""
    text = str(error)
    rules = (
        ("recursion", "DEPTH_EXCEEDED"),
        ("number out of range", "NUMBER_RANGE"),
        ("hex escape", "BAD_UTF8"),
        ("surrogate", "BAD_UTF8"),
        ("unicode", "BAD_UTF8"),
        ("key must be a string", "BAD_KEY"),
        ("trailing characters", "TRAILING_BYTES"),
        ("EOF", "TRUNCATED"),
    )
    reason = next((reason for words, reason in rules if words in text), "BAD_TYPE")
    return PeerProtocolError(f"not JSON: {text}", reason=reason)
