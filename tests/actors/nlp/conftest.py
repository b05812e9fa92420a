"""A recording double of the Context port, for handlers tested without dispatcher or session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from laneway.actors.ports import Out, Principal, ToolResult, ToolSpec
from laneway.actors.spans import SILENT, Span, SpanValue
from laneway.routing.unread import Unread


class RecordingContext:
    """Keeps what is emitted; `gate` may hold an emit back (as missing credit does)."""

    def __init__(self, gate: Callable[[Out], Awaitable[None]] | None = None, deadline: float = float("inf")) -> None:
        self.outs: list[Out] = []
        self.principal = Principal("tester")
        self.tenant, self.session, self.run, self.trace = "acme", "s1", "r1", ""
        self.deadline = deadline
        self.cancelled = False
        self.unread: list[Unread] = []
        self.emitted = asyncio.Event()
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._gate = gate

    async def emit(self, out: Out) -> None:
        if self._gate is not None:
            await self._gate(out)
        self.outs.append(out)
        self.emitted.set()

    def when_unread(self, policy: Unread) -> None:
        self.unread.append(policy)

    async def call_tool(self, name: str, arguments: Mapping[str, Any], call_id: str = "") -> ToolResult:
        self.calls.append((name, dict(arguments)))
        return ToolResult(call_id or f"call-{len(self.calls)}", '{"ok": true}')

    def span(self, name: str, kind: str = "internal", **attributes: SpanValue) -> AbstractContextManager[Span]:
        return nullcontext(SILENT)

    def record(self, name: str, start: float, end: float, **attributes: SpanValue) -> None: ...

    def tools(self) -> Sequence[ToolSpec]:
        return ()

    @property
    def kinds(self) -> list[str]:
        return [out.kind for out in self.outs]


@pytest.fixture
def recording() -> type[RecordingContext]:
    return RecordingContext
