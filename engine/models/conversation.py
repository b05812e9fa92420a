"""AG-UI messages -> the `messages` and `tools` of an OpenAI-compatible request; pure.

Law of this file: nothing said is dropped silently: what a chat endpoint cannot be told is refused
(UNSUPPORTED_CONTENT), except activity and reasoning messages, which AG-UI means for people. Tool
results without their call, and calls without a result, are left out, since endpoints refuse both.

`flat` writes tool calls and results as plain sentences, for models whose chat template knows only
system, user and assistant.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from laneway.actors.ports import ToolSpec
from laneway.routing.errors import PeerProtocolError

__all__ = ["ChatMessage", "ToolNames", "chat_messages", "client_tools", "cut_to"]

ChatMessage: TypeAlias = dict[str, Any]

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]")


class ToolNames:
    """Catalogue names <-> names an endpoint accepts (`[A-Za-z0-9_-]{1,64}`), one to one.

    Args:
        specs: the tools of one request; of two equal names the first is taken.
    """

    def __init__(self, specs: Iterable[ToolSpec]) -> None:
        self._specs: dict[str, ToolSpec] = {}
        known = set()
        for spec in specs:
            if spec.name not in known:
                known.add(spec.name)
                self._specs[self._free(_UNSAFE.sub("_", spec.name)[:64])] = spec

    def __len__(self) -> int:
        return len(self._specs)

    def _free(self, name: str) -> str:
        number, free = 2, name
        while free in self._specs:
            free = f"{name[:60]}_{number}"
            number += 1
        return free

    def original(self, wire_name: str) -> str:
        """Return the catalogue's name; an unknown one comes back unchanged."""
        spec = self._specs.get(wire_name)
        return spec.name if spec is not None else wire_name

    def wire(self, name: str) -> str:
        """Return the endpoint's name of a catalogue tool, or a safe form of any other."""
        return next((wire for wire, spec in self._specs.items() if spec.name == name), _UNSAFE.sub("_", name)[:64])

    def items(self) -> Iterable[tuple[str, ToolSpec]]:
        """Yield (endpoint's name, catalogue row)."""
        return self._specs.items()

    def functions(self) -> list[dict[str, Any]]:
        """Return the request's `tools`."""
        return [
            {
                "type": "function",
                "function": {"name": wire, "description": spec.description, "parameters": dict(spec.schema)},
            }
            for wire, spec in self._specs.items()
        ]


def client_tools(run: Mapping[str, Any]) -> list[ToolSpec]:
    """Return the tools that the client brought (RunAgentInput.tools) and executes itself."""
    specs = []
    for tool in run.get("tools") or ():
        schema = tool.get("parameters") or {"type": "object", "properties": {}}
        specs.append(ToolSpec(str(tool["name"]), str(tool.get("description", "")), schema))
    return specs


def chat_messages(
    run: Mapping[str, Any], names: ToolNames, *, system: str = "", flat: bool = False
) -> list[ChatMessage]:
    """Translate one RunAgentInput. Raises PeerProtocolError(UNSUPPORTED_CONTENT). O(messages)."""
    messages = list(run.get("messages") or ())
    answered = {str(m.get("toolCallId")) for m in messages if m.get("role") == "tool"}
    asked: set[str] = set()
    chat: list[ChatMessage] = []
    preface = [system] if system else []
    preface += [f"{item.get('description', '')}: {item.get('value', '')}" for item in run.get("context") or ()]
    if preface:
        chat.append({"role": "system", "content": "\n".join(preface)})
    for message in messages:
        role = message.get("role")
        if role in ("system", "developer"):
            chat.append({"role": "system", "content": _text(message)})
        elif role == "user":
            chat.append({"role": "user", "content": _content(message)})
        elif role == "assistant":
            chat += _assistant(message, answered, asked, names, flat=flat)
        elif role == "tool" and str(message.get("toolCallId")) in asked:
            chat.append(_result(message, flat=flat))
    return chat


def cut_to(chat: Sequence[ChatMessage], max_chars: int) -> list[ChatMessage]:
    """Leave out the oldest turns until the rest fits: system messages and the last user turn stay.

    A turn begins with a user message, so no tool result loses its call. O(messages).
    """
    system = [message for message in chat if message["role"] == "system"]
    turns: list[list[ChatMessage]] = []
    for message in chat:
        if message["role"] == "user" or (not turns and message["role"] != "system"):
            turns.append([])
        if message["role"] != "system":
            turns[-1].append(message)
    room = max_chars - sum(map(_chars, system))
    kept: list[list[ChatMessage]] = []
    for turn in reversed(turns):
        room -= sum(map(_chars, turn))
        if kept and room < 0:
            break
        kept.append(turn)
    return system + [message for turn in reversed(kept) for message in turn]


def _assistant(
    message: Mapping[str, Any], answered: set[str], asked: set[str], names: ToolNames, *, flat: bool
) -> list[ChatMessage]:
    text = _text(message)
    calls = [call for call in message.get("toolCalls") or () if str(call.get("id")) in answered]
    asked.update(str(call["id"]) for call in calls)
    if flat:
        said = [text] if text else []
        said += [f"(used {call['function']['name']} with {call['function']['arguments']})" for call in calls]
        return [{"role": "assistant", "content": "\n".join(said)}] if said else []
    if not text and not calls:
        return []
    chat: ChatMessage = {"role": "assistant", "content": text or None}
    if calls:
        chat["tool_calls"] = [
            {
                "id": str(call["id"]),
                "type": "function",
                "function": {
                    "name": names.wire(str(call["function"]["name"])),
                    "arguments": str(call["function"].get("arguments") or "{}"),
                },
            }
            for call in calls
        ]
    return [chat]


def _result(message: Mapping[str, Any], *, flat: bool) -> ChatMessage:
    text = str(message.get("error") or "") or _text(message)
    if flat:
        return {"role": "user", "content": f"The tool returned: {text}"}
    return {"role": "tool", "tool_call_id": str(message.get("toolCallId")), "content": text}


def _text(message: Mapping[str, Any]) -> str:
    content = _content(message)
    if isinstance(content, str):
        return content
    raise _unsupported(f"a {message.get('role')} message may only hold text")


def _content(message: Mapping[str, Any]) -> str | list[dict[str, Any]]:
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise _unsupported(f"content of type {type(content).__name__}")
    parts = [_part(part) for part in content]
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    kind, source = part.get("type"), part.get("source") or {}
    if kind == "text":
        return {"type": "text", "text": str(part.get("text", ""))}
    if kind == "image" and source.get("type") == "url":
        return {"type": "image_url", "image_url": {"url": str(source.get("value"))}}
    if kind == "image" and source.get("type") == "data":
        url = f"data:{source.get('mimeType', 'image/png')};base64,{source.get('value')}"
        return {"type": "image_url", "image_url": {"url": url}}
    raise _unsupported(f"a content part {json.dumps(kind)}")


def _unsupported(what: str) -> PeerProtocolError:
    return PeerProtocolError(f"this model cannot be given {what}; send text or images", reason="UNSUPPORTED_CONTENT")


def _chars(message: ChatMessage) -> int:
    content = message.get("content") or ""
    size = len(content) if isinstance(content, str) else sum(len(part.get("text", "")) for part in content)
    return size + len(json.dumps(message.get("tool_calls", "")))
