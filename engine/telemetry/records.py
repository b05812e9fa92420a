"""What a log record says, as a few plain fields: bounded, redacted, without control characters.

Law of this file: nothing that is logged can raise here: an object that cannot be shown is named by its
type. Each field has a bound in bytes of its JSON form; what is cut says so.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import traceback
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, TypeAlias

from laneway.engine.telemetry.redaction import HIDDEN, is_secret, redact, visible
from laneway.routing.errors import LanewayError

__all__ = ["Plain", "fields_of"]

Plain: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None
"""What JSON can hold."""

_MESSAGE_BYTES: Final = 4_096
_TRACEBACK_BYTES: Final = 6_144
_VALUE_BYTES: Final = 512
_NAME_BYTES: Final = 96
_MAX_EXTRAS: Final = 32
_MAX_ITEMS: Final = 32
_MAX_DEPTH: Final = 3
_MAX_FRAMES: Final = 20
_MAX_PIECES: Final = 100
_EXACT: Final = 2**53
"""Whole numbers beyond it are rounded by readers that know only doubles; they are written as text."""
_CUT: Final = "...[cut]"
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_OWN: Final = frozenset(logging.makeLogRecord({}).__dict__) | {
    "message", "asctime", "taskName", "code", "trace",
    "_ray_timestamp_ns",  # Ray marks every record of a process that it is loaded in
}  # fmt: skip

_Exc: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]


def fields_of(record: logging.LogRecord) -> Mapping[str, Plain]:
    """Return the fields of a record in their order; never raises.

    level, logger, message; code: of a LanewayError that was logged or raised, or ``extra={"code": ...}``;
    exception: its type; trace_id, span_id: of ``extra={"trace": context.trace}`` or of the current span;
    traceback: its last 20 frames; then what else `extra` holds.
    """
    fields: dict[str, Plain] = {
        "level": _text(record.levelname.lower(), _NAME_BYTES),
        "logger": _text(record.name, _NAME_BYTES),
        "message": _text(_message(record), _MESSAGE_BYTES),
    }
    raised: Any = record.exc_info if isinstance(record.exc_info, tuple) and record.exc_info[0] else None
    if code := _code(record, raised):
        fields["code"] = _text(code, _NAME_BYTES)
    if raised:
        fields["exception"] = _text(_qualified(raised[0]), _NAME_BYTES)
    fields.update(zip(("trace_id", "span_id"), _trace(record), strict=False))
    if raised:
        fields["traceback"] = _traceback(raised)
    elif record.stack_info:
        fields["traceback"] = _text(str(record.stack_info), _TRACEBACK_BYTES)
    _add_extras(record, fields)
    return fields


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # a wrong number of arguments, or one that cannot be shown
        return f"{record.msg if isinstance(record.msg, str) else '?'} [its arguments: {type(error).__name__}]"


def _code(record: logging.LogRecord, raised: _Exc | None) -> str:
    given = getattr(record, "code", "")
    if isinstance(given, str) and given:
        return given
    if raised and isinstance(raised[1], LanewayError):
        return raised[1].code
    args = record.args if isinstance(record.args, tuple) else ()
    return next((arg.code for arg in args if isinstance(arg, LanewayError)), "")


def _trace(record: logging.LogRecord) -> tuple[str, ...]:
    given = getattr(record, "trace", "")
    if isinstance(given, str) and (found := _TRACEPARENT.fullmatch(given)):
        return found.groups()
    opentelemetry: Any = sys.modules.get("opentelemetry.trace")  # never loaded for a log line
    if opentelemetry is None:
        return ()
    try:
        context = opentelemetry.get_current_span().get_span_context()
        return (f"{context.trace_id:032x}", f"{context.span_id:016x}") if context.is_valid else ()
    except Exception:
        return ()


def _traceback(raised: _Exc) -> str:
    """Return its last frames; whole pieces are left out at the front, so that no secret is cut in two."""
    try:
        told = traceback.TracebackException(*raised, limit=-_MAX_FRAMES, compact=True)
        pieces = [_text(piece, _TRACEBACK_BYTES // 3) for piece in deque(told.format(), _MAX_PIECES)]
    except Exception as error:
        return f"[cannot be shown: {type(error).__name__}]"
    kept: deque[str] = deque()
    room = _TRACEBACK_BYTES
    for piece in reversed(pieces):
        room -= len(json.dumps(piece))
        if room < 0:
            kept.appendleft(f"{_CUT}\n")
            break
        kept.appendleft(piece if piece.endswith("\n") else f"{piece}\n")
    return "".join(kept).rstrip("\n")


def _add_extras(record: logging.LogRecord, fields: dict[str, Plain]) -> None:
    extras = [(str(name), value) for name, value in record.__dict__.items() if name not in _OWN]
    for name, value in extras[:_MAX_EXTRAS]:
        shown = _text(name, _NAME_BYTES)
        fields[f"extra_{shown}" if shown in fields or shown == "ts" else shown] = _extra(name, value)
    if len(extras) > _MAX_EXTRAS:
        fields["extras_left_out"] = len(extras) - _MAX_EXTRAS


def _extra(name: str, value: object) -> Plain:
    if is_secret(name, value):
        return HIDDEN
    try:
        plain = _plain(value, _MAX_DEPTH)
        form = json.dumps(plain)
    except Exception:
        return f"[a {_qualified(type(value))} that cannot be shown]"[:_VALUE_BYTES]
    return plain if len(form) <= _VALUE_BYTES else _text(plain if isinstance(plain, str) else form, _VALUE_BYTES)


def _plain(value: object, depth: int) -> Plain:
    """Return what JSON can hold of a value: `depth` levels of containers, 32 items each."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if -_EXACT <= value <= _EXACT else hex(value)[:_VALUE_BYTES]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, str):
        return _text(value, _VALUE_BYTES)
    if depth and isinstance(value, Mapping):
        items = [(str(name), value[name]) for _, name in zip(range(_MAX_ITEMS), value, strict=False)]
        return {
            _text(name, _NAME_BYTES): HIDDEN if is_secret(name, item) else _plain(item, depth - 1)
            for name, item in items
        }
    if depth and isinstance(value, list | tuple):
        if len(value) == 2 and isinstance(value[0], str) and is_secret(value[0], value[1]):  # a pair, as in metadata
            return [_text(value[0], _NAME_BYTES), HIDDEN]
        return [_plain(item, depth - 1) for item in value[:_MAX_ITEMS]]
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    return _text(str(value), _VALUE_BYTES)


def _text(text: str, most_bytes: int) -> str:
    """Return a text without secrets and control characters whose JSON form has at most so many bytes."""
    shown = visible(redact(text, most_bytes))
    cut = len(text) > most_bytes
    while (size := len(json.dumps(shown)) + cut * len(_CUT)) > most_bytes + 2:
        cut = True
        shown = shown[: max(0, min(len(shown) - 1, len(shown) * most_bytes // size))]
    return shown + _CUT if cut else shown


def _qualified(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
