"""An embedder's module: handlers, tools, a model and an agent under importable names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from laneway import Context, EnvelopeView, Out
from laneway.actors.ports import ToolSpec
from laneway.engine.models.synthetic import SyntheticModel
from laneway.engine.tooling.functions import tool


async def echo(event: EnvelopeView, context: Context) -> Out:
    """Say it back."""
    return Out("CUSTOM", event.body)


async def echo_all(events: Sequence[EnvelopeView], contexts: Sequence[Context]) -> list[Out]:
    """Say them back."""
    return [Out("CUSTOM", event.body) for event in events]


def blocking(event: EnvelopeView, context: Context) -> None:
    """No handler: it is not async."""


async def price(article: str) -> int:
    """What an article costs."""
    return len(article)


@tool(timeout_s=7, scopes=frozenset({"tool:stock"}))
async def stock(article: str) -> int:
    """How many there are."""
    return 3


class Ledger:
    """A tool that is an object."""

    spec = ToolSpec("ledger", "What was sold.", {"type": "object"})

    async def invoke(self, arguments: Any, context: Context) -> str:
        return "[]"


ledger = Ledger()
model = SyntheticModel(tokens_per_s=0)
SHELF = ("apples", "pears")


def make_model() -> SyntheticModel:
    """A new model each time."""
    return SyntheticModel(tokens_per_s=0)


class Clerk(SyntheticModel):
    """A model class that needs no arguments."""


class Stranger:
    """A class that is no model."""


def failing() -> SyntheticModel:
    """A factory that fails."""
    raise RuntimeError("out of stock")


async def agent(run: Any) -> AsyncIterator[dict[str, Any]]:
    """An AG-UI agent."""
    yield {"type": "RUN_FINISHED", "threadId": run.thread_id, "runId": run.run_id}
