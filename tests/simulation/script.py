"""What the simulated model says in a run: a pure function of the run id, so that anybody can check it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from laneway.actors.nlp.vocabulary import mark, text, text_end, text_start
from laneway.actors.ports import Context, Out
from tests.simulation.faults import Faults

__all__ = ["ScriptedModel", "Step", "script"]

_WORDS: Final = (
    "the", "river", "bends", "slowly,", "and", "so", "it", "goes.", "Grüße", "naïve", "東京", "日本語", "मनीष",
    "👩‍👩‍👧‍👦", "🇩🇪🇫🇷", "e\u0301te\u0301", "a", "I", "end.", "tool", "\n",
)  # fmt: skip


class Step(NamedTuple):
    """One thing the model does: emits an event, calls a tool, or fails."""

    out: Out | None = None
    tool: str = ""
    fail: bool = False


@lru_cache(maxsize=512)
def script(run: str) -> tuple[Step, ...]:
    """Return what the model does in this run, in order."""
    return tuple(_steps(run, random.Random(f"script:{run}")))


def _steps(run: str, dice: random.Random) -> Iterator[Step]:
    big = dice.random() < 0.03
    for number in range(dice.randint(1, 2)):
        entity = f"{run}-m{number}"
        yield Step(text_start(entity))
        for _ in range(dice.randint(1, 12)):
            words = dice.choices(_WORDS, k=400 if big else dice.randint(1, 3))
            yield Step(text(entity, " ".join(words) + " "))
            if dice.random() < 0.1:
                yield Step(mark("PROGRESS", {"of": run, "n": dice.randint(0, 99), "pad": "x" * dice.randint(0, 300)}))
        if dice.random() < 0.08:
            yield Step(fail=True)
            return
        yield Step(text_end(entity))
        if dice.random() < 0.25:
            yield Step(tool=f"{run}-t{number}")
        if dice.random() < 0.3:
            yield Step(mark("CUSTOM", {"name": "checkpoint", "value": number}))


class ScriptedModel:
    """A Model that plays `script(run)` at a seeded pace."""

    def __init__(self, faults: Faults, tool_answered: Callable[[str], None]) -> None:
        self._faults = faults
        self._tool_answered = tool_answered

    async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        """Play the run."""
        for step in script(str(run["runId"])):
            await self._faults.pause(0.0, 0.04)
            if step.out is not None:
                yield step.out
            elif step.tool:
                result = await context.call_tool("weather", {"of": step.tool}, step.tool)
                self._tool_answered("ok" if result.ok else result.code)
            else:
                raise RuntimeError("the model broke off (scripted)")
