"""What was said in a session, folded from its events: the snapshot for who cannot replay.

Law of this file: pure folding, bounded in bytes; the oldest messages leave first. It is what a
client gets after RESUME_FAILED, and what a model is given as history.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

import msgpack

from laneway.routing.envelope import BODY, ENTITY, KIND, SEAL, Envelope, envelope_id

__all__ = ["CUT", "FOLDED", "Transcript"]

_MAX_BYTES: Final = 262_144
_MESSAGE_OVERHEAD_BYTES: Final = 96
_PIECES: Final = 512
"""Of a message that goes on; joined beyond."""
FOLDED: Final = frozenset(
    [
        "TEXT_MESSAGE_CONTENT",
        "TOOL_CALL_ARGS",
        "USER_MESSAGE",
        "TEXT_MESSAGE_START",
        "TOOL_CALL_START",
        "TOOL_CALL_RESULT",
        "RUN_STARTED",
        "MESSAGES_SNAPSHOT",
    ]
)
"""Kinds that a transcript is made of."""
CUT: Final = " [cut: too long for the transcript]"
"""The end of a message that is not here whole."""


@dataclass(slots=True)
class _Call:
    name: str
    arguments: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Message:
    """A message under construction: pieces, joined only when somebody asks."""

    fields: dict[str, Any]
    pieces: list[str] = field(default_factory=list)
    calls: dict[str, _Call] = field(default_factory=dict)
    size_bytes: int = _MESSAGE_OVERHEAD_BYTES
    cut: bool = False

    def add(self, text: str) -> None:
        """Go on; a piece weighs 57 bytes beside its text, so many become one. O(1) amortised."""
        self.pieces.append(text)
        if len(self.pieces) > _PIECES:
            self.join()

    def join(self) -> None:
        """Make one piece of all."""
        if len(self.pieces) > 1:
            self.pieces[:] = ["".join(self.pieces)]

    def build(self) -> dict[str, Any]:
        """Return the AG-UI message."""
        message = dict(self.fields)
        if "content" not in message:
            message["content"] = "".join(self.pieces)
        if self.cut and isinstance(message["content"], str):
            message["content"] += CUT
        if self.calls:
            message["toolCalls"] = [
                {"id": key, "type": "function", "function": {"name": call.name, "arguments": "".join(call.arguments)}}
                for key, call in self.calls.items()
            ]
        return message


class Transcript:
    """AG-UI messages of one session, in order of appearance.

    Args:
        max_bytes: bound on the messages' content plus 96 bytes each. The newest always stays; a
            message that alone is larger is cut, and says so.
    """

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._messages: OrderedDict[str, _Message] = OrderedDict()
        self._call_owner: dict[str, _Message] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._messages)

    def messages(self) -> list[dict[str, Any]]:
        """Return AG-UI messages (camelCase dicts), oldest first. O(content)."""
        return [message.build() for message in self._messages.values()]

    def fold(self, env: Envelope) -> None:
        """Take one event in, inbound or outbound; kinds without text are ignored. O(1) amortised."""
        kind = env[KIND]
        if kind not in FOLDED:
            return
        if kind == "TEXT_MESSAGE_CONTENT":
            self._text(env)
        elif kind == "TOOL_CALL_ARGS":
            self._call_arguments(env)
        elif kind == "USER_MESSAGE":
            text = env[BODY].decode("utf-8", "replace")
            self._add(_Message({"id": env[ENTITY] or envelope_id(env), "role": "user"}, [text]), len(env[BODY]))
        elif kind == "TEXT_MESSAGE_START":
            self._add(_Message({"id": env[ENTITY], "role": _unpacked(env).get("role", "assistant")}), 0)
        elif kind == "TOOL_CALL_START":
            self._call(env)
        elif kind == "TOOL_CALL_RESULT":
            self._result(env)
        elif kind == "RUN_STARTED":
            self._asked(env)
        elif kind == "MESSAGES_SNAPSHOT":
            self._snapshot(env)

    def _asked(self, env: Envelope) -> None:
        """Take over what a run was asked, unless it is known from the event that asked."""
        for message in (_unpacked(env).get("input") or {}).get("messages", []):
            if "id" in message:
                self._add(_Message(dict(message)), len(str(message.get("content", ""))))

    def _text(self, env: Envelope) -> None:
        message = self._messages.get(env[ENTITY])
        if message is not None and self._fits(message, env):
            message.add(_delta(env))
            self._grow(message, len(env[BODY]))

    def _call(self, env: Envelope) -> None:
        body = _unpacked(env)
        parent = str(body.get("parentMessageId") or f"call-{env[ENTITY]}")
        if parent not in self._messages:
            self._add(_Message({"id": parent, "role": "assistant"}), 0)
        owner = self._call_owner[env[ENTITY]] = self._messages[parent]
        owner.calls[env[ENTITY]] = _Call(str(body.get("toolCallName", "")))
        self._grow(owner, _MESSAGE_OVERHEAD_BYTES)

    def _call_arguments(self, env: Envelope) -> None:
        owner = self._call_owner.get(env[ENTITY])
        if owner is not None and self._fits(owner, env):
            owner.calls[env[ENTITY]].arguments.append(_delta(env))
            self._grow(owner, len(env[BODY]))

    def _result(self, env: Envelope) -> None:
        body = _unpacked(env)
        fields = {
            "id": str(body.get("messageId") or f"result-{env[ENTITY]}"),
            "role": "tool",
            "toolCallId": env[ENTITY],
            "content": body.get("content", ""),
        }
        self._add(_Message(fields), len(env[BODY]))

    def clear(self) -> None:
        """Forget everything."""
        self._messages.clear()
        self._call_owner.clear()
        self.bytes = 0

    def _snapshot(self, env: Envelope) -> None:
        self.clear()
        for message in _unpacked(env).get("messages", []):
            self._add(_Message(dict(message)), len(str(message.get("content", ""))))

    def _fits(self, message: _Message, env: Envelope) -> bool:
        """True unless this delta would make one message larger than the whole transcript may be."""
        message.cut = message.cut or message.size_bytes + len(env[BODY]) > self._max_bytes
        return not message.cut

    def _add(self, message: _Message, size: int) -> None:
        size = self._shorten(message, size)
        key = message.fields["id"]
        if key not in self._messages:
            if self._messages:
                next(reversed(self._messages.values())).join()  # it hardly goes on
            self._messages[key] = message
            message.size_bytes += size
            self.bytes += message.size_bytes
            self._trim()

    def _shorten(self, message: _Message, size: int) -> int:
        """Cut a message that comes whole and is too large; returns its size then."""
        if size + _MESSAGE_OVERHEAD_BYTES <= self._max_bytes:
            return size
        kept = self._max_bytes // 4  # characters; at most 4 bytes each
        message.cut = True
        message.pieces = ["".join(message.pieces)[:kept]]
        if "content" in message.fields:
            message.fields["content"] = str(message.fields["content"])[:kept]
        return self._max_bytes - _MESSAGE_OVERHEAD_BYTES

    def _grow(self, message: _Message, size: int) -> None:
        message.size_bytes += size
        self.bytes += size
        self._trim()

    def _trim(self) -> None:
        while self.bytes > self._max_bytes and len(self._messages) > 1:
            _, gone = self._messages.popitem(last=False)
            self.bytes -= gone.size_bytes
            for call in gone.calls:
                self._call_owner.pop(call, None)


def _unpacked(env: Envelope) -> dict[str, Any]:
    """Unpack a body that the engine itself packed."""
    body = msgpack.unpackb(env[BODY]) if env[BODY] else {}
    return body if isinstance(body, dict) else {}


def _delta(env: Envelope) -> str:
    body = env[BODY]
    if body and body[0] == SEAL:
        return str(msgpack.unpackb(body[1:]).get("delta", ""))
    return body.decode("utf-8", "replace")
