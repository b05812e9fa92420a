"""What was said in each session, as AG-UI messages, for models that are given only the new message.

Law of this file: bounded twice, in bytes per session and in sessions (least recently used leaves);
whole turns leave, oldest first, so that no tool result ever stands without its call. A turn enters
when it ends, also when it was cancelled: the client saw that text.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Any, Final, TypeAlias

from laneway.actors.nlp.vocabulary import delta_of, fields_of
from laneway.actors.ports import Out
from laneway.routing.envelope import SEAL

__all__ = ["History", "Message", "Turn"]

Message: TypeAlias = dict[str, Any]

_SESSION_BYTES: Final = 65_536
"""About 16,000 tokens of English: more than a local model reads, less than a session's budget."""
_SESSIONS: Final = 1_024
_MESSAGE_OVERHEAD_BYTES: Final = 96
_SEALED: Final = bytes([SEAL])


class History:
    """The last turns of many sessions.

    Args:
        session_bytes: bound on one session's message contents in UTF-8 bytes; the newest turn is
            kept (its texts cut to this bound) even if it alone is larger.
        sessions: how many sessions are remembered.
    """

    def __init__(self, session_bytes: int = _SESSION_BYTES, sessions: int = _SESSIONS) -> None:
        self.session_bytes = session_bytes
        self._sessions_max = sessions
        self._turns: OrderedDict[tuple[str, str], deque[tuple[int, list[Message]]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._turns)

    def messages(self, tenant: str, session: str) -> list[Message]:
        """Return the session's messages, oldest first; O(messages)."""
        return [dict(message) for _, turn in self._turns.get((tenant, session), ()) for message in turn]

    def add(self, tenant: str, session: str, turn: list[Message]) -> None:
        """Remember one ended turn. O(1) amortised."""
        key = (tenant, session)
        turns = self._turns.setdefault(key, deque())
        self._turns.move_to_end(key)
        turns.append((sum(map(_weight, turn)), turn))
        while len(turns) > 1 and sum(weight for weight, _ in turns) > self.session_bytes:
            turns.popleft()
        if len(self._turns) > self._sessions_max:
            self._turns.popitem(last=False)


class Turn:
    """Folds the events of one run into messages.

    Args:
        opening: what the turn began with (the user's message).
        max_bytes: text and arguments beyond this many bytes are not remembered.
    """

    def __init__(self, opening: list[Message], max_bytes: int) -> None:
        self._messages: dict[str, Message] = {message["id"]: message for message in opening}
        self._texts: dict[str, list[str]] = {}
        self._calls: dict[str, dict[str, Any]] = {}
        self._room = max_bytes

    def fold(self, out: Out) -> None:
        """Take one event in; kinds without conversation are ignored. O(body)."""
        kind = out.kind
        if kind == "TEXT_MESSAGE_CONTENT":
            self._append(self._texts.get(out.entity), out)
        elif kind == "TEXT_MESSAGE_START":
            role = fields_of(out).get("role", "assistant")
            self._messages[out.entity] = {"id": out.entity, "role": role, "content": ""}
            self._texts[out.entity] = []
        elif kind == "TOOL_CALL_ARGS" and out.entity in self._calls:
            self._append(self._calls[out.entity]["arguments"], out)
        elif kind == "TOOL_CALL_START":
            fields = fields_of(out)
            self._call(out.entity, str(fields.get("toolCallName", "")), fields.get("parentMessageId"))
        elif kind == "TOOL_CALL_RESULT":
            fields = fields_of(out)
            self.result(str(fields.get("toolCallId", out.entity)), str(fields.get("content", "")))

    def call(self, call_id: str, name: str, arguments: str, content: str) -> None:
        """Take in a whole tool call that was made beside the model's stream, through the context."""
        self._call(call_id, name, None)
        self._keep(self._calls[call_id]["arguments"], arguments)
        self.result(call_id, content)

    def result(self, call_id: str, content: str) -> None:
        """Take in what a tool returned; results of unknown calls are ignored."""
        if call_id in self._calls:
            kept: list[str] = []
            self._keep(kept, content)
            name = f"result-{call_id}"
            self._messages[name] = {"id": name, "role": "tool", "toolCallId": call_id, "content": "".join(kept)}

    def messages(self) -> list[Message]:
        """Return the turn as messages; calls that got no result are left out, as no model accepts them."""
        for name, parts in self._texts.items():
            self._messages[name]["content"] = "".join(parts)
        answered = {str(message.get("toolCallId")) for message in self._messages.values()}
        turn = []
        for message in self._messages.values():
            calls = [_function(name, self._calls[name]) for name in message.get("_calls", ()) if name in answered]
            plain = {key: value for key, value in message.items() if key != "_calls"}
            if calls:
                plain["toolCalls"] = calls
            if calls or plain["content"]:
                turn.append(plain)
        return turn

    def _call(self, call_id: str, name: str, parent: str | None) -> None:
        holder = parent if parent in self._messages else f"call-{call_id}"
        message = self._messages.setdefault(holder, {"id": holder, "role": "assistant", "content": ""})
        message.setdefault("_calls", []).append(call_id)
        self._calls[call_id] = {"name": name, "arguments": []}

    def _append(self, parts: list[str] | None, out: Out) -> None:
        if parts is None:
            return
        size, room = len(out.body), self._room
        if 0 < room < size or out.body[:1] == _SEALED:
            self._keep(parts, delta_of(out))
            return
        text = out.body.decode()  # also if it is not kept: what is no text must not pass for some
        if room:
            parts.append(text)
            self._room = room - size

    def _keep(self, parts: list[str], text: str) -> None:
        size = len(text.encode("utf-8", "replace"))
        if size > self._room:
            text = text.encode("utf-8", "replace")[: self._room].decode("utf-8", "ignore")
        self._room = max(0, self._room - size)
        if text:
            parts.append(text)


def _function(call_id: str, call: dict[str, Any]) -> dict[str, Any]:
    function = {"name": call["name"], "arguments": "".join(call["arguments"])}
    return {"id": call_id, "type": "function", "function": function}


def _weight(message: Message) -> int:
    calls = sum(len(str(call)) for call in message.get("toolCalls", ()))
    return _MESSAGE_OVERHEAD_BYTES + len(str(message.get("content", "")).encode("utf-8", "replace")) + calls
