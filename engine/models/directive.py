"""The sentence by which a person makes a test model call a tool: ``call NAME {json}``; pure.

Law of this file: only the labelled test models (`scripted`, `synthetic`) obey it; it exists so that
a demo or an assertion decides exactly which call is made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["call_directive", "last_text"]


def call_directive(text: str) -> tuple[str, dict[str, Any]] | None:
    """Return (tool, arguments) if the text is ``call NAME`` with an optional JSON object, else None."""
    word, _, rest = text.strip().partition(" ")
    name, _, arguments = rest.strip().partition(" ")
    if word.lower() != "call" or not name:
        return None
    try:
        value = json.loads(arguments) if arguments.strip() else {}
    except (ValueError, RecursionError):
        return None
    return (name, value) if isinstance(value, dict) else None


def last_text(messages: Sequence[Mapping[str, Any]], role: str) -> str:
    """Return the plain text of the last message of that role, or an empty string. O(messages)."""
    for message in reversed(messages):
        if message.get("role") == role:
            content = message.get("content")
            if isinstance(content, str):
                return content
            parts = content if isinstance(content, list) else []
            return "\n".join(str(part.get("text", "")) for part in parts if part.get("type") == "text")
    return ""
