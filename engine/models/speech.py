"""What a model says, as AG-UI messages: reasoning before text, each opened once and closed in order; pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from laneway.actors.nlp import vocabulary
from laneway.actors.ports import Out

__all__ = ["Speech"]

_KEPT_CHARS: Final = 262_144
"""Of the text, for a follow-up request: 65,000 tokens; an answer that never ends must not be held in memory."""


class Speech:
    """One answer being spoken.

    Args:
        ids: gives a new message id at each call.
    """

    def __init__(self, ids: Callable[[], str]) -> None:
        self._ids = ids
        self._thought = ""
        self._message = ""
        self._said: list[str] = []
        self._room = _KEPT_CHARS

    @property
    def text(self) -> str:
        """The text said so far, without reasoning: the first 262,144 characters of it. O(text)."""
        return "".join(self._said)

    @property
    def message_id(self) -> str | None:
        """Id of the text message, or None if nothing was said."""
        return self._message or None

    def say(self, reasoning: str, text: str) -> list[Out]:
        """Return the events for what is new; text ends a thought, and a later thought is a new one."""
        outs: list[Out] = []
        if reasoning:
            if not self._thought:
                self._thought = self._ids()
                outs += vocabulary.reasoning_start(self._thought)
            outs.append(vocabulary.reasoning(self._thought, reasoning))
        if text:
            outs += self._end_thought()
            if not self._message:
                self._message = self._ids()
                outs.append(vocabulary.text_start(self._message))
            if self._room:
                self._said.append(text[: self._room])
                self._room -= len(self._said[-1])
            outs.append(vocabulary.text(self._message, text))
        return outs

    def end(self) -> list[Out]:
        """Return the events that end what is open."""
        outs = self._end_thought()
        if self._message:
            outs.append(vocabulary.text_end(self._message))
        return outs

    def _end_thought(self) -> list[Out]:
        thought, self._thought = self._thought, ""
        return vocabulary.reasoning_end(thought) if thought else []
