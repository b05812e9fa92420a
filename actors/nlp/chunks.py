"""The *_CHUNK shorthand spelled out: START, deltas and END, so that the rest knows one form only.

Law of this file: a chunk with a new id opens its entity, a chunk without an id continues the open
one, and the next event of any other kind closes it (RAW, LOG and PROGRESS pass beside it). This is
what the stock client's chunk transformation does (AG-UI 1.0); done here, deltas merge, resume and
close on cancel like all others.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from laneway.actors.nlp.vocabulary import fields_of, mark
from laneway.actors.ports import Out
from laneway.routing.errors import ModelFailed

__all__ = ["ChunkExpander"]


class _Shape(NamedTuple):
    start: str
    delta: str
    end: str
    id_field: str
    needs: str
    keeps: tuple[str, ...]


_SHAPES: Final = {
    "TEXT_MESSAGE_CHUNK": _Shape(
        "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "messageId", "messageId", ("role", "name")
    ),
    "TOOL_CALL_CHUNK": _Shape(
        "TOOL_CALL_START",
        "TOOL_CALL_ARGS",
        "TOOL_CALL_END",
        "toolCallId",
        "toolCallName",
        ("toolCallName", "parentMessageId"),
    ),
    "REASONING_MESSAGE_CHUNK": _Shape(
        "REASONING_MESSAGE_START",
        "REASONING_MESSAGE_CONTENT",
        "REASONING_MESSAGE_END",
        "messageId",
        "messageId",
        (),
    ),
}
_BESIDE: Final = frozenset({"RAW", "LOG", "PROGRESS"})


class ChunkExpander:
    """Turns chunks into full events; everything else passes through.

    The entity that the last chunk opened stays open at the end; `RunSequence.closing` ends it.
    """

    __slots__ = ("_id", "_owner", "_shape")

    def __init__(self) -> None:
        self._shape: _Shape | None = None
        self._id = ""
        self._owner: str | None = None

    def expand(self, out: Out) -> list[Out]:
        """Return what to emit instead of `out`. Raises ModelFailed(SEQUENCE) for a chunk of nothing."""
        shape = _SHAPES.get(out.kind)
        if shape is None:
            return [out] if self._shape is None or out.kind in _BESIDE else [*self._close(), out]
        fields = _fields(out)
        name = out.entity or str(fields.get(shape.id_field) or "")
        outs: list[Out] = []
        if shape is not self._shape or (name and name != self._id):
            outs += self._close()
            outs.append(self._open(out, shape, name, fields))
        if delta := fields.get("delta"):
            outs.append(Out(shape.delta, str(delta).encode(), self._id))
        return outs

    def _close(self) -> list[Out]:
        shape, self._shape = self._shape, None
        if shape is None:
            return []
        return [mark(shape.end, {shape.id_field: self._id, "subagentRunId": self._owner}, self._id)]

    def _open(self, out: Out, shape: _Shape, name: str, fields: dict[str, Any]) -> Out:
        if not name or not (shape.needs == shape.id_field or fields.get(shape.needs)):
            raise ModelFailed(
                f"the model's first {out.kind} must name {shape.id_field} and {shape.needs}", reason="SEQUENCE"
            )
        self._shape, self._id, self._owner = shape, name, fields.get("subagentRunId")
        start = {shape.id_field: name, "subagentRunId": self._owner, **{key: fields.get(key) for key in shape.keeps}}
        if shape.start == "TEXT_MESSAGE_START":
            start["role"] = start["role"] or "assistant"
        elif shape.start == "REASONING_MESSAGE_START":
            start["role"] = "reasoning"
        return mark(shape.start, start, name)


def _fields(out: Out) -> dict[str, Any]:
    try:
        return fields_of(out)
    except ValueError as error:
        raise ModelFailed(f"the model's {out.kind} has an unreadable body ({error})", reason="SEQUENCE") from error
