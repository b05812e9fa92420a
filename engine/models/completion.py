"""One streamed chat completion, folded: which text is new, which tool calls were asked for; pure.

Law of this file: a completion is whole only if a `finish_reason` was seen; a stream that merely
ends is TRUNCATED, because a connection cut by a proxy looks exactly like an end. Tool calls come in
pieces by index; the first piece names id and function, later ones append arguments.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from laneway.routing.errors import ModelFailed

__all__ = ["AskedCall", "Completion"]

_MAX_CALLS: Final = 64
_MAX_ARGUMENT_CHARS: Final = 262_144


@dataclass(slots=True)
class AskedCall:
    """A tool call as the model asked for it; `name` is the endpoint's name of the tool."""

    id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)

    @property
    def arguments(self) -> str:
        """The arguments' JSON text, as written by the model."""
        return "".join(self.pieces)

    def parsed(self) -> dict[str, Any] | None:
        """Return the arguments, or None if they are not a JSON object."""
        try:
            value = json.loads(self.arguments or "{}")
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None


class Completion:
    """Folds `chat.completion.chunk` objects."""

    def __init__(self) -> None:
        self.finish_reason = ""
        self.usage: dict[str, Any] | None = None
        self._calls: dict[int, AskedCall] = {}
        self._chars = 0

    @property
    def calls(self) -> list[AskedCall]:
        """Tool calls in the order of their index."""
        return [self._calls[index] for index in sorted(self._calls)]

    def feed(self, data: str) -> tuple[str, str]:
        """Take the data of one event; returns (new reasoning, new text), either may be empty.

        Raises ModelFailed(MALFORMED, TOO_LARGE or UPSTREAM, the endpoint's own error).
        """
        try:
            chunk = json.loads(data)
            if not isinstance(chunk, dict):
                raise TypeError("not an object")
            if chunk.get("error"):
                raise _upstream(chunk["error"])
            if isinstance(chunk.get("usage"), dict):
                self.usage = _usage(chunk["usage"], chunk.get("model"))
            choices = chunk.get("choices") or []
            return self._choice(choices[0]) if choices else ("", "")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ModelFailed(
                f"the endpoint sent a chunk that is no chat completion ({error}): {data[:200]!r}", reason="MALFORMED"
            ) from error

    def check_whole(self) -> None:
        """Raise ModelFailed(TRUNCATED) unless the endpoint said that it had finished."""
        if not self.finish_reason:
            raise ModelFailed("the endpoint's stream ended before the answer was finished", reason="TRUNCATED")

    def _choice(self, choice: Mapping[str, Any]) -> tuple[str, str]:
        self.finish_reason = str(choice.get("finish_reason") or self.finish_reason)
        delta = choice.get("delta") or {}
        for piece in delta.get("tool_calls") or ():
            self._call(piece)
        reasoning = delta.get("reasoning_content") or delta.get("reasoning") or ""
        content = delta.get("content") or ""
        if not isinstance(reasoning, str) or not isinstance(content, str):
            raise TypeError("a delta that is not text")
        return reasoning, content

    def _call(self, piece: Mapping[str, Any]) -> None:
        index = int(piece.get("index", len(self._calls)))
        call = self._calls.setdefault(index, AskedCall())
        function = piece.get("function") or {}
        call.id = call.id or str(piece.get("id") or "")
        call.name = call.name or str(function.get("name") or "")
        text = str(function.get("arguments") or "")
        self._chars += len(text)
        if len(self._calls) > _MAX_CALLS or self._chars > _MAX_ARGUMENT_CHARS:
            raise ModelFailed("the model asks for more tool calls than one answer may hold", reason="TOO_LARGE")
        call.pieces.append(text)


def _upstream(error: object) -> ModelFailed:
    said = error.get("message") if isinstance(error, dict) else error
    return ModelFailed(f"the endpoint broke off: {str(said)[:500]}", reason="UPSTREAM")


def _usage(usage: Mapping[str, Any], model: object) -> dict[str, Any]:
    """OpenAI's usage as an AG-UI TokenUsage."""
    found = {
        "model": model if isinstance(model, str) and "/" not in model else None,
        "inputTokens": usage.get("prompt_tokens"),
        "outputTokens": usage.get("completion_tokens"),
        "totalTokens": usage.get("total_tokens"),
        "cachedInputTokens": (usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
        "reasoningTokens": (usage.get("completion_tokens_details") or {}).get("reasoning_tokens"),
    }
    return {key: value for key, value in found.items() if value is not None}
