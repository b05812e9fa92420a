"""A run's context with a small catalogue of Python tools, for models tested without an engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from laneway.actors.ports import Out, Principal, ToolResult, ToolSpec
from laneway.actors.spans import SILENT, Span, SpanValue
from laneway.routing.unread import Unread


class CallingContext:
    """Calls tools at once and keeps what was called."""

    def __init__(self, tools: Mapping[str, Callable[..., Any]] | None = None, **properties: str) -> None:
        self.principal = Principal("tester")
        self.tenant, self.session, self.run, self.trace = "acme", "s1", "r1", ""
        self.deadline = float("inf")
        self.cancelled = False
        self.unread: list[Unread] = []
        self.outs: list[Out] = []
        self.calls: list[tuple[str, dict[str, Any], str]] = []
        self._tools = dict(tools or {})
        self._properties = {name: {"type": kind} for name, kind in properties.items()}

    async def emit(self, out: Out) -> None:
        self.outs.append(out)

    def when_unread(self, policy: Unread) -> None:
        self.unread.append(policy)

    async def call_tool(self, name: str, arguments: Mapping[str, Any], call_id: str = "") -> ToolResult:
        self.calls.append((name, dict(arguments), call_id))
        if name not in self._tools:
            return ToolResult(call_id, f"no tool {name}", "TOOL_UNKNOWN")
        return ToolResult(call_id or "c", json.dumps(self._tools[name](**arguments)))

    def span(self, name: str, kind: str = "internal", **attributes: SpanValue) -> AbstractContextManager[Span]:
        return nullcontext(SILENT)

    def record(self, name: str, start: float, end: float, **attributes: SpanValue) -> None: ...

    def tools(self) -> Sequence[ToolSpec]:
        schema = {
            "type": "object",
            "properties": self._properties,
            "required": list(self._properties),
        }
        return [ToolSpec(name, f"gives the {name}", schema) for name in self._tools]


@pytest.fixture
def calling() -> type[CallingContext]:
    return CallingContext


def run_input(text: str, **more: Any) -> dict[str, Any]:
    message = {"id": "u1", "role": "user", "content": text}
    return {"threadId": "s1", "runId": "r1", "messages": [message], **more}


@pytest.fixture
def asking() -> Callable[..., dict[str, Any]]:
    return run_input
