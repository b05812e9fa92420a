"""What the ledger knows of a call: which call it is, how it ended, and the bytes that say so.

Law of this file: equal calls are equal whatever order a client wrote its maps in, and no id can be
made to look like another's place. What is kept of a result is bounded; what was cut says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgpack

from laneway.actors.tools.lifecycle import State

__all__ = ["PREFIX", "CallKey", "Settled", "digest", "pack_entry", "to_keep", "unpack_entry"]

PREFIX: Final = "tool/"
"""What the store key of every record begins with."""
_MAX_CONTENT_BYTES: Final = 65_536
"""Largest result kept for replay; a larger one is answered once and only its success is kept."""
_FLAT: Final = frozenset({str, int, bool, float, type(None)})
_TEXT: Final = frozenset({str})


class CallKey(NamedTuple):
    """What makes a call the same call.

    Attributes:
        call_id: id within the run, or the idempotency key with `run` empty and `named` True.
    """

    tenant: str
    session: str
    run: str
    call_id: str
    named: bool = False

    @property
    def text(self) -> str:
        """Store key; parts are escaped, so that no id can reach into another's place."""
        kind = "key" if self.named else "call"
        parts = (self.tenant, self.session, self.run, self.call_id)
        text = "/".join(parts)
        if "%" in text or text.count("/") > 3:  # else nothing is to be escaped: nearly always
            text = "/".join([part.replace("%", "%25").replace("/", "%2F") for part in parts])
        return f"{PREFIX}{kind}/{text}"


class Settled(NamedTuple):
    """How a call ended: content is JSON text; code is empty on success."""

    state: State
    content: str
    code: str = ""
    retryable: bool = False


def digest(name: str, arguments: object, pack: Callable[[Any], bytes] = msgpack.packb) -> bytes:
    """Hash of a tool name and its arguments (msgpack-able); the order of map keys does not matter.

    `pack`: as `msgpack.packb`; a packer that is kept saves half of the time.
    """
    return hashlib.blake2b(pack((name, _ordered(arguments))), digest_size=16).digest()


def _ordered(value: object) -> object:
    if isinstance(value, dict):
        if _FLAT.issuperset(map(type, value.values())) and _TEXT.issuperset(map(type, value)):
            return sorted(value.items())  # the same bytes: keys differ, so values are never compared
        return [[str(key), _ordered(value[key])] for key in sorted(value, key=str)]
    if isinstance(value, (list, tuple)):
        return [_ordered(item) for item in value]
    return value


def to_keep(result: Settled) -> Settled:
    """Return what a later caller of the same call is answered: the result, or that it was too large to keep."""
    content = result.content
    if len(content) * 4 <= _MAX_CONTENT_BYTES or len(content.encode()) <= _MAX_CONTENT_BYTES:
        return result
    code = result.code or "RESULT_NOT_KEPT"
    told = (
        '{"error":{"code":"' + code + '","message":"this call ended before; '
        'its result was too large to keep for a second answer"}}'
    )
    return Settled(result.state, told, code, result.retryable)


def pack_entry(state: State, hashed: bytes, result: Settled | None = None) -> bytes:
    """Return a record: of an intent, or with a result."""
    blob: list[object] = [state.value, hashed]
    if result is not None:
        blob += to_keep(result)[1:]
    packed: bytes = msgpack.packb(blob)
    return packed


def unpack_entry(blob: bytes) -> tuple[State, bytes, Settled | None]:
    """The reverse of `pack_entry`, with the result as `to_keep` left it."""
    fields = msgpack.unpackb(blob)
    state, hashed = State(fields[0]), fields[1]
    return state, hashed, Settled(state, *fields[2:]) if len(fields) > 2 else None
