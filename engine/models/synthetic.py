"""A labelled generator instead of a model: seeded, paced, and honest about it.

Law of this file: its text begins with "[SYNTHETIC]", so that nobody takes it for a model's. The
same seed, session and last message give the same text, so that an interrupted and resumed stream
can be compared with an undisturbed one. Tokens leave on an absolute schedule: a slow consumer does
not stretch the time of those after it.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from laneway.actors.nlp import vocabulary
from laneway.actors.ports import Context, Out
from laneway.engine.models.directive import call_directive, last_text

__all__ = ["LABEL", "SyntheticModel"]

LABEL: Final = "[SYNTHETIC]"

_WORDS: Final = (
    "lane event actor queue stream token credit window cursor epoch home link frame cell pool wait send keep"
    " order merge split count slow fast near far first last never always because while after before over"
)


class SyntheticModel:
    """Model without a model.

    A user message ``call NAME {json}`` makes it call that tool and speak of the result.

    Args:
        seed: another seed gives other text.
        tokens: (least, most) tokens of an answer, both at least 1.
        tokens_per_s: pace, in tokens a second; 0 = as fast as they are taken.
        first_token_s: seconds before the first token.
    """

    provider, name = "laneway", "synthetic"

    def __init__(
        self,
        seed: int = 0,
        *,
        tokens: tuple[int, int] = (40, 120),
        tokens_per_s: float = 50.0,
        first_token_s: float = 0.0,
    ) -> None:
        self._seed = seed
        self._tokens = tokens
        self._gap_s = 1.0 / tokens_per_s if tokens_per_s > 0 else 0.0
        self._first_s = first_token_s

    async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        """Yield one message, after one tool call if the user asked for one."""
        asked = last_text(run.get("messages") or [], "user")
        words = self.words(str(run.get("threadId", "")), asked)
        directive = call_directive(asked)
        if directive is not None:
            result = await context.call_tool(*directive)
            said = result.content if result.ok else json.dumps({"error": result.code})
            words = [LABEL, f" {directive[0]}", " returned", f" {said}"]
        message_id = f"{context.run}-text"
        starts = asyncio.get_running_loop().time() + self._first_s
        yield vocabulary.text_start(message_id)
        for number, word in enumerate(words):
            await _until(starts + number * self._gap_s)
            yield vocabulary.text(message_id, word)
        yield vocabulary.text_end(message_id)

    def words(self, session: str, asked: str) -> list[str]:
        """Return the tokens of the answer to `asked`: what `stream` will say. O(tokens)."""
        choice = random.Random(f"{self._seed}\0{session}\0{asked}")
        count = choice.randint(*self._tokens)
        words = _WORDS.split()
        return [LABEL, *(f" {choice.choice(words)}" for _ in range(count - 1))]


async def _until(when: float) -> None:
    """Sleep until the loop's clock shows `when`; yield to others at least once if it is past."""
    await asyncio.sleep(max(0.0, when - asyncio.get_running_loop().time()))
