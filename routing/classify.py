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
        detail: tells how a run gets to its answer; left out under heavy overload, before it is numbered.
        control: acted on by the dispatcher itself, not routed to a pool.
        number: wire number of a built-in kind, 0 for users' kinds.
    """

    name: str
    lane: Lane
    durable: bool = True
    direction: str = OUT
    text: bool = False
    droppable: bool = False
    detail: bool = False
    control: bool = False
    number: int = 0


_ROWS: Final[tuple[tuple[str, Lane, str, str], ...]] = (
    # name, lane, direction, flags (t text, d droppable, s step detail, c control, v volatile)
    ("INTERRUPT", Lane.CRITICAL, IN, "c"),
    ("CANCEL", Lane.CRITICAL, IN, "c"),
    ("RUN_ERROR", Lane.CRITICAL, OUT, ""),
    ("SESSION_EXPIRED", Lane.CRITICAL, OUT, ""),
    ("USER_MESSAGE", Lane.HIGH, IN, ""),
    ("RUN_INPUT", Lane.HIGH, IN, ""),
    ("TOOL_CALL", Lane.HIGH, IN, ""),
    ("DOC_SYNC", Lane.HIGH, INOUT, ""),
    ("DOC_PATCH", Lane.NORMAL, IN, ""),
    ("PRESENCE", Lane.LOW, INOUT, "dv"),
    ("GAP", Lane.NORMAL, OUT, ""),
    ("PUBLISH", Lane.NORMAL, INOUT, ""),
    ("PROGRESS", Lane.LOW, OUT, "dv"),
    ("LOG", Lane.LOW, OUT, "dv"),
    ("TEXT_MESSAGE_START", Lane.NORMAL, OUT, ""),
    ("TEXT_MESSAGE_CONTENT", Lane.NORMAL, OUT, "t"),
    ("TEXT_MESSAGE_END", Lane.NORMAL, OUT, ""),
    ("TEXT_MESSAGE_CHUNK", Lane.NORMAL, OUT, ""),
    ("TOOL_CALL_START", Lane.HIGH, OUT, ""),
    ("TOOL_CALL_ARGS", Lane.HIGH, OUT, "t"),
    ("TOOL_CALL_END", Lane.HIGH, OUT, ""),
    ("TOOL_CALL_CHUNK", Lane.HIGH, OUT, ""),
    ("TOOL_CALL_RESULT", Lane.HIGH, INOUT, ""),
    ("STATE_SNAPSHOT", Lane.NORMAL, OUT, ""),
    ("STATE_DELTA", Lane.NORMAL, OUT, ""),
    ("MESSAGES_SNAPSHOT", Lane.NORMAL, OUT, ""),
    ("ACTIVITY_SNAPSHOT", Lane.NORMAL, OUT, "s"),
    ("ACTIVITY_DELTA", Lane.NORMAL, OUT, "s"),
    ("RAW", Lane.LOW, OUT, "dv"),
    ("CUSTOM", Lane.NORMAL, OUT, ""),
    ("RUN_STARTED", Lane.NORMAL, OUT, ""),
    ("RUN_FINISHED", Lane.NORMAL, OUT, ""),
    ("STEP_STARTED", Lane.NORMAL, OUT, "s"),
    ("STEP_FINISHED", Lane.NORMAL, OUT, "s"),
    ("REASONING_START", Lane.NORMAL, OUT, "s"),
    ("REASONING_MESSAGE_START", Lane.NORMAL, OUT, "s"),
    ("REASONING_MESSAGE_CONTENT", Lane.NORMAL, OUT, "ts"),
    ("REASONING_MESSAGE_END", Lane.NORMAL, OUT, "s"),
    ("REASONING_MESSAGE_CHUNK", Lane.NORMAL, OUT, ""),
    ("REASONING_END", Lane.NORMAL, OUT, "s"),
    ("REASONING_ENCRYPTED_VALUE", Lane.NORMAL, OUT, ""),
    ("SUBAGENT_STARTED", Lane.NORMAL, OUT, ""),
    ("SUBAGENT_FINISHED", Lane.NORMAL, OUT, ""),
    ("SUBAGENT_ERROR", Lane.NORMAL, OUT, ""),
)
"""The wire number is the row's."""


def _builtin() -> tuple[Kind, ...]:
    return tuple(
        Kind(
            name,
            lane,
            durable="v" not in flags,
            direction=direction,
            text="t" in flags,
            droppable="d" in flags,
            detail="s" in flags,
            control="c" in flags,
            number=number,
        )
        for number, (name, lane, direction, flags) in enumerate(_ROWS, 1)
    )


BUILTIN_KINDS: Final = _builtin()


class KindTable:
    """The kinds of one engine: the built-in rows plus the embedder's own.

    Args:
        extra: users' kinds; a name already taken raises ConfigError.
    """

    __slots__ = ("_by_name", "_by_number", "plain", "text", "volatile")

    def __init__(self, extra: Iterable[Kind] = ()) -> None:
        self._by_name = {kind.name: kind for kind in BUILTIN_KINDS}
        self._by_number = {kind.number: kind for kind in BUILTIN_KINDS}
        self.plain = {kind.name for kind in BUILTIN_KINDS if _is_plain(kind)}
        """Names of kinds that a client may send and that wait their turn: neither critical nor control."""
        self.volatile = {name for name in self.plain if not self._by_name[name].durable}
        """Those of them that are not written down."""
        self.text = frozenset(kind.name for kind in BUILTIN_KINDS if kind.text)
        """Names of kinds whose bodies are text deltas; one set for all who look at it."""
        for kind in extra:
            self.add(kind)

    def add(self, kind: Kind) -> None:
        """Add a user's kind. Raises ConfigError: the name is taken, or it may be dropped where nothing may be."""
        if kind.name in self._by_name:
            raise ConfigError(f"kind {kind.name!r} exists already; choose another name")
        if kind.droppable and kind.lane is not Lane.LOW:
            raise ConfigError(f"kind {kind.name!r} is droppable but in lane {kind.lane.name}; only low may be dropped")
        if kind.detail and kind.lane is Lane.CRITICAL:
            raise ConfigError(f"kind {kind.name!r} is critical and detail; what is critical is never left out")
        self._by_name[kind.name] = kind
        if kind.text:
            self.text |= {kind.name}
        if _is_plain(kind):
            self.plain.add(kind.name)
            if not kind.durable:
                self.volatile.add(kind.name)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._by_name.values())

    def get(self, name: str) -> Kind | None:
        """Return the row, or None if there is no such kind."""
        return self._by_name.get(name)

    def require(self, name: str | int) -> Kind:
        """Return the row by name or wire number. Raises PeerProtocolError(UNKNOWN_KIND)."""
        kind = self._by_name.get(name) if type(name) is str else self._by_number.get(name)  # type: ignore[arg-type]
        if kind is None:
            raise PeerProtocolError(
                f"kind {str(name)[:80]!r} is not known here; the built-in ones are in docs/protocol.md, others are "
                "registered with the engine",
                reason="UNKNOWN_KIND",
            )
        return kind

    def lane(self, name: str, asked: int | None = None) -> Lane:
        """Classify: the table's lane, or the lower one that was asked for; never a higher one."""
        kind = self.require(name)
        if asked is None or asked <= kind.lane:
            return kind.lane
        return Lane(min(asked, Lane.LOW))


def _is_plain(kind: Kind) -> bool:
    return kind.direction != OUT and not kind.control and kind.lane is not Lane.CRITICAL
