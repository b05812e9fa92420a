"""Kind -> lane, durability, direction: one table, so that a kind's whole treatment is one row.

Law of this file: the table decides, never the sender. A client may lower its event's lane, never
raise it. Lane and durability are separate columns. Numbers are what built-in kinds travel as;
they are never reused. Users' kinds travel by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from laneway.routing.errors import ConfigError, PeerProtocolError
from laneway.routing.lanes import Lane

__all__ = ["BUILTIN_KINDS", "IN", "INOUT", "OUT", "Kind", "KindTable"]

IN: Final = "in"
"""A client may send it."""
OUT: Final = "out"
"""Only the engine sends it."""
INOUT: Final = "inout"


@dataclass(frozen=True, slots=True)
class Kind:
    """One row: how events of this kind are treated everywhere.

    Attributes:
        name: upper-case words; users' kinds may be any `[A-Za-z0-9_.:-]{1,64}`.
        lane: the highest lane an event of it may take.
        durable: logged before the producer's OK (the low lane never is).
        direction: IN, OUT or INOUT, as seen from the engine's clients.
        text: the body is plain UTF-8 and adjacent ones of one entity may be merged.
        droppable: may be dropped under overload, covered by a GAP.
        control: acted on by the dispatcher itself, not routed to a pool.
        number: wire number of a built-in kind, 0 for users' kinds.
    """

    name: str
    lane: Lane
    durable: bool = True
    direction: str = OUT
    text: bool = False
    droppable: bool = False
    control: bool = False
    number: int = 0


def _builtin() -> tuple[Kind, ...]:
    crit, high, normal, low = Lane.CRITICAL, Lane.HIGH, Lane.NORMAL, Lane.LOW
    rows: list[tuple[str, Lane, str, str]] = [
        # name, lane, direction, flags (t text, d droppable, c control, v volatile)
        ("INTERRUPT", crit, IN, "c"),
        ("CANCEL", crit, IN, "c"),
        ("RUN_ERROR", crit, OUT, ""),
        ("SESSION_EXPIRED", crit, OUT, ""),
        ("USER_MESSAGE", high, IN, ""),
        ("RUN_INPUT", high, IN, ""),
        ("TOOL_CALL", high, IN, ""),
        ("DOC_SYNC", high, INOUT, ""),
        ("DOC_PATCH", normal, IN, ""),
        ("PRESENCE", low, INOUT, "dv"),
        ("GAP", normal, OUT, ""),
        ("PUBLISH", normal, INOUT, ""),
        ("PROGRESS", low, OUT, "dv"),
        ("LOG", low, OUT, "dv"),
        ("TEXT_MESSAGE_START", normal, OUT, ""),
        ("TEXT_MESSAGE_CONTENT", normal, OUT, "t"),
        ("TEXT_MESSAGE_END", normal, OUT, ""),
        ("TEXT_MESSAGE_CHUNK", normal, OUT, ""),
        ("TOOL_CALL_START", high, OUT, ""),
        ("TOOL_CALL_ARGS", high, OUT, "t"),
        ("TOOL_CALL_END", high, OUT, ""),
        ("TOOL_CALL_CHUNK", high, OUT, ""),
        ("TOOL_CALL_RESULT", high, INOUT, ""),
        ("STATE_SNAPSHOT", normal, OUT, ""),
        ("STATE_DELTA", normal, OUT, ""),
        ("MESSAGES_SNAPSHOT", normal, OUT, ""),
        ("ACTIVITY_SNAPSHOT", normal, OUT, ""),
        ("ACTIVITY_DELTA", normal, OUT, ""),
        ("RAW", low, OUT, "dv"),
        ("CUSTOM", normal, OUT, ""),
        ("RUN_STARTED", normal, OUT, ""),
        ("RUN_FINISHED", normal, OUT, ""),
        ("STEP_STARTED", normal, OUT, ""),
        ("STEP_FINISHED", normal, OUT, ""),
        ("REASONING_START", normal, OUT, ""),
        ("REASONING_MESSAGE_START", normal, OUT, ""),
        ("REASONING_MESSAGE_CONTENT", normal, OUT, "t"),
        ("REASONING_MESSAGE_END", normal, OUT, ""),
        ("REASONING_MESSAGE_CHUNK", normal, OUT, ""),
        ("REASONING_END", normal, OUT, ""),
        ("REASONING_ENCRYPTED_VALUE", normal, OUT, ""),
        ("SUBAGENT_STARTED", normal, OUT, ""),
        ("SUBAGENT_FINISHED", normal, OUT, ""),
        ("SUBAGENT_ERROR", normal, OUT, ""),
    ]
    return tuple(
        Kind(
            name,
            lane,
            durable="v" not in flags,
            direction=direction,
            text="t" in flags,
            droppable="d" in flags,
            control="c" in flags,
            number=number,
        )
        for number, (name, lane, direction, flags) in enumerate(rows, 1)
    )


BUILTIN_KINDS: Final = _builtin()


class KindTable:
    """The kinds of one engine: the built-in rows plus the embedder's own.

    Args:
        extra: users' kinds; a name already taken raises ConfigError.
    """

    __slots__ = ("_by_name", "_by_number")

    def __init__(self, extra: Iterable[Kind] = ()) -> None:
        self._by_name = {kind.name: kind for kind in BUILTIN_KINDS}
        self._by_number = {kind.number: kind for kind in BUILTIN_KINDS}
        for kind in extra:
            self.add(kind)

    def add(self, kind: Kind) -> None:
        """Add a user's kind. Raises ConfigError if the name is taken or a low kind is durable."""
        if kind.name in self._by_name:
            raise ConfigError(f"kind {kind.name!r} exists already; choose another name")
        if kind.droppable and kind.lane is not Lane.LOW:
            raise ConfigError(f"kind {kind.name!r} is droppable but in lane {kind.lane.name}; only low may be dropped")
        self._by_name[kind.name] = kind

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._by_name.values())

    def get(self, name: str) -> Kind | None:
        """Return the row, or None if there is no such kind."""
        return self._by_name.get(name)

    def require(self, name: str | int) -> Kind:
        """Return the row by name or wire number. Raises PeerProtocolError(UNKNOWN_KIND)."""
        kind = self._by_name.get(name) if isinstance(name, str) else self._by_number.get(name)
        if kind is None:
            raise PeerProtocolError(
                f"kind {str(name)[:80]!r} is not known here; see the handshake's kinds", reason="UNKNOWN_KIND"
            )
        return kind

    def lane(self, name: str, asked: int | None = None) -> Lane:
        """Classify: the table's lane, or the lower one that was asked for; never a higher one."""
        kind = self.require(name)
        if asked is None or asked <= kind.lane:
            return kind.lane
        return Lane(min(asked, Lane.LOW))
