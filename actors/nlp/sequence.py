"""What a run has open, what may come next, and what closes it: the AG-UI sequence rules, pure.

Law of this file: content and ends need an open start; a start must not be open already; an entity
keeps its owner (`subagentRunId`); everything is closed before RUN_FINISHED. These are the rules of
the stock client's verifyEvents (@ag-ui/client 1.0.0); a stream that breaks one kills the client,
so it is stopped here. Independent entities may interleave (measured: both client lines accept).

Entities close in the reverse order of their opening, so that what is nested ends first.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from laneway.actors.nlp.vocabulary import fields_of, mark
from laneway.actors.ports import Out
from laneway.routing.envelope import SEAL
from laneway.routing.errors import ModelFailed

__all__ = ["RunSequence"]

MAX_OPEN: Final = 1_024
"""Entities open at once: a model that opens and never closes must not grow the run for ever."""


class _Family(NamedTuple):
    word: str
    id_field: str
    end: str


_TEXT: Final = _Family("text message", "messageId", "TEXT_MESSAGE_END")
_TOOL: Final = _Family("tool call", "toolCallId", "TOOL_CALL_END")
_SPAN: Final = _Family("reasoning span", "messageId", "REASONING_END")
_THOUGHT: Final = _Family("reasoning message", "messageId", "REASONING_MESSAGE_END")
_STEP: Final = _Family("step", "stepName", "STEP_FINISHED")
_SUBAGENT: Final = _Family("subagent", "subagentRunId", "SUBAGENT_FINISHED")

_STARTS: Final = {
    "TEXT_MESSAGE_START": _TEXT,
    "TOOL_CALL_START": _TOOL,
    "REASONING_START": _SPAN,
    "REASONING_MESSAGE_START": _THOUGHT,
    "STEP_STARTED": _STEP,
    "SUBAGENT_STARTED": _SUBAGENT,
}
_DELTAS: Final = {
    "TEXT_MESSAGE_CONTENT": _TEXT,
    "TOOL_CALL_ARGS": _TOOL,
    "REASONING_MESSAGE_CONTENT": _THOUGHT,
}
_ENDS: Final = {
    "TEXT_MESSAGE_END": _TEXT,
    "TOOL_CALL_END": _TOOL,
    "REASONING_END": _SPAN,
    "REASONING_MESSAGE_END": _THOUGHT,
    "STEP_FINISHED": _STEP,
    "SUBAGENT_FINISHED": _SUBAGENT,
    "SUBAGENT_ERROR": _SUBAGENT,
}


class RunSequence:
    """The open entities of one run.

    Every call is O(1) in the number of open entities except `closing`; a plain delta costs two
    dictionary look-ups and no decoding.
    """

    __slots__ = ("_last", "_open")

    def __init__(self) -> None:
        self._open: dict[tuple[_Family, str], str] = {}
        self._last: tuple[tuple[_Family, str], str | None] | None = None

    def __len__(self) -> int:
        return len(self._open)

    def offer(self, out: Out) -> None:
        """Take the next event of the run; RUN_* marks and kinds without rules are ignored.

        Raises ModelFailed(SEQUENCE) if it may not come now; the state is then unchanged.
        """
        kind = out.kind
        self._last = None
        if (family := _DELTAS.get(kind)) is not None:
            owner = str(_fields(out).get("subagentRunId", "")) if out.body[:1] == _SEALED else ""
            self._require(out, family, out.entity, owner)
        elif (family := _STARTS.get(kind)) is not None:
            self._start(out, family)
        elif (family := _ENDS.get(kind)) is not None:
            name, owner = _identity(out, family)
            self._require(out, family, name, owner)
            self._last = ((family, name), self._open.pop((family, name)))

    def retract(self) -> None:
        """Undo the last `offer`, for an event that could not be sent; once per offer."""
        if self._last is not None:
            key, owner = self._last
            if owner is None:
                del self._open[key]
            else:
                self._open[key] = owner
            self._last = None

    def closing(self) -> list[Out]:
        """Return the events that would close everything open, innermost first; offer each. O(open)."""
        outs = []
        for (family, name), owner in reversed(self._open.items()):
            fields = {family.id_field: name}
            if owner:
                fields["subagentRunId"] = owner
            outs.append(mark(family.end, fields, name if family.id_field in _ENTITY_FIELDS else ""))
        return outs

    def _start(self, out: Out, family: _Family) -> None:
        name, owner = _identity(out, family)
        if not name:
            raise _broken(out, f"names no {family.id_field}")
        if (family, name) in self._open:
            raise _broken(out, f"opens {family.word} {name!r}, which is open already")
        if len(self._open) >= MAX_OPEN:
            raise _broken(out, f"would be open entity number {MAX_OPEN + 1}; close some first")
        self._open[family, name] = owner
        self._last = ((family, name), None)

    def _require(self, out: Out, family: _Family, name: str, owner: str) -> None:
        opened_by = self._open.get((family, name))
        if opened_by is None:
            raise _broken(out, f"belongs to {family.word} {name!r}, which is not open; start it first")
        if owner and owner != opened_by:
            raise _broken(
                out, f"gives {family.word} {name!r} to {owner!r}, but it belongs to {opened_by or 'the run'!r}"
            )


_SEALED: Final = bytes([SEAL])
_ENTITY_FIELDS: Final = frozenset({"messageId", "toolCallId"})


def _identity(out: Out, family: _Family) -> tuple[str, str]:
    """Return (id, owner); a subagent is its own id and has no owner."""
    fields = _fields(out)
    name = out.entity if family.id_field in _ENTITY_FIELDS and out.entity else str(fields.get(family.id_field, ""))
    return name, "" if family is _SUBAGENT else str(fields.get("subagentRunId", ""))


def _fields(out: Out) -> dict[str, Any]:
    try:
        return fields_of(out)
    except ValueError as error:
        raise _broken(out, f"has an unreadable body ({error})") from error


def _broken(out: Out, what: str) -> ModelFailed:
    return ModelFailed(f"the model's {out.kind} {what}", reason="SEQUENCE")
