"""What a session leaves out while the engine is overloaded, before anything gets a number.

Law of this file: what goes out is as well formed as what came in. At level 1 the low lane's droppable
kinds are left out, at level 2 step detail too: a step, a reasoning or an activity is left out whole or
not at all, decided where it begins, so that nothing ends that did not begin and no patch meets a state
that the client has not. Text, tool calls, states and the marks of runs always pass. Who asks counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from laneway.routing.classify import KindTable
from laneway.routing.envelope import BODY, ENTITY, KIND, RUN, Envelope
from laneway.routing.errors import PeerProtocolError
from laneway.routing.packed import unpack_map
from laneway.routing.shedding import Shedding

__all__ = ["Thinner"]

_LOW_FROM, _DETAIL_FROM = 1, 2
"""Levels."""
_CLOSED_BY: Final[Mapping[str, str]] = {
    "STEP_STARTED": "STEP_FINISHED",
    "REASONING_START": "REASONING_END",
    "REASONING_MESSAGE_START": "REASONING_MESSAGE_END",
}
_CLOSES: Final = frozenset(_CLOSED_BY.values())
_RUN_ENDS: Final = frozenset({"RUN_FINISHED", "RUN_ERROR"})
_MAX_OMITTED: Final = 256
"""Things left out at once per session; of the oldest beyond it an end without a beginning may show."""

_Key = tuple[str, str, str]
"""Run (empty for activities, which outlive runs), what ends it, its name."""


class Thinner:
    """Decides for one session. O(1) per event but for a reasoning's beginning, which looks at what is omitted.

    Args:
        shedding: has the level.
        kinds: tells what is droppable and what is detail.
        dropped: told the kind of each event that is left out.

    Attributes:
        omitted: what was left out and may go on; while it is empty and the level 0 nobody need ask.
    """

    __slots__ = ("_dropped", "_kinds", "_shedding", "omitted")

    def __init__(self, shedding: Shedding, kinds: KindTable, dropped: Callable[[str], None]) -> None:
        self._shedding = shedding
        self._kinds = kinds
        self._dropped = dropped
        self.omitted: dict[_Key, None] = {}

    def passes(self, env: Envelope) -> bool:
        """Return whether an outbound event goes on; ask once for each, in order."""
        kind, level = env[KIND], self._shedding.level
        if kind in _RUN_ENDS:
            self._forget(env[RUN])
            return True
        row = self._kinds.get(kind)
        if row is None or not (row.detail or row.droppable):
            return True
        if not (self._leaves_out(env, level) if row.detail else level >= _LOW_FROM):
            return True
        self._dropped(kind)
        return False

    def _leaves_out(self, env: Envelope, level: int) -> bool:
        """Decide about detail, and remember what is left out."""
        kind, busy = env[KIND], level >= _DETAIL_FROM
        if (closing := _CLOSED_BY.get(kind)) is not None:
            busy = busy or (kind == "REASONING_MESSAGE_START" and self._reasons_unseen(env[RUN]))
            return self._omit((env[RUN], closing, _name(env))) if busy else False
        if kind in _CLOSES:
            key = (env[RUN], kind, _name(env))
            known = key in self.omitted
            self.omitted.pop(key, None)
            return known
        if kind == "REASONING_MESSAGE_CONTENT":
            return (env[RUN], "REASONING_MESSAGE_END", env[ENTITY]) in self.omitted
        if kind in ("ACTIVITY_SNAPSHOT", "ACTIVITY_DELTA"):
            return self._leaves_out_activity(("", "ACTIVITY_SNAPSHOT", env[ENTITY]), kind, busy)
        return busy

    def _leaves_out_activity(self, key: _Key, kind: str, busy: bool) -> bool:
        """A snapshot heals what was left out before it; a patch alone does not."""
        if busy:
            return self._omit(key)
        if kind == "ACTIVITY_SNAPSHOT":
            self.omitted.pop(key, None)
        return key in self.omitted

    def _omit(self, key: _Key) -> bool:
        self.omitted[key] = None
        if len(self.omitted) > _MAX_OMITTED:
            del self.omitted[next(iter(self.omitted))]
        return True

    def _reasons_unseen(self, run: str) -> bool:
        return any(key[0] == run and key[1] == "REASONING_END" for key in self.omitted)

    def _forget(self, run: str) -> None:
        for key in [key for key in self.omitted if key[0] == run]:
            del self.omitted[key]


def _name(env: Envelope) -> str:
    """Return what a beginning and its end have in common; a step has no entity, its name is in the body."""
    if env[ENTITY] or not env[BODY]:
        return env[ENTITY]
    try:
        fields = unpack_map(env[BODY])
    except PeerProtocolError:
        return ""
    return f"{fields.get('stepName')}\0{fields.get('subagentRunId')}"
