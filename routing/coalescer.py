"""The coalescer: small text deltas of one entity become fewer, before they are numbered.

Law of this file: a run is one FIFO. The first delta of an entity passes at once (the first token is
what people wait for); the next ones gather until they make `min_chars` characters or the oldest has
waited `hold_s`; any other event of the run first pushes out what is held. Runs do not wait for each
other. Sealed deltas and every other kind pass through unchanged.

A model writes 3 to 5 characters a token: below `min_chars` 4, two tokens share one seq, one log
record and one wire item, at the price of at most 15 ms.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from laneway.routing.classify import BUILTIN_KINDS
from laneway.routing.envelope import SEAL, Envelope
from laneway.routing.errors import LocalProtocolError
from laneway.routing.replay import SEQ_COST_BYTES

__all__ = ["Coalescer"]

_TEXT: Final = frozenset(kind.name for kind in BUILTIN_KINDS if kind.text)
_MAX_RUNS: Final = 1024
"""Runs whose last entity is remembered; a forgotten one passes its next delta at once, no more."""
_RUN_ENDS: Final = frozenset(("RUN_FINISHED", "RUN_ERROR"))


class _Held:
    """Adjacent deltas of one run that wait for company."""

    __slots__ = ("chars", "deltas", "due_at", "first")

    def __init__(self, env: Envelope, chars: int, due_at: float) -> None:
        self.first = env
        self.deltas = [env[11]]
        self.chars = chars
        self.due_at = due_at

    def merged(self) -> Envelope:
        first = self.first
        if len(self.deltas) == 1:
            return first
        return (*first[:11], b"".join(self.deltas), first[12])


class Coalescer:
    """Merges text deltas of a session's runs.

    Args:
        min_chars: characters that need no more company.
        hold_s: longest wait in seconds.
        text_kinds: kinds whose bodies are plain UTF-8 deltas.

    Raises:
        LocalProtocolError: `min_chars` below 1 or a negative `hold_s`.
    """

    __slots__ = ("_held", "_hold_s", "_last", "_min_chars", "_text_kinds", "bytes")

    def __init__(self, min_chars: int = 4, hold_s: float = 0.015, text_kinds: frozenset[str] = _TEXT) -> None:
        if min_chars < 1 or hold_s < 0:
            raise LocalProtocolError(f"min_chars {min_chars} must be >= 1 and hold_s {hold_s:g} >= 0")
        self._min_chars = min_chars
        self._hold_s = hold_s
        self._text_kinds = text_kinds
        self._held: dict[str, _Held] = {}  # run -> what waits; in order of arrival, so of due_at
        self._last: OrderedDict[str, tuple[str, str]] = OrderedDict()  # run -> (kind, entity) of its last delta
        self.bytes = 0
        """What is held will add this much to the stream's position, at most."""

    def offer(self, env: Envelope, now: float) -> list[Envelope]:
        """Take one event; returns what goes on to be numbered, in order. O(1) amortised."""
        run, kind, body = env[5], env[2], env[11]
        if kind not in self._text_kinds or (body and body[0] == SEAL):
            if kind in _RUN_ENDS:
                self._last.pop(run, None)
            held = self._held.pop(run, None)
            return [env] if held is None else [self._release(held), env]
        key = (kind, env[6])
        if self._last.get(run) != key:
            self._remember(run, key)
            held = self._held.pop(run, None)
            return [env] if held is None else [self._release(held), env]
        return self._gather(run, env, now)

    def poll(self, now: float) -> list[Envelope]:
        """Return what has waited long enough. O(1) plus what is returned."""
        out = []
        while self._held:
            run, held = next(iter(self._held.items()))
            if held.due_at > now:
                break
            del self._held[run]
            out.append(self._release(held))
        return out

    def deadline(self) -> float | None:
        """Return when `poll` has something, or None. O(1)."""
        return next(iter(self._held.values())).due_at if self._held else None

    def flush(self) -> list[Envelope]:
        """Return everything that is held, oldest first."""
        out = [self._release(held) for held in self._held.values()]
        self._held.clear()
        return out

    def _gather(self, run: str, env: Envelope, now: float) -> list[Envelope]:
        body = env[11]
        chars = len(body) if body.isascii() else len(body.decode("utf-8", "replace"))
        held = self._held.get(run)
        if held is None:
            if chars >= self._min_chars:
                return [env]
            self._held[run] = _Held(env, chars, now + self._hold_s)
            self.bytes += len(body) + SEQ_COST_BYTES
            return []
        held.deltas.append(body)
        held.chars += chars
        self.bytes += len(body) + SEQ_COST_BYTES
        if held.chars < self._min_chars and now < held.due_at:
            return []
        del self._held[run]
        return [self._release(held)]

    def _release(self, held: _Held) -> Envelope:
        self.bytes -= sum(map(len, held.deltas)) + SEQ_COST_BYTES * len(held.deltas)
        return held.merged()

    def _remember(self, run: str, key: tuple[str, str]) -> None:
        self._last[run] = key
        if len(self._last) > _MAX_RUNS:
            self._last.popitem(last=False)
