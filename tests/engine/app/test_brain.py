"""The model slot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from laneway.engine.app.brain import Brain
from laneway.engine.models.synthetic import SyntheticModel
from laneway.routing.errors import ConfigError
from laneway.routing.shedding import Shedding
from tests.engine.app import shop


class Opened(SyntheticModel):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    async def open(self) -> None:
        self.calls.append("open")

    async def close(self) -> None:
        self.calls.append("close")


def test_any_callable_of_agui_events_is_a_model() -> None:
    """A function that yields AG-UI events is wrapped; a Model is taken as it is."""

    async def agent(run: Any) -> AsyncIterator[dict[str, Any]]:
        yield {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}

    brain = Brain()
    assert hasattr(brain.use(agent), "stream")
    model = SyntheticModel()
    assert brain.use(model) is model
    assert brain.model is model


def test_what_is_no_model_is_refused() -> None:
    """The message says what a model needs."""
    for thing in (7, shop.Stranger):
        with pytest.raises(ConfigError, match="stream"):
            Brain().use(thing)


def test_a_model_has_the_name_by_which_another_process_makes_it() -> None:
    """What it was given by, or its import path; none for a closure, empty without a model."""

    async def closure(run: Any) -> AsyncIterator[dict[str, Any]]:
        yield {}

    brain, told = Brain(), []
    brain.on_change = lambda: told.append(brain.path)
    assert brain.path == ""
    path = f"{shop.__name__}:make_model"
    for given in ("scripted", path, shop.model, shop.agent, closure, SyntheticModel()):
        brain.use(given)
    assert told == ["scripted", path, f"{shop.__name__}:model", f"{shop.__name__}:agent", None, None]


def test_open_and_close_reach_the_model() -> None:
    """Models with nothing to open are fine too."""

    async def main() -> None:
        brain, model = Brain(), Opened()
        await brain.open()
        brain.use(model)
        await brain.open()
        await brain.close()
        assert model.calls == ["open", "close"]
        brain.use(SyntheticModel())
        await brain.open()
        await brain.close()

    asyncio.run(main())


def test_a_cheaper_model_stands_in_from_level_2_on() -> None:
    """For runs that begin then; without one the model answers at every level, and another `use` forgets it."""
    shedding = Shedding()
    brain = Brain(lambda: shedding.level)
    usual, cheap = SyntheticModel(), SyntheticModel()
    brain.use(usual, degraded=cheap)
    assert brain.model is usual
    for level, answers in enumerate([(brain, False), (brain, False), (cheap, True), (cheap, True)]):
        shedding.set_level(level)
        assert brain.choose() == answers
    brain.use(usual)
    assert brain.choose() == (brain, False)
    brain.use("synthetic", degraded="scripted")
    assert type(brain.choose().model).__name__ == "ScriptedModel"
    with pytest.raises(ConfigError):
        brain.use(usual, degraded=7)
    assert type(brain.choose().model).__name__ == "ScriptedModel"


def test_both_models_are_opened_and_closed() -> None:
    """The one that stands in must be there when it is needed."""

    async def main() -> None:
        usual, cheap = Opened(), Opened()
        brain = Brain()
        brain.use(usual, degraded=cheap)
        await brain.open()
        await brain.close()
        assert usual.calls == cheap.calls == ["open", "close"]

    asyncio.run(main())
