"""A model's context: its run's own, with the tool calls that it makes remembered in the turn.

Law of this file: a model may do what a handler may, and what it does beside its stream is part of
what was said.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from laneway.actors.nlp.history import Turn
from laneway.actors.ports import Context, Out, Principal, ToolResult, ToolSpec
from laneway.actors.spans import Span, SpanValue
from laneway.routing.unread import Unread

__all__ = ["Recorded"]


class Recorded:
    """The model's context: the run's own, with tool calls remembered in the turn."""

    def __init__(self, context: Context, turn: Turn) -> None:
        self._context = context
        self._turn = turn

    @property
    def principal(self) -> Principal:
        """Whose event this is."""
        return self._context.principal

    @property
    def tenant(self) -> str:
        """As the run's."""
        return self._context.tenant

    @property
    def session(self) -> str:
        """As the run's."""
        return self._context.session

    @property
    def run(self) -> str:
        """As the run's."""
        return self._context.run

    @property
    def deadline(self) -> float:
        """As the run's."""
        return self._context.deadline

    @property
    def cancelled(self) -> bool:
        """As the run's."""
        return self._context.cancelled

    @property
    def trace(self) -> str:
        """As the run's."""
        return self._context.trace

    async def emit(self, out: Out) -> None:
        """Send beside the stream; such events are not checked against the sequence."""
        await self._context.emit(out)

    async def emit_all(self, outs: Sequence[Out]) -> None:
        """As `emit`."""
        await self._context.emit_all(outs)

    def when_unread(self, policy: Unread) -> None:
        """As the run's."""
        self._context.when_unread(policy)

    async def call_tool(self, name: str, arguments: Mapping[str, Any], call_id: str = "") -> ToolResult:
        """Run a tool and remember the call."""
        result = await self._context.call_tool(name, arguments, call_id)
        self._turn.call(result.call_id, name, json.dumps(arguments, ensure_ascii=False), result.content)
        return result

    def tools(self) -> Sequence[ToolSpec]:
        """As the run's."""
        return self._context.tools()

    def span(self, name: str, kind: str = "internal", **attributes: SpanValue) -> AbstractContextManager[Span]:
        """As the run's."""
        return self._context.span(name, kind, **attributes)

    def record(self, name: str, start: float, end: float, **attributes: SpanValue) -> None:
        """As the run's."""
        self._context.record(name, start, end, **attributes)
