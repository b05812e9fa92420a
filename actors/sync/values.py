"""JSON values as documents hold them: parsed within bounds, compared by type, in one canonical form.

Law of this file: a value that came in here fits every place it may go to: JSON, msgpack, Yjs. So:
finite numbers, integers inside 64 bits, integral floats as integers, text without NUL or lone
surrogates, text keys without duplicates, bounded depth.

Why so: a CRDT stores numbers as doubles and gives 5 back as 5.0; an integer of 2^63 or a lone
surrogate makes pycrdt panic (measured, 0.14.13).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from laneway.actors.sync.lib0 import refuse
from laneway.routing.errors import PeerProtocolError

__all__ = ["JSON_LIMITS", "Json", "JsonLimits", "canonical", "check", "parse_json", "plain", "same"]

Json: TypeAlias = Any
"""None, bool, int, float, str, list or dict with str keys, of the same."""

_SAFE: Final = 2**53


@dataclass(frozen=True, slots=True)
class JsonLimits:
    """Bounds of one JSON text.

    Attributes:
        text_bytes: its length.
        values: values, keys and commas in it, roughly: what costs objects.
        depth: nesting of arrays and objects.
    """

    text_bytes: int = 1_048_576
    values: int = 50_000
    depth: int = 28


JSON_LIMITS: Final = JsonLimits()


def parse_json(text: bytes, limits: JsonLimits = JSON_LIMITS) -> Json:
    """Parse and check one JSON text. O(bytes). Raises PeerProtocolError, nothing else."""
    if len(text) > limits.text_bytes:
        refuse("TOO_LARGE", f"{len(text)} bytes of JSON; the limit is {limits.text_bytes}")
    if sum(map(text.count, (b",", b"{", b"["))) > limits.values:
        refuse("TOO_MANY_ITEMS", f"over {limits.values} values in one JSON text")
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant)
    except UnicodeDecodeError as error:
        raise PeerProtocolError(f"the JSON text is not UTF-8: {error.reason}", reason="BAD_UTF8") from None
    except json.JSONDecodeError as error:
        raise PeerProtocolError(f"not JSON: {error.msg} at character {error.pos}", reason="BAD_TYPE") from None
    except RecursionError:
        refuse("DEPTH_EXCEEDED", f"nested deeper than {limits.depth}")
    except ValueError:  # an integer of over 4,300 digits
        refuse("NUMBER_RANGE", "a number has too many digits")
    return check(value, limits)


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        refuse("DUPLICATE_KEY", "an object names a key twice")
    return found


def _constant(name: str) -> Json:
    refuse("NON_FINITE", f"{name} is not a JSON number")


def check(value: Json, limits: JsonLimits = JSON_LIMITS) -> Json:
    """Return the value with integral floats as integers. Raises PeerProtocolError for what may not be stored."""
    return _checked(value, limits.depth)


def _checked(value: Json, room: int) -> Json:
    kind = type(value)
    if kind is str:
        return _text(value)
    if kind is bool or value is None:
        return value
    if kind is int:
        if not -(2**63) <= value < 2**63:
            refuse("NUMBER_RANGE", "an integer does not fit 64 bits")
        return value
    if kind is float:
        if not math.isfinite(value):
            refuse("NON_FINITE", "a number is not finite")
        return _number(value)
    if kind is not dict and kind is not list:
        refuse("BAD_TYPE", f"a {kind.__name__} is not a JSON value")
    if room < 1:
        refuse("DEPTH_EXCEEDED", "nested too deep")
    if kind is list:
        return [_checked(item, room - 1) for item in value]
    return {_key(key): _checked(item, room - 1) for key, item in value.items()}


def _key(key: object) -> str:
    if type(key) is not str:
        refuse("BAD_KEY", "an object's keys are strings")
    return _text(key)


def _text(text: str) -> str:
    bad = "\0" in text or (not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text))
    if bad:
        refuse("BAD_UTF8", "a text holds a NUL or half of a surrogate pair")
    return text


def _number(value: float) -> float | int:
    return int(value) if value.is_integer() and abs(value) < _SAFE else value


def plain(value: object) -> Json:
    """Return what a CRDT gave as JSON; total: bytes become numbers, NaN and foreign types None. O(values)."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return _number(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, bytes | bytearray):
        return list(value)
    return None


def same(one: Json, other: Json) -> bool:
    """Whether two values are equal as JSON: 1 is 1.0 and is not true. O(values)."""
    if one is other:
        return True
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and one.keys() == other.keys()
            and all(same(value, other[key]) for key, value in one.items())
        )
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def canonical(value: Json) -> bytes:
    """Return the one text of a value: sorted keys, no spaces, UTF-8. Equal texts mean equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
