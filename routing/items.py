"""Wire items: how a link folds numbered events into a frame, and how a receiver reads the fold.

Law of this file: an item is `(first, span, skip, tail, envelope)`: its body holds seqs
`first .. first+span-1`; `skip` = bytes of seq `first` left out at the front (sent before); `tail`
= 0 if the last seq ends here, else how many of its bytes, from its start, are sent by now. The
next item starts at `first+span` with skip 0, or after a tail at `first+span-1` with skip = tail.
So only a frame's first seq and skip travel, and any resend can be trimmed to the byte.

After numbering only three things are allowed: merging text of one kind, entity and run that is
contiguous in seq, cutting text between grapheme clusters, and leaving out state that a later event
makes unnecessary (`conflation.py`): such an item has the body of its last seq only, and says how many
bytes were `passed` over. Tombstones become one GAP item with their exact count and weight. Nothing
here waits for more text, unless `hold` says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias

from laneway.routing.chunker import Cutter
from laneway.routing.conflation import STATE_KINDS, Conflation
from laneway.routing.envelope import NO_DEADLINE, SEAL, Envelope
from laneway.routing.errors import PeerProtocolError
from laneway.routing.lanes import Lane
from laneway.routing.packed import pack_map, unpack_map
from laneway.routing.replay import SEQ_COST_BYTES, TOMBSTONE, Numbered

__all__ = ["GAP_KIND", "Batch", "Gap", "WireItem", "plan_items", "read_gap", "read_items"]

GAP_KIND: Final = "GAP"
_GAP_REASON: Final = "OVERLOAD"
_WINDOW_SLACK_BYTES: Final = 64
_MAX_SPAN: Final = 1_000_000_000
_MAX_PASSED: Final = 2**53
_body_of: Final = itemgetter(11)


_Folded: TypeAlias = tuple[Envelope, int, int, int]
"""(envelope, span, tail, position of the seq that goes on after it)."""
_Shape: TypeAlias = "tuple[int, int] | tuple[int, int, int]"
"""(span, tail), or (span, 0, passed)."""


class WireItem(NamedTuple):
    """One item as received; see the law of this file. `passed` = 0 for an item that leaves nothing out."""

    first: int
    span: int
    skip: int
    tail: int
    envelope: Envelope
    passed: int = 0


class Gap(NamedTuple):
    """What a GAP stands for: kind -> events, and the weight they add to the position."""

    by_kind: Mapping[str, int]
    bytes: int
    reason: str


class Batch(NamedTuple):
    """What one frame carries of one stream, and where the next frame goes on.

    Attributes:
        first, skip, shape, envelopes: the items; `shape` is None if every item is one whole seq.
        start: position at which seq `first` starts.
        next_seq, next_skip, position: where reading goes on; `position` = start of `next_seq`.
        bytes: bodies in this batch.
        gapped, merged: seqs covered by GAPs; seqs that travel in an earlier seq's item.
        conflated: seqs left out, because a later one makes them unnecessary.
        held: text is being held back for its sentence end.
    """

    first: int
    skip: int
    shape: list[_Shape] | None
    envelopes: list[Envelope]
    start: int
    next_seq: int
    next_skip: int
    position: int
    bytes: int = 0
    gapped: int = 0
    merged: int = 0
    conflated: int = 0
    held: bool = False

    def header(self, stream: int) -> dict[str, object]:
        """Return the frame header fields of these items."""
        fields: dict[str, object] = {"stream": stream, "first": self.first}
        if self.skip:
            fields["skip"] = self.skip
        if self.shape is not None:
            fields["shape"] = self.shape
        return fields


def plan_items(
    entries: Sequence[Numbered],
    position: int,
    skip: int,
    text_kinds: frozenset[str],
    *,
    grant: float,
    chunk_chars: int,
    max_items: int,
    room_bytes: int,
    hold: bool = False,
    cutter: Cutter | None = None,
) -> Batch:
    """Fold contiguous entries into at most `max_items` items. O(bytes) of what is sent.

    Args:
        entries: what may be sent, contiguous in seq; not empty.
        position, skip: where the first entry starts; bytes of it sent before.
        text_kinds: kinds that may be merged and cut.
        grant: nothing that starts at or beyond this position is begun.
        chunk_chars: longest text item in characters (longer only for a single cluster). max_items: at most.
        room_bytes: stop after about this many bytes; one item is always taken.
        hold: give text only up to a sentence end while nothing follows it. cutter: the link's.
    """
    if not skip and entries[0][2][2] not in text_kinds:
        whole = _as_they_are(entries, position, text_kinds, grant, max_items, room_bytes)
        if whole is not None:
            return whole
    cutter = Cutter() if cutter is None else cutter
    return _folded(entries, position, skip, text_kinds, grant, chunk_chars, max_items, room_bytes, hold, cutter)


def _as_they_are(
    entries: Sequence[Numbered],
    position: int,
    text_kinds: frozenset[str],
    grant: float,
    max_items: int,
    room_bytes: int,
) -> Batch | None:
    """Return what `_folded` would, if every event that goes is an item as it is; 0.1 us an event."""
    some = entries[:max_items]
    count = _fitting(some, position, grant, room_bytes)
    envelopes = [row[2] for row in some[: count + 1]]  # and the one before which the frame ends
    kinds = [env[2] for env in envelopes]
    if not text_kinds.isdisjoint(kinds) or not STATE_KINDS.isdisjoint(kinds) or TOMBSTONE in map(_body_of, envelopes):
        return None
    if not count:
        return None
    seq, after = some[0][0], some[count - 1][1]
    size = after - position - SEQ_COST_BYTES * count
    return Batch(seq, 0, None, envelopes[:count], position, seq + count, 0, after, size)


def _fitting(entries: Sequence[Numbered], position: int, grant: float, room_bytes: int) -> int:
    """Return how many go, each an item as it is: what begins within credit, the first one or while there is room."""
    count = len(entries)
    last = entries[-2][1] if count > 1 else position
    if last < grant and entries[-1][1] - position - SEQ_COST_BYTES * count < room_bytes:
        return count
    size, before = 0, position
    for count, (_, after, _) in enumerate(entries):
        grown = after - position - SEQ_COST_BYTES * (count + 1)
        if before >= grant or (count and (size >= room_bytes or grown > room_bytes)):
            return count
        size, before = grown, after
    return len(entries)


def _folded(
    entries: Sequence[Numbered],
    position: int,
    skip: int,
    text_kinds: frozenset[str],
    grant: float,
    chunk_chars: int,
    max_items: int,
    room_bytes: int,
    hold: bool,
    cutter: Cutter,
) -> Batch:
    """Fold event by event: merge and cut text, cover what was dropped, leave out state that is overtaken."""
    envelopes: list[Envelope] = []
    shape: list[_Shape] = []
    start, first_skip, state = position, skip, Conflation(entries, grant)
    at = size = gapped = merged = conflated = passed = 0
    plain, held, count = True, False, len(entries)
    while at < count and len(envelopes) < max_items and (size < room_bytes or not envelopes):
        if position >= grant and not skip:
            break
        env = entries[at][2]
        body = env[11]
        if body is TOMBSTONE:
            item = _fold_gap(entries, at, position)
            gapped += item[1]
        elif env[2] in text_kinds and (not body or body[0] != SEAL):
            folded = _fold_text(entries, at, position, skip, grant, chunk_chars, hold, cutter)
            if folded is None:
                held = True
                break
            item = folded
            merged += item[1] - 1
        else:
            end = state.needed(at) if env[2] in STATE_KINDS else at
            _, after, env = entries[end]
            if envelopes and size + len(env[11]) > room_bytes:
                break
            passed = entries[end - 1][1] - position - (end - at) * SEQ_COST_BYTES if end > at else 0
            conflated += end - at
            item = (env, end + 1 - at, 0, after)
        env, span, skip, position = item
        envelopes.append(env)
        shape.append((span, 0, passed) if passed else (span, skip))
        size, passed, plain = size + len(env[11]), 0, plain and not skip and span == 1
        at += span - 1 if skip else span
    seq, told = entries[0][0], None if plain else shape
    thinned = (gapped, merged, conflated, held)
    return Batch(seq, first_skip, told, envelopes, start, seq + at, skip, position, size, *thinned)


def read_items(header: Mapping[str, object], envelopes: Sequence[Envelope]) -> list[WireItem]:
    """Unfold a frame's `first`, `skip` and `shape` over its envelopes.

    Raises:
        PeerProtocolError: BAD_SHAPE if the fields do not fit together.
    """
    first, skip = header.get("first"), header.get("skip", 0)
    shape = header.get("shape")
    if type(first) is not int or type(skip) is not int or first < 1 or skip < 0:
        raise PeerProtocolError("a frame's first must be >= 1 and its skip >= 0", reason="BAD_SHAPE")
    if shape is None:
        shape = [[1, 0]] * len(envelopes)
    if not isinstance(shape, list) or len(shape) != len(envelopes):
        raise PeerProtocolError("a frame's shape must have one pair per item", reason="BAD_SHAPE")
    items = []
    for pair, env in zip(shape, envelopes, strict=True):
        span, tail, passed = _pair(pair)
        items.append(WireItem(first, span, skip, tail, env, passed))
        first, skip = (first + span - 1, tail) if tail else (first + span, 0)
    return items


def read_gap(env: Envelope) -> Gap:
    """Read the body of a GAP item.

    Raises:
        PeerProtocolError: the body is not what a GAP carries.
    """
    fields = unpack_map(env[11])
    by_kind, weight, reason = fields.get("by_kind"), fields.get("bytes"), fields.get("reason")
    if not isinstance(by_kind, dict) or type(weight) is not int or weight < 0 or not isinstance(reason, str):
        raise PeerProtocolError("a GAP must carry by_kind, bytes and reason", reason="BAD_TYPE")
    return Gap(by_kind, weight, reason)


def _pair(pair: object) -> tuple[int, int, int]:
    if isinstance(pair, list | tuple) and len(pair) in (2, 3) and all(type(number) is int for number in pair):
        span, tail = pair[:2]
        if 1 <= span <= _MAX_SPAN and tail >= 0:
            if len(pair) == 2:
                return span, tail, 0
            if span > 1 and tail == 0 and 0 < pair[2] <= _MAX_PASSED:
                return span, 0, pair[2]
    raise PeerProtocolError(
        "each part of a frame's shape is [span >= 1, tail >= 0] or [span > 1, 0, passed bytes > 0]", reason="BAD_SHAPE"
    )


def _fold_gap(entries: Sequence[Numbered], at: int, position: int) -> _Folded:
    """Return one GAP item for the tombstones from `at` on."""
    start, model = at, entries[at][2]
    by_kind: dict[str, int] = {}
    while at < len(entries) and entries[at][2][11] is TOMBSTONE:
        kind = entries[at][2][2]
        by_kind[kind] = by_kind.get(kind, 0) + 1
        at += 1
    after = entries[at - 1][1]
    body = pack_map({"by_kind": by_kind, "bytes": after - position, "reason": _GAP_REASON})
    gap = (model[0], model[1], GAP_KIND, *model[3:5], "", "", int(Lane.NORMAL), NO_DEADLINE, "", "", body, model[12])
    return gap, at - start, 0, after


def _fold_text(
    entries: Sequence[Numbered],
    at: int,
    position: int,
    skip: int,
    grant: float,
    chunk_chars: int,
    hold: bool,
    cutter: Cutter,
) -> _Folded | None:
    """Return one text item that starts with entry `at`; None if its text is held back."""
    _, after, env = entries[at]
    last = _run_end(entries, at, grant, 4 * chunk_chars + _WINDOW_SLACK_BYTES + skip)
    if last == at and not skip and not hold and len(env[11]) <= chunk_chars:
        if cutter.follows or b"`" in env[11] or b"~" in env[11]:
            cutter.passed(env)
        cutter.before = env
        return env, 1, 0, after
    pieces = [entry[2][11] for entry in entries[at : last + 1]]
    pieces[0] = pieces[0][skip:]
    joined = b"".join(pieces)
    size = _item_bytes(env, joined, chunk_chars, cutter, hold=hold and last + 1 == len(entries))
    if size == 0 and joined:
        return None
    part = (*env[:11], joined[:size], env[12])
    cutter.passed(part)
    if size == len(joined):
        return part, last + 1 - at, 0, entries[last][1]
    span, end = 1, len(pieces[0])
    while end < size or (end == size and not pieces[span]):  # empty deltas end where they begin
        end += len(pieces[span])
        span += 1
    if end == size:
        return part, span, 0, entries[at + span - 1][1]
    begin = end - len(pieces[span - 1]) - (skip if span == 1 else 0)
    return part, span, size - begin, entries[at + span - 2][1] if span > 1 else position


def _run_end(entries: Sequence[Numbered], at: int, grant: float, enough_bytes: int) -> int:
    """Return the index of the last entry whose text may be joined to entry `at`'s."""
    _, after, env = entries[at]
    kind, run, entity = env[2], env[5], env[6]
    size = len(env[11])
    while at + 1 < len(entries) and size < enough_bytes and after < grant:
        _, after, following = entries[at + 1]
        body = following[11]
        if (
            following[6] != entity
            or following[2] != kind
            or following[5] != run
            or body is TOMBSTONE
            or (body and body[0] == SEAL)
        ):
            break
        size += len(body)
        at += 1
    return at


def _item_bytes(env: Envelope, joined: bytes, chunk_chars: int, cutter: Cutter, *, hold: bool) -> int:
    """Return how many bytes of the joined text the next item takes; 0 = hold it back (or it is empty)."""
    size = len(joined)
    if size <= chunk_chars and not hold:
        return size
    end = min(size, 4 * chunk_chars + _WINDOW_SLACK_BYTES)
    while end < size and end > 4 * chunk_chars and joined[end] & 0xC0 == 0x80:
        end -= 1  # not inside a UTF-8 sequence
    text = joined[:end].decode("utf-8", "surrogateescape")
    if len(text) > chunk_chars:
        return len(text[: cutter.cut(env, text, chunk_chars)].encode("utf-8", "surrogateescape"))
    if hold:
        return len(text[: cutter.sentences(text)].encode("utf-8", "surrogateescape"))
    return size
