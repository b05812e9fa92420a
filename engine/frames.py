"""Frames and bytes: the binary form that gRPC and binary WebSocket messages carry, for both sides.

Law of this file: one pass of msgpack for all that a frame holds, and nothing is allocated in
proportion to a number that the peer merely claims: a header's structure is walked over before it is
built, and events are arrays of scalars (`columns.py`), at most 13 arrays of at most as many entries
as a frame may have items. Every refusal is a PeerProtocolError whose `reason` names the rule.

Wire forms (docs/protocol.md)::

    frame    = [version, header map, columns]      of a stream; columns = [] or the twelve of columns.py
    call     = [version, header map, [bin, ...]]   of a question and its answer
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgpack

from laneway.engine.columns import COLUMNS, Columns
from laneway.engine.limits import DEFAULT_LIMITS, Limits
from laneway.engine.values import check_values, from_msgpack_error, refuse, refuse_extension, scan
from laneway.routing.classify import KindTable
from laneway.routing.envelope import Envelope
from laneway.routing.errors import LocalProtocolError, PeerProtocolError

__all__ = ["FRAME_VERSION", "Frame", "Frames", "decode_call", "encode_call"]

FRAME_VERSION: Final = 1

Frame: TypeAlias = tuple[dict[str, Any], list[Envelope]]
"""Header and events."""

_BEGINNING: Final = bytes((0x93, FRAME_VERSION))
_NO_HEADER: Final = 0x80
_NO_ITEMS: Final = 0x90
_FLAT: Final = frozenset({int, bool, type(None)})
"""Values of a header that need no look inside: integers of msgpack are 64 bits wide."""
_STR: Final = frozenset({str})
_PACKER_BYTES: Final = 16_384
"""First size of a buffer that is kept; it grows to the largest frame."""


class Frames:
    """Frames of streams as msgpack. Not for two threads at once.

    Args:
        now: monotonic seconds, which deadlines are counted in.
        limits: of frames and bodies that come in.
    """

    __slots__ = ("_columns", "_limits", "_now", "_packer")

    def __init__(self, kinds: KindTable, now: Callable[[], float], limits: Limits = DEFAULT_LIMITS) -> None:
        self._now = now
        self._limits = limits
        self._columns = Columns(kinds, limits)
        self._packer = msgpack.Packer(buf_size=_PACKER_BYTES)

    def decode(self, data: bytes) -> Frame:
        """Return header and events. Raises PeerProtocolError."""
        try:
            if (small := _small(data, self._limits)) is not None:
                header, columns = small
                return header, self._columns.unpack(columns, self._now()) if columns else []
        except PeerProtocolError:
            small = None  # of several rules that it breaks, the first is told: step by step
        header, end = _header(data, self._limits)
        if len(data) == end + 1 and data[end] == _NO_ITEMS:
            return header, []
        columns = _unpacked(data, end, self._limits, 1 + COLUMNS)
        if type(columns) is not list:
            refuse("BAD_TYPE", f"a frame's items are an array of {COLUMNS} columns")
        return header, self._columns.unpack(columns, self._now())

    def encode(self, header: Mapping[str, Any], envelopes: Sequence[Envelope]) -> bytes:
        """Return the frame's bytes. Raises LocalProtocolError if something cannot be packed."""
        columns = self._columns.pack(envelopes, self._now()) if envelopes else ()
        try:
            packed: bytes = self._packer.pack((FRAME_VERSION, header, columns))
        except (TypeError, ValueError, OverflowError, struct.error) as error:
            self._packer.reset()  # what was packed before the value that cannot be
            raise _unpackable(error) from error
        return packed


def encode_call(header: Mapping[str, object], items: Sequence[bytes] = ()) -> bytes:
    """Return the frame of a question or an answer. Raises LocalProtocolError if the header cannot be packed."""
    try:
        packed: bytes = msgpack.packb((FRAME_VERSION, header, items))
    except (TypeError, ValueError, OverflowError, struct.error) as error:
        raise _unpackable(error) from error
    return packed


