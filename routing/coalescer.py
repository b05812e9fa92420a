"""The coalescer: small text deltas of one entity become fewer, before they are numbered.

Law of this file: a run is one FIFO. The first delta of an entity passes at once (the first token is
what people wait for); the next ones gather until they make `min_chars` characters or the oldest has
waited `hold_s`; any other event of the run first pushes out what is held. Runs do not wait for each
other. Sealed deltas and every other kind pass through unchanged.

A model writes 3 to 5 characters a token: below `min_chars` 4, two tokens share one seq, one log
record and one wire item, at the price of at most 15 ms. Deltas that come within `near_s` of each
other, or before what went on was taken, gather whatever their size: no link would have sent them
sooner, and the next one costs one call and an append to a list (`gathering`). What comes fast waits 20 ms
to be a whole item: nobody reads so fast.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
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
_SHAPED: Final = _TEXT | _RUN_ENDS
_FAST_BYTES: Final = 50
_FILL_S: Final = 0.020
"""What has gathered so much when its time is over waits on, so long in all, as an item is soon full: 5,000
characters a second are two hundred times what people read."""
_NO_BOUND: Final = 1 << 62
_FULL_BYTES: Final = 200
"""A gathered delta is not held for more: about fifty tokens, which is one item of a link with a good network."""


class _Flow:
    """The entity whose deltas a run emits now, and those of them that wait for company."""

    __slots__ = (
        *("at", "chars", "deltas", "due_at", "entity", "fast", "first"),
        *("full", "kind", "most_at", "near", "owner", "size"),
    )

    def __init__(self, owner: Coalescer, kind: str, entity: str, at: float) -> None:
        self.owner = owner
        self.kind = kind
        self.entity = entity
        self.at = at  # when its last delta came
        self.first: Envelope | None = None
        self.deltas: list[bytes] = []
        self.chars = 0
        self.size = 0
        self.due_at = self.most_at = 0.0
        self.near = False
        self.fast = False  # what was gathered last came so fast that the next is given `_FILL_S` at once
        self.full = 0  # more than so many bytes are not gathered by `add`

    def add(self, body: bytes) -> bool:
        """See `Coalescer.gathering`. 0.2 us: it is what a token costs."""
        owner = self.owner
        if (
            type(body) is not bytes
            or (size := self.size + len(body)) >= self.full
            or owner.bytes >= owner.room_bytes
            or (body and body[0] == SEAL)
        ):
            return False
        owner.bytes += size - self.size
        self.size = size
        self.deltas.append(body)
        return True

    def goes_on(self, now: float) -> bool:
        """Return whether so much has come already that it waits for more; once."""
        if self.size < _FAST_BYTES or now >= self.most_at or not self.full:
            return False
        self.due_at = self.most_at
        return True

    def merged(self) -> Envelope:
        """Return what waits as one event, and let it go."""
        first, deltas = self.first, self.deltas
        assert first is not None, "only what waits is released"
        self.fast = self.near and self.size >= 2 * _FAST_BYTES
        if self.near and len(deltas) > 1:
            self.at = self.due_at  # the last one came before that; nobody looks at the clock for each
        self.first, self.deltas, self.full = None, [], 0
        return first if len(deltas) == 1 else (*first[:11], b"".join(deltas), first[12])


class Coalescer:
    """Merges text deltas of a session's runs.

    Args:
        min_chars: characters that need no more company.
        hold_s: longest wait in seconds.
        near_s: a delta so soon after the one before waits as long for company; 0 = its size alone counts.
        text_kinds: kinds whose bodies are plain UTF-8 deltas.

    Raises:
        LocalProtocolError: `min_chars` below 1, a negative `hold_s` or `near_s`.
    """

    __slots__ = (
        *("_flows", "_held", "_hold_s", "_min_chars", "_near_s", "_text_kinds"),
        *("bytes", "room_bytes", "shaped", "wait_s"),
    )

    def __init__(
        self, min_chars: int = 4, hold_s: float = 0.015, text_kinds: frozenset[str] = _TEXT, *, near_s: float = 0.0
    ) -> None:
        if min_chars < 1 or hold_s < 0:
            raise LocalProtocolError(f"min_chars {min_chars} must be >= 1 and hold_s {hold_s:g} >= 0")
        if near_s < 0:
            raise LocalProtocolError(f"near_s {near_s:g} must be >= 0")
        self._min_chars = min_chars
        self._hold_s = hold_s
        self._near_s = self.wait_s = near_s
        """How long deltas that come close together gather; may be changed at any time."""
        self._text_kinds = text_kinds
        self.shaped = _SHAPED if text_kinds is _TEXT else text_kinds | _RUN_ENDS
        """Kinds that must be offered; all others would only pass, as long as nothing is held."""
        self._held: dict[str, _Flow] = {}  # run -> what waits, in order of arrival
        self._flows: OrderedDict[str, _Flow] = OrderedDict()  # run -> its last entity
        self.bytes = 0
        """What is held will add this much to the stream's position."""
        self.room_bytes = _NO_BOUND
        """Nothing is added to what waits once that holds so much; the owner's to set, for its credit."""

    def gathering(self, run: str, kind: str, entity: str) -> Callable[[bytes], bool] | None:
        """Return what adds deltas of this run to those that wait already; None if none of that kind and entity waits.

        It adds a body and returns True if that is all there is to do. Once what waits has gone, is full or there is
        no room, and for what is not plain text, it does nothing and returns False: such a delta must be offered.
        """
        flow = self._held.get(run)
        return flow.add if flow is not None and flow.full and flow.entity == entity and flow.kind == kind else None

    def offer(self, env: Envelope, now: float, *, crowded: bool = False) -> list[Envelope]:
        """Take one event; returns what goes on to be numbered, in order. O(1) amortised.

        `crowded` = nobody has taken yet what went on before: this one would only stand behind it.
        """
        run, kind, body = env[5], env[2], env[11]
        if kind not in self._text_kinds or (body and body[0] == SEAL):
            if kind in _RUN_ENDS:
                self._flows.pop(run, None)
            held = self._held.pop(run, None)
            return [env] if held is None else [self._release(held), env]
        flow = self._flows.get(run)
        if flow is None or flow.entity != env[6] or flow.kind != kind:
            self._remember(run, _Flow(self, kind, env[6], now))
            held = self._held.pop(run, None)
            return [env] if held is None else [self._release(held), env]
        near = self._near_s > 0 and (crowded or now - flow.at < self._near_s)
        flow.at = now
        return self._gather(run, flow, env, now, near)

    def poll(self, now: float) -> list[Envelope]:
        """Return what has waited long enough. O(held)."""
        if not self._held:
            return []
        due = [run for run, flow in self._held.items() if flow.due_at <= now and not flow.goes_on(now)]
        return [self._release(self._held.pop(run)) for run in due]

    def deadline(self) -> float | None:
        """Return when `poll` has something, or None. O(held)."""
        return min((flow.due_at for flow in self._held.values()), default=None)

    def flush(self) -> list[Envelope]:
        """Return everything that is held, oldest first."""
        out = [self._release(flow) for flow in self._held.values()]
        self._held.clear()
        return out

    def _gather(self, run: str, flow: _Flow, env: Envelope, now: float, near: bool) -> list[Envelope]:
        body = env[11]
        chars = len(body) if body.isascii() else len(body.decode("utf-8", "replace"))
        if flow.first is None:
            if chars >= self._min_chars and (not near or len(body) >= _FULL_BYTES):
                return [env]
            flow.first, flow.chars, flow.size, flow.near = env, 0, 0, near
            flow.due_at = now + (self.wait_s if near else self._hold_s)
            flow.most_at = max(flow.due_at, now + _FILL_S)
            if near and flow.fast:
                flow.due_at = flow.most_at
            flow.full = _FULL_BYTES if near else 0
            self._held[run] = flow
            self.bytes += SEQ_COST_BYTES
        flow.deltas.append(body)
        flow.chars += chars
        flow.size += len(body)
        self.bytes += len(body)
        enough = flow.size >= _FULL_BYTES if flow.near else flow.chars >= self._min_chars
        if (not enough and now < flow.due_at) or len(flow.deltas) == 1:
            return []
        del self._held[run]
        return [self._release(flow)]

    def _release(self, flow: _Flow) -> Envelope:
        self.bytes -= flow.size + SEQ_COST_BYTES
        return flow.merged()

    def _remember(self, run: str, flow: _Flow) -> None:
        self._flows[run] = flow
        if len(self._flows) > _MAX_RUNS:
            self._flows.popitem(last=False)
