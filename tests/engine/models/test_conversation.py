"""AG-UI messages as chat messages."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.actors.ports import ToolSpec
from laneway.engine.models.conversation import ToolNames, chat_messages, client_tools, cut_to
from laneway.routing.errors import PeerProtocolError

TIME = ToolSpec("clock.now", "time", {"type": "object"})
CALL = {"id": "c1", "type": "function", "function": {"name": "clock.now", "arguments": "{}"}}
MESSAGES: list[dict[str, Any]] = [
    {"id": "0", "role": "developer", "content": "be brief"},
    {"id": "1", "role": "user", "content": [{"type": "text", "text": "what"}, {"type": "text", "text": "time?"}]},
    {"id": "2", "role": "assistant", "toolCalls": [CALL, {**CALL, "id": "unanswered"}]},
    {"id": "3", "role": "tool", "toolCallId": "c1", "content": "noon"},
    {"id": "4", "role": "tool", "toolCallId": "orphan", "content": "x"},
    {"id": "5", "role": "reasoning", "content": "hm"},
]


def test_a_conversation_with_tools() -> None:
    """Names are made safe, unanswered calls and orphaned results are left out, context goes first."""
    run = {"messages": MESSAGES, "context": [{"description": "place", "value": "Rome"}]}
    call = {"id": "c1", "type": "function", "function": {"name": "clock_now", "arguments": "{}"}}
    assert chat_messages(run, ToolNames([TIME]), system="help") == [
        {"role": "system", "content": "help\nplace: Rome"},
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "what\ntime?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "noon"},
    ]


def test_flat_conversations_know_three_roles() -> None:
    """For small chat templates, calls and results are sentences."""
    chat = chat_messages({"messages": MESSAGES}, ToolNames([TIME]), flat=True)
    assert [message["role"] for message in chat] == ["system", "user", "assistant", "user"]
    assert chat[3]["content"] == "The tool returned: noon"


def test_images_pass_and_other_parts_are_refused() -> None:
    """What cannot be told is an error, never silently dropped."""
    data = {"type": "image", "source": {"type": "data", "value": "QQ==", "mimeType": "image/gif"}}
    chat = chat_messages({"messages": [{"role": "user", "content": [data]}]}, ToolNames([]))
    assert chat[0]["content"] == [{"type": "image_url", "image_url": {"url": "data:image/gif;base64,QQ=="}}]
    audio = {"type": "audio", "source": {"type": "data", "value": "QQ=="}}
    with pytest.raises(PeerProtocolError) as caught:
        chat_messages({"messages": [{"role": "user", "content": [audio]}]}, ToolNames([]))
    assert caught.value.reason == "UNSUPPORTED_CONTENT"


@given(st.lists(st.text(min_size=1, max_size=80), max_size=20))
def test_tool_names_are_safe_and_one_to_one(originals: list[str]) -> None:
    """Whatever a catalogue calls its tools, the endpoint gets distinct legal names that map back."""
    names = ToolNames(ToolSpec(name, "", {}) for name in originals)
    wires = [wire for wire, _ in names.items()]
    assert len(set(wires)) == len(set(originals))
    assert {names.original(wire) for wire in wires} == set(originals)
    assert all(len(wire) <= 64 and wire.replace("_", "a").replace("-", "a").isalnum() for wire in wires)
    assert all(names.original(names.wire(name)) == name for name in originals)


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.integers(0, 50)), max_size=30))
def test_cutting_keeps_system_and_whole_newest_turns(rows: list[tuple[str, int]]) -> None:
    """The newest turn always stays; what is kept is a suffix of the turns that fits."""
    chat = [{"role": role, "content": "x" * size} for role, size in rows]
    cut = cut_to(chat, 120)
    assert [m for m in cut if m["role"] == "system"] == [m for m in chat if m["role"] == "system"]
    spoken = [m for m in chat if m["role"] != "system"]
    kept = [m for m in cut if m["role"] != "system"]
    assert kept == spoken[len(spoken) - len(kept) :]
    assert bool(kept) == bool(spoken)
    assert cut_to(chat, 10**9) == [m for m in chat if m["role"] == "system"] + spoken


def test_client_tools_are_specs() -> None:
    """Tools in RunAgentInput become catalogue rows; parameters are optional in AG-UI 1.0."""
    specs = client_tools({"tools": [{"name": "ask", "description": "d"}]})
    assert specs == [ToolSpec("ask", "d", {"type": "object", "properties": {}})]