def decode_call(data: bytes, limits: Limits = DEFAULT_LIMITS) -> tuple[dict[str, Any], list[bytes]]:
    """Return (header, items) of a question or an answer. Raises PeerProtocolError."""
    header, end = _header(data, limits)
    items = _unpacked(data, end, limits, 1)
    if type(items) is not list or any(type(item) is not bytes for item in items):
        refuse("BAD_TYPE", "a call's items are an array of bin")
    if len(items) > limits.items:
        refuse("TOO_MANY_ITEMS", f"a call of {len(items)} items is over the limit of {limits.items}")
    return header, items


def _small(data: bytes, limits: Limits) -> tuple[dict[str, Any], list[Any]] | None:
    """Return header and columns of a frame no larger than a header may be; None: look at it step by step.

    Such a frame is too small to become much, whatever it holds; `_header` and `_unpacked` say what is wrong.
    """
    if len(data) > min(limits.header_bytes, limits.frame_bytes) or data[:2] != _BEGINNING:
        return None
    try:
        _, header, columns = msgpack.unpackb(
            data,
            max_array_len=max(limits.items, COLUMNS),
            max_map_len=COLUMNS,
            max_ext_len=0,
            ext_hook=refuse_extension,
        )
    except (ValueError, PeerProtocolError):
        return None
    if type(header) is not dict or type(columns) is not list:
        return None
    if not (_FLAT.issuperset(map(type, header.values())) and _STR.issuperset(map(type, header))):
        check_values(header, limits)
    elif "\0" in "".join(header):
        return None
    return header, columns


def _header(data: bytes, limits: Limits) -> tuple[dict[str, Any], int]:
    """Return the header and where it ends."""
    if len(data) > limits.frame_bytes:
        refuse(
            "TOO_LARGE", f"a frame of {len(data)} bytes is over the limit of {limits.frame_bytes}; send less at once"
        )
    if not data:
        refuse("TRUNCATED", "an empty frame; a frame is a msgpack array of version, header and items")
    if data[0] != 0x93:
        refuse("BAD_TYPE", "a frame is a msgpack array of version, header and items")
    if len(data) > 1 and data[1] != FRAME_VERSION:
        refuse("UNKNOWN_VERSION", f"this side speaks frame version {FRAME_VERSION} only")
    if len(data) > 2 and data[2] == _NO_HEADER:
        return {}, 3
    end = scan(data, 2, limits)
    if end - 2 > limits.header_bytes:
        refuse("TOO_LARGE", f"a frame header of {end - 2} bytes is over the limit of {limits.header_bytes}")
    try:
        header = msgpack.unpackb(
            data[2:end], strict_map_key=True, max_array_len=limits.elements, max_map_len=limits.elements
        )
    except ValueError as error:
        raise from_msgpack_error(error) from error
    if type(header) is not dict:
        refuse("BAD_TYPE", "a frame's header is a map")
    check_values(header, limits)
    return header, end


def _unpacked(data: bytes, start: int, limits: Limits, most_arrays: int) -> Any:
    """Return what follows a header: scalars in at most so many arrays, which are counted as they end."""
    arrays = 0

    def count(array: list[Any]) -> list[Any]:
        nonlocal arrays
        arrays += 1
        if arrays > most_arrays:
            refuse("BAD_TYPE", "a frame's items hold no arrays but their columns")
        return array

    try:
        return msgpack.unpackb(
            memoryview(data)[start:],
            list_hook=count,
            ext_hook=refuse_extension,
            max_array_len=max(limits.items, COLUMNS),
            max_map_len=0,
            max_ext_len=0,
        )
    except PeerProtocolError:
        raise
    except ValueError as error:
        raise from_msgpack_error(error) from error


def _unpackable(error: Exception) -> LocalProtocolError:
    return LocalProtocolError(f"cannot be packed: {error}; headers hold JSON values and 64-bit numbers")
