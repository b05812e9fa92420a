"""Role "upstream": a model server that generates whether it is read or not, one long answer for each request.

Law of this file: what a client does not take waits in the server, as in a real one; the slot is in use
until the answer is generated or its reader is gone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from laneway.engine.models.scripted import Answer, ScriptedServer

__all__ = ["PIECE_CHARS", "serving", "told"]

PIECE_CHARS: Final = 100
"""Of one piece, its space included: twenty tokens at once, so that 10 MB take seconds and not minutes."""


def told(pieces: int) -> str:
    """Return the whole answer."""
    return " ".join(f"{number:07d}".ljust(PIECE_CHARS - 1, "x") for number in range(pieces))


@asynccontextmanager
async def serving(pieces: str) -> AsyncIterator[str]:
    """Serve on a free port; yields the base URL."""
    whole = told(int(pieces))

    def answer(request: Mapping[str, Any]) -> Answer:
        newest = request["messages"][-1]
        before = newest["content"] if newest["role"] == "assistant" else ""
        return Answer(whole.removeprefix(before), pushes=True)

    async with ScriptedServer(answer) as server:
        yield server.url
