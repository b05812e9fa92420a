"""Chunk events spelled out."""

from __future__ import annotations

import pytest

from laneway.actors.nlp import vocabulary as v
from laneway.actors.nlp.chunks import ChunkExpander
from laneway.actors.nlp.sequence import RunSequence
from laneway.actors.ports import Out
from laneway.routing.errors import ModelFailed


def _text(delta: str, name: str | None = None) -> Out:
    return v.mark("TEXT_MESSAGE_CHUNK", {"messageId": name, "delta": delta}, name or "")


def _run(*outs: Out) -> list[Out]:
    expander, sequence = ChunkExpander(), RunSequence()
    events = [event for out in outs for event in expander.expand(out)]
    for event in events:
        sequence.offer(event)
    return events


def test_chunks_become_start_deltas_and_end() -> None:
    """The first chunk opens, later ones continue without naming it, another event ends it."""
    tool = v.mark("TOOL_CALL_CHUNK", {"toolCallId": "c", "toolCallName": "t", "delta": "{}"}, "c")
    events = _run(_text("a", "m"), _text("b"), tool, v.mark("STATE_SNAPSHOT", {"snapshot": {}}))
    assert [event.kind for event in events] == [
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "TOOL_CALL_START",
        "TOOL_CALL_ARGS",
        "TOOL_CALL_END",
        "STATE_SNAPSHOT",
    ]


def test_a_new_id_is_a_new_message_and_raw_passes_beside() -> None:
    """RAW does not end a message; another id does."""
    events = _run(_text("a", "m"), v.mark("RAW", {"event": 1}), _text("b"), _text("c", "n"))
    assert [event.entity for event in events] == ["m", "m", "", "m", "m", "n", "n"]


def test_reasoning_chunks() -> None:
    """Reasoning has the same shorthand."""
    chunk = v.mark("REASONING_MESSAGE_CHUNK", {"messageId": "r", "delta": "hm"}, "r")
    assert [event.kind for event in _run(chunk)] == ["REASONING_MESSAGE_START", "REASONING_MESSAGE_CONTENT"]


@pytest.mark.parametrize("out", [_text("a"), v.mark("TOOL_CALL_CHUNK", {"toolCallId": "c", "delta": "x"}, "c")])
def test_a_chunk_of_nothing_is_refused(out: Out) -> None:
    """The first chunk must name its message, a tool's also its tool."""
    with pytest.raises(ModelFailed, match="first"):
        ChunkExpander().expand(out)
