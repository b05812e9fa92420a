"""The rule every log keeps: seqs follow each stream's head without a hole, positions never shrink.

Law of this file: checked before anything is written, so that an append is all or nothing. A
break of it is a bug in the caller (LocalProtocolError), never repaired here: a log with a hole
would later be replayed as if it were whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from laneway.actors.ports import Entry
from laneway.actors.sessions.keeping import Run
from laneway.routing.errors import Fenced, LocalProtocolError

__all__ = ["MAX_STREAM", "advanced", "fenced", "follows", "hole", "strange_stream"]

MAX_STREAM: Final = 65_535


def advanced(key: str, heads: Mapping[int, tuple[int, int]], entries: Sequence[Entry]) -> dict[int, tuple[int, int]]:
    """Return the heads after `entries`, for the streams they touch; O(entries).

    Raises LocalProtocolError if a seq does not follow, or a position is behind its head.
    """
    after: dict[int, tuple[int, int]] = {}
    for stream, seq, position, _ in entries:
        head, at = after.get(stream) or heads.get(stream, (0, 0))
        if seq != head + 1 or position < at:
            raise hole(key, stream, (head, at), seq, position)
        if not 0 <= stream <= MAX_STREAM:
            raise strange_stream(key, stream)
        after[stream] = (seq, position)
    return after


def follows(key: str, stream: int, head: tuple[int, int] | None, run: Run) -> tuple[int, int]:
    """Return the head after a run of one stream. O(1): whoever numbers knows no holes inside of it.

    Raises LocalProtocolError as `advanced` does.
    """
    seq, position, _ = run.rows[0]
    last, after, _ = run.rows[-1]
    before = head or (0, 0)
    if seq != before[0] + 1 or position < before[1] or last != seq + len(run.rows) - 1:
        raise hole(key, stream, before, seq, position)
    if not 0 <= stream <= MAX_STREAM:
        raise strange_stream(key, stream)
    return last, after


def hole(key: str, stream: int, head: tuple[int, int], seq: int, position: int) -> LocalProtocolError:
    """Return the error for an entry that does not follow its stream's head (seq, position)."""
    return LocalProtocolError(
        f"log {key} stream {stream} ends at seq {head[0]} (position {head[1]}): "
        f"seq {seq} (position {position}) cannot follow; claim the log again and compare its heads"
    )


def strange_stream(key: str, stream: int) -> LocalProtocolError:
    """Return the error for a number that no stream may have."""
    return LocalProtocolError(f"log {key}: stream {stream} is outside 0 to {MAX_STREAM}")


def fenced(key: str, generation: int, current: int) -> Fenced:
    """Return the error for a claim that is not the newest."""
    return Fenced(
        f"generation {generation} of log {key} is over, it is at {current}: another home holds it; stop writing to it"
    )
