"""The demo's models, as functions that make them: a host in another process makes its own by their names.

Both answer one question themselves: whether anything is still being generated. So it can be asked wherever
the model runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from laneway import Context, Out
from laneway.engine.models.local_llm import ChildOptions, LocalLlm
from laneway.engine.models.openai import ChatOptions
from laneway.engine.models.synthetic import SyntheticModel

ARE_YOU_IDLE = "Is any of your slots still generating?"
IDLE = "idle"
_BUSY = "still generating"
_IDLE_WITHIN_S = 5.0
_SLOTS = 6
"""As many answers at once as the demo asks for, so that nobody's first word waits for another's last."""
_SHORT_ANSWERS = ChatOptions(
    tools="grammar", parameters={"max_tokens": 120, "temperature": 0.7, "seed": 1}, max_prompt_chars=4_000
)


class _Asked(LocalLlm):
    """A local model that says whether it is idle."""

    async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        """Answer that question from the server's slots, all others with the model."""
        if not _is_asked(run):
            async for out in super().stream(run, context):
                yield out
            return
        await self.open()
        try:
            await self.idle(_IDLE_WITHIN_S)
        except TimeoutError:
            answer = _message(_BUSY, context)
        else:
            answer = _message(IDLE, context)
        for out in answer:
            yield out


class _Synthetic(SyntheticModel):
    """A synthetic model has no slots that could be busy."""

    async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        """Answer as ever."""
        if _is_asked(run):
            for out in _message(IDLE, context):
                yield out
            return
        async for out in super().stream(run, context):
            yield out


def local_llm() -> LocalLlm:
    """A small real model with short answers."""
    return _Asked(ChildOptions(slots=_SLOTS), options=_SHORT_ANSWERS)


def synthetic() -> SyntheticModel:
    """A labelled generator at the pace of a model."""
    return _Synthetic(tokens=(60, 120), tokens_per_s=40)


def _is_asked(run: Mapping[str, Any]) -> bool:
    return bool(run["messages"][-1].get("content") == ARE_YOU_IDLE)


def _message(text: str, context: Context) -> Sequence[Out]:
    name = f"{context.run}-text"
    return [
        Out("TEXT_MESSAGE_START", entity=name),
        Out("TEXT_MESSAGE_CONTENT", text.encode(), name),
        Out("TEXT_MESSAGE_END", entity=name),
    ]
