"""`laneway serve --setup tests.e2e.agui_stage:set_up`: a model that does what the AG-UI tests ask for.

It obeys the last user message: ``say N`` (N words), ``call`` (a tool of the server), ``think``, ``state``,
``wait`` (until it is cancelled), ``fail``, ``props`` (what was forwarded), ``runs`` (how many there were).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from laneway import Engine
from laneway.actors.nlp import vocabulary
from laneway.actors.ports import Context, Out
from laneway.engine.models.directive import last_text
from laneway.routing.errors import ModelFailed

_WORD_S = 0.002


class Obedient:
    """The model. Attributes: runs: how many it was given, by their message."""

    def __init__(self) -> None:
        self.runs: dict[str, int] = {}

    async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        asked = last_text(run["messages"], "user")
        word, _, rest = asked.partition(" ")
        if word == "runs":
            async for out in _said(context, json.dumps(self.runs)):
                yield out
            return
        self.runs[asked] = self.runs.get(asked, 0) + 1
        async for out in _acted(word, rest, run, context):
            yield out


async def _acted(word: str, rest: str, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
    if word == "fail":
        raise ModelFailed("it was told to fail")
    if word == "think":
        for out in (*vocabulary.reasoning_start("thought"), vocabulary.reasoning("thought", "hm")):
            yield out
        for out in vocabulary.reasoning_end("thought"):
            yield out
    if word == "state":
        yield vocabulary.mark("STATE_SNAPSHOT", {"snapshot": {"count": 1}})
        yield vocabulary.mark("STATE_DELTA", {"delta": [{"op": "replace", "path": "/count", "value": 2}]})
    said = {"say": "", "call": "", "props": json.dumps(run.get("forwardedProps"))}.get(word, "done")
    if word == "call":
        said = (await context.call_tool("add", {"a": 2, "b": 3})).content
    async for out in _said(context, said, int(rest) if word == "say" else 0, waits=word == "wait"):
        yield out


async def _said(context: Context, text: str, words: int = 0, *, waits: bool = False) -> AsyncIterator[Out]:
    message = f"{context.run}-answer"
    yield vocabulary.text_start(message)
    if text:
        yield vocabulary.text(message, text)
    for number in range(words):
        yield vocabulary.text(message, f"word{number} ")
        await asyncio.sleep(_WORD_S)
    if waits:
        await asyncio.Event().wait()
    yield vocabulary.text_end(message)


def set_up(engine: Engine) -> None:
    """Give the engine the model and its tool."""

    @engine.tools.add(effects=False, idempotent=True)
    async def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    engine.nlp.use(Obedient())
