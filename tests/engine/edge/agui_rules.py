"""What a stock AG-UI client demands of one response, written down independently of the engine.

The rules are those of verifyEvents (@ag-ui/client 1.0.0) and of its SSE parser; the models are the
protocol's own (`ag-ui-protocol`). Two rules are stricter than the clients: the run must end, and no
field may stand at the top that the protocol lacks.
"""

from __future__ import annotations

import json
from typing import Any

import ag_ui.core as agui
from pydantic import TypeAdapter

_EVENT: TypeAdapter[Any] = TypeAdapter(agui.Event)
_FAMILIES = {
    "TEXT_MESSAGE": ("messageId", "_START", ("_CONTENT",), "_END"),
    "TOOL_CALL": ("toolCallId", "_START", ("_ARGS",), "_END"),
    "REASONING_MESSAGE": ("messageId", "_START", ("_CONTENT",), "_END"),
    "REASONING": ("messageId", "_START", (), "_END"),
    "STEP": ("stepName", "_STARTED", (), "_FINISHED"),
    "SUBAGENT": ("subagentRunId", "_STARTED", (), "_FINISHED"),
}
_STEPS = {
    prefix + suffix: (prefix, field, role)
    for prefix, (field, start, middle, end) in _FAMILIES.items()
    for suffix, role in ((start, "start"), *((name, "middle") for name in middle), (end, "end"))
}


def parsed(stream: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Return (id, event) of each event of a response body; comments are skipped."""
    text = stream.decode()
    assert "\r" not in text, "CRLF framing delivers nothing to the stock client"
    *blocks, rest = text.split("\n\n")
    assert rest == "", f"the stream ends inside an event: {rest[:80]!r}"
    found = []
    for block in blocks:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if fields:
            assert set(fields) <= {"id", "data"}, fields
            found.append((fields.get("id", ""), json.loads(fields["data"])))
    return found


def check_run(events: list[dict[str, Any]], *, whole: bool = True) -> None:
    """Assert that the events are one run as the stock clients take it. `whole`: it has its end."""
    opened: set[tuple[str, str]] = set()
    for number, event in enumerate(events):
        kind = event["type"]
        _check_form(event)
        assert (kind == "RUN_STARTED") == (number == 0) or kind == "RUN_ERROR", f"{kind} at {number}"
        if kind in ("RUN_FINISHED", "RUN_ERROR"):
            assert number == len(events) - 1, f"{kind} is not the last"
            assert kind == "RUN_ERROR" or not opened, f"still open at the end: {opened}"
        if (step := _STEPS.get(kind)) is not None:
            _take(opened, kind, *step, event)
    assert not whole or events[-1]["type"] in ("RUN_FINISHED", "RUN_ERROR")


def _take(opened: set[tuple[str, str]], kind: str, family: str, field: str, role: str, event: dict[str, Any]) -> None:
    key = (family, event[field])
    assert (key in opened) == (role != "start"), f"{kind} of {key}, open: {opened}"
    if role == "start":
        opened.add(key)
    elif role == "end":
        opened.remove(key)


def _check_form(event: dict[str, Any]) -> None:
    """It is the protocol's, with nothing of ours at the top and no null for what is absent."""
    model = type(_EVENT.validate_python(event))
    known = {field.alias or name for name, field in model.model_fields.items()}
    assert set(event) <= known, f"{event['type']} has unknown fields {set(event) - known}"
    required = {field.alias or name for name, field in model.model_fields.items() if field.is_required()}
    assert all(value is not None for name, value in event.items() if name not in required), event
    assert "rawEvent" not in event
    assert event["type"] != "RAW"
