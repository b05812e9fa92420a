"""Conflation: which of the state events that wait for a client a later one makes unnecessary.

Law of this file: exact, never clever. Leaving an event out must give every client the same state as
telling it, even if a patch in between does not apply (AG-UI: a patch is atomic, and one that does not
apply is skipped). So nothing is rewritten and no two patches are joined, because the failure of one
would then undo the other. What may be left out, in a stretch of contiguous events of one entity and run:

- everything before a snapshot of it: a snapshot replaces what was there;
- a patch that only sets paths (``replace``, or ``add`` of an object's member), none of them inside
  another, if a later patch sets exactly the same ones in the same way, and every patch between them
  only sets paths that have nothing to do with these. Both apply or neither does, and the last one wins.

Sources: RFC 6902 section 5 (atomic), AG-UI 1.0 STATE_*, ACTIVITY_* and MESSAGES_SNAPSHOT.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

from laneway.routing.errors import PeerProtocolError
from laneway.routing.packed import unpack_map
from laneway.routing.replay import TOMBSTONE, Numbered

__all__ = ["STATE_KINDS", "Conflation"]

_FAMILIES: Final = {
    "STATE_SNAPSHOT": ("state", "snapshot"),
    "STATE_DELTA": ("state", "delta"),
    "ACTIVITY_SNAPSHOT": ("activity", "content"),
    "ACTIVITY_DELTA": ("activity", "patch"),
    "MESSAGES_SNAPSHOT": ("messages", "messages"),
}
"""Kind -> what it is about, and the field that says what becomes of it."""
_PATCHES: Final = frozenset({"STATE_DELTA", "ACTIVITY_DELTA"})
_IGNORED: Final = frozenset({"timestamp"})
"""Fields that may differ between an event and the one that stands for it."""
_LOOK_EVENTS: Final = 64
_LOOK_BYTES: Final = 8_192
"""Of patches opened for one stretch: about a millisecond at most (measured 100 to 160 ns a byte)."""

_BARE: Final = {"STATE_SNAPSHOT": b"\x81\xa8snapshot", "MESSAGES_SNAPSHOT": b"\x81\xa8messages"}
"""How the body of a snapshot begins that has no other field: it need not be opened."""

STATE_KINDS: Final = frozenset(_FAMILIES)
"""Kinds that may be left out if a later one makes them unnecessary."""

_Path: TypeAlias = "tuple[str, ...]"
_Setting: TypeAlias = "frozenset[tuple[str, _Path]]"
"""(op, path) of each operation of a patch that only sets."""


class _Effect(NamedTuple):
    """What an event does to the state it is about.

    `replaces`: all of it; else it sets these paths, or, if `setting` is None, does what no other undoes.
    """

    about: object
    setting: _Setting | None = None
    replaces: bool = False


class Conflation:
    """Which of the entries of one frame are needed.

    Args:
        entries: contiguous in seq.
        grant: nothing that starts at or beyond this position is looked at.
    """

    __slots__ = ("_entries", "_grant", "_looked", "_needless")

    def __init__(self, entries: Sequence[Numbered], grant: float) -> None:
        self._entries = entries
        self._grant = grant
        self._looked = 0  # the index behind the last one that was looked at
        self._needless: frozenset[int] = frozenset()

    def needed(self, at: int) -> int:
        """Return the index of the first needed entry from `at` on, which is of a kind in `STATE_KINDS`.

        O(1) for a single event, else 64 events and 8 KiB of patches are looked at, once.
        """
        if at >= self._looked:
            self._needless, self._looked = _needless(self._entries, at, self._grant)
        while at in self._needless:
            at += 1
        return at


def _needless(entries: Sequence[Numbered], at: int, grant: float) -> tuple[frozenset[int], int]:
    """Return the indexes from `at` on that may be left out, never the last; and the index behind all looked at."""
    end = _stretch_end(entries, at, grant)
    if end == at + 1:
        return frozenset(), end
    effects = _effects(entries, at, end)
    gone: set[int] = set()
    later: list[_Effect] = []  # what is set behind this event, the nearest last; up to what must stay in its place
    replaced: object = None
    for index, effect in reversed(tuple(enumerate(effects, at))):
        if effect.about == replaced or _set_again(effect, later):
            gone.add(index)
        if effect.replaces:
            replaced = effect.about
        if effect.setting is None:
            later = []
        else:
            later.append(effect)
    return frozenset(gone), at + max(1, len(effects))


def _stretch_end(entries: Sequence[Numbered], at: int, grant: float) -> int:
    """Return the index behind the last event that is about the same as `entries[at]`."""
    _, after, env = entries[at]
    family, run, entity = _FAMILIES[env[2]][0], env[5], env[6]
    end = at + 1
    while end < len(entries) and end - at < _LOOK_EVENTS and after < grant:
        _, after, env = entries[end]
        found = _FAMILIES.get(env[2])
        if found is None or found[0] != family or env[5] != run or env[6] != entity or env[11] is TOMBSTONE:
            break
        end += 1
    return end


def _effects(entries: Sequence[Numbered], at: int, end: int) -> list[_Effect]:
    """Read the events of a stretch, or as much of its beginning as is enough work for one frame."""
    effects: list[_Effect] = []
    budget = _LOOK_BYTES
    for _, _, env in entries[at:end]:
        kind, body = env[2], env[11]
        if body.startswith(_BARE.get(kind, b"?")):
            effects.append(_Effect((_FAMILIES[kind][0], ()), replaces=True))
            continue
        budget -= len(body)
        if budget < 0:
            break
        effects.append(_effect(kind, body))
    return effects


def _effect(kind: str, body: bytes) -> _Effect:
    family, field = _FAMILIES[kind]
    try:
        fields = unpack_map(body)
    except PeerProtocolError:
        return _Effect(object())
    content = fields.pop(field, None)
    whole = fields.pop("replace", True) is True
    rest = tuple(sorted((name, repr(value)) for name, value in fields.items() if name not in _IGNORED))
    if kind in _PATCHES:
        return _Effect((family, rest), _setting(content))
    return _Effect((family, rest), replaces=whole)


def _setting(patch: object) -> _Setting | None:
    """Return what a patch sets; None if it does anything else, or may not mean the same to everybody."""
    if not isinstance(patch, list):
        return None
    paths: list[_Path] = []
    found: list[tuple[str, _Path]] = []
    for row in patch:
        if not isinstance(row, dict) or row.get("op") not in ("add", "replace") or "value" not in row:
            return None
        path = _tokens(row.get("path"))
        if path is None or (row["op"] == "add" and path and path[-1].isdigit()):
            return None  # into an array: it moves what stands behind it
        paths.append(path)
        found.append((row["op"], path))
    return frozenset(found) if _apart(paths) else None


def _tokens(pointer: object) -> _Path | None:
    """Return the tokens of a JSON pointer; None for one that is wrong, or that some read differently ("-", "01")."""
    if not isinstance(pointer, str) or (pointer and pointer[0] != "/"):
        return None
    tokens = tuple(pointer.split("/")[1:])
    for token in tokens:
        if token == "-" or (token.isdigit() and token != "0" and token[0] == "0"):
            return None
        if "~" in token and "~" in token.replace("~0", "").replace("~1", ""):
            return None
    return tokens


def _set_again(effect: _Effect, later: Sequence[_Effect]) -> bool:
    """Return whether one of the later ones sets the same, before another touches any of it."""
    if effect.setting is None:
        return False
    paths = [path for _, path in effect.setting]
    for other in reversed(later):
        if other.setting == effect.setting:
            return other.about == effect.about
        if not _apart(paths + [path for _, path in other.setting or ()]):
            return False
    return False


def _apart(paths: Sequence[_Path]) -> bool:
    """Return whether none of these paths is, or lies inside, another. O(n log n)."""
    ordered = sorted(paths)
    return all(inner[: len(outer)] != outer for outer, inner in pairwise(ordered))
