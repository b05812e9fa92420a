"""The tokens of W3: eight characters each, which say which one it is and when it was made.

Law of this file: every row takes its tokens from `tokens` and reads them with `Reading`, so that all
have the same pace, the same size and the same check. A token is its number as a letter and the time
in units of 10 us, seven digits: 100 s go by before a time comes again. The clock is the machine's
(CLOCK_MONOTONIC), so that a lag between two processes is one.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from laneway.actors.nlp import vocabulary
from laneway.actors.ports import Context, Out

__all__ = ["TOKEN_CHARS", "Reading", "TokenModel", "tokens"]

TOKEN_CHARS: Final = 8
_UNIT_PER_S: Final = 100_000
_UNITS: Final = 10_000_000


async def tokens(count: int, gap_s: float) -> AsyncIterator[str]:
    """Yield `count` tokens, the first after one gap; without a gap after one turn of the loop each."""
    begun = time.monotonic()
    for number in range(count):
        await asyncio.sleep(max(0.0, begun + (number + 1) * gap_s - time.monotonic()) if gap_s else 0)
        yield f"{chr(97 + number % 26)}{int(time.monotonic() * _UNIT_PER_S) % _UNITS:07d}"


class Reading:
    """What one stream received.

    Attributes:
        asked_s: when it was asked for. first_s: when its first token came. lags_s: of every token.
    """

    def __init__(self) -> None:
        self.asked_s = time.monotonic()
        self.first_s = 0.0
        self.lags_s: list[float] = []
        self._rest = ""

    def take(self, text: str) -> None:
        """Text came: whole tokens, or pieces of them. Raises ValueError if one is missing or repeated."""
        now = time.monotonic()
        text = self._rest + text
        whole = len(text) - len(text) % TOKEN_CHARS
        self._rest = text[whole:]
        for at in range(0, whole, TOKEN_CHARS):
            expected = chr(97 + len(self.lags_s) % 26)
            if text[at] != expected:
                raise ValueError(f"token {len(self.lags_s)} should begin with {expected}, but {text[at]} came")
            made = int(text[at + 1 : at + TOKEN_CHARS])
            self.lags_s.append((int(now * _UNIT_PER_S) - made) % _UNITS / _UNIT_PER_S)
            self.first_s = self.first_s or now


class TokenModel:
    """A laneway model whose answer to ``{"count": n, "gap_s": s}`` is those tokens."""

    async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        """Yield one message."""
        asked = json.loads(run["messages"][-1]["content"])
        message = f"{context.run}-text"
        yield vocabulary.text_start(message)
        async for token in tokens(asked["count"], asked["gap_s"]):
            yield vocabulary.text(message, token)
        yield vocabulary.text_end(message)
