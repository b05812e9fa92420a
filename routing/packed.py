"""The few msgpack maps that routing itself must write and read: a GAP's body, a RUN_ERROR's `after`.

Law of this file: no more of msgpack than those two need to be produced and any map to be skipped
through; everything else of a body stays unopened here. Users' data is decoded by the engine's
codec, with its limits. Depth is bounded, a length is checked against what is there before
anything is made of it, extension types are refused (format: github.com/msgpack/msgpack spec.md).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final, TypeAlias

from laneway.routing.errors import PeerProtocolError

__all__ = ["Packable", "pack_map", "unpack_map"]

Packable: TypeAlias = "str | int | Mapping[str, Packable]"

_MAX_DEPTH: Final = 32
_FIXED: Final = {
    0xCA: ">f",
    0xCB: ">d",
    0xCC: ">B",
    0xCD: ">H",
    0xCE: ">I",
    0xCF: ">Q",
    0xD0: ">b",
    0xD1: ">h",
    0xD2: ">i",
    0xD3: ">q",
}
_LENGTHS: Final = {
    0xC4: ("bin", ">B"),
    0xC5: ("bin", ">H"),
    0xC6: ("bin", ">I"),
    0xD9: ("str", ">B"),
    0xDA: ("str", ">H"),
    0xDB: ("str", ">I"),
    0xDC: ("array", ">H"),
    0xDD: ("array", ">I"),
    0xDE: ("map", ">H"),
    0xDF: ("map", ">I"),
}


def pack_map(value: Mapping[str, Packable]) -> bytes:
    """Return a map of strings to strings, whole numbers >= 0 and such maps as msgpack. O(size)."""
    return _pack(value)


def unpack_map(data: bytes) -> dict[str, object]:
    """Return the msgpack map in `data`; O(size).

    Raises:
        PeerProtocolError: not exactly one well-formed map with string keys; `reason` says why.
    """
    value, end = _read(data, 0, 0)
    if end != len(data):
        raise PeerProtocolError(f"{len(data) - end} bytes follow the body's map", reason="TRAILING_BYTES")
    if not isinstance(value, dict):
        raise PeerProtocolError("the body is not a msgpack map", reason="BAD_TYPE")
    return value


def _pack(value: Packable) -> bytes:
    if isinstance(value, str):
        raw = value.encode()
        return (bytes((0xA0 | len(raw),)) if len(raw) < 32 else struct.pack(">BI", 0xDB, len(raw))) + raw
    if isinstance(value, int):
        return bytes((value,)) if value < 128 else struct.pack(">BQ", 0xCF, value)
    head = bytes((0x80 | len(value),)) if len(value) < 16 else struct.pack(">BI", 0xDF, len(value))
    return head + b"".join(_pack(key) + _pack(item) for key, item in value.items())


def _read(data: bytes, at: int, depth: int) -> tuple[object, int]:
    """Return the value at `at` and where the next one begins."""
    if depth > _MAX_DEPTH:
        raise PeerProtocolError(f"the body is nested deeper than {_MAX_DEPTH}", reason="DEPTH_EXCEEDED")
    if at >= len(data):
        raise _truncated()
    tag = data[at]
    at += 1
    if tag < 0x80:
        return tag, at
    if tag >= 0xE0:
        return tag - 256, at
    if tag < 0xC0:
        kind, length = ("map", tag & 0x0F) if tag < 0x90 else ("array", tag & 0x0F) if tag < 0xA0 else ("str", tag & 31)
        return _sized(data, at, kind, length, depth)
    if tag in (0xC0, 0xC2, 0xC3):
        return (None, False, True)[max(0, tag - 0xC1)], at
    if tag in _FIXED:
        return _number(data, at, _FIXED[tag])
    if tag in _LENGTHS:
        kind, form = _LENGTHS[tag]
        count, at = _number(data, at, form)
        return _sized(data, at, kind, int(count), depth)
    raise PeerProtocolError(f"msgpack type 0x{tag:02x} is not accepted", reason="EXT_REFUSED")


def _number(data: bytes, at: int, form: str) -> tuple[int | float, int]:
    end = at + struct.calcsize(form)
    if end > len(data):
        raise _truncated()
    return struct.unpack_from(form, data, at)[0], end


def _sized(data: bytes, at: int, kind: str, length: int, depth: int) -> tuple[object, int]:
    if length > len(data) - at:
        raise _truncated()
    if kind == "bin":
        return data[at : at + length], at + length
    if kind == "str":
        try:
            return data[at : at + length].decode(), at + length
        except UnicodeDecodeError:
            raise PeerProtocolError("a string in the body is not UTF-8", reason="BAD_UTF8") from None
    if kind == "array":
        items = []
        for _ in range(length):
            item, at = _read(data, at, depth + 1)
            items.append(item)
        return items, at
    return _map(data, at, length, depth)


def _map(data: bytes, at: int, length: int, depth: int) -> tuple[dict[str, object], int]:
    found: dict[str, object] = {}
    for _ in range(length):
        key, at = _read(data, at, depth + 1)
        if not isinstance(key, str):
            raise PeerProtocolError("a map in the body has a key that is not a string", reason="BAD_KEY")
        found[key], at = _read(data, at, depth + 1)
    return found, at


def _truncated() -> PeerProtocolError:
    return PeerProtocolError("the body ends before its map does", reason="TRUNCATED")
