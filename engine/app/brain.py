"""`engine.nlp`: which model answers.

Law of this file: a model can be set before or after the start and replaced while runs go on; a run
keeps the model it began with. Without a model a run fails with a sentence that says what to do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from laneway.actors.nlp.chosen import Chosen
from laneway.actors.ports import Context, Model, Out
from laneway.engine.app.choices import as_model, choose_model
from laneway.engine.imports import path_of
from laneway.routing.errors import ModelFailed

if TYPE_CHECKING:
    from laneway.engine.models.weights import Progress

__all__ = ["Brain"]

_DEGRADED_FROM: Final = 2
"""Level of overload."""


class Brain:
    """The model slot of one engine; itself a Model.

    Args:
        level: returns the engine's level of overload.

    Attributes:
        on_change: called after another model was set.
    """

    def __init__(self, level: Callable[[], int] = lambda: 0) -> None:
        self._level = level
        self._model: Model | None = None
        self._degraded: Model | None = None
        self._given: object = None
        self.on_change: Callable[[], None] = lambda: None

    @property
    def model(self) -> Model | None:
        """What answers now."""
        return self._model

    @property
    def provider(self) -> str:
        """Who provides the present model, for spans."""
        return str(getattr(self._model, "provider", ""))

    @property
    def name(self) -> str:
        """What the present model is called, for spans."""
        return str(getattr(self._model, "name", "") or type(self._model).__name__)

    @property
    def pushes(self) -> bool:
        """Whether the present model generates whether it is read or not."""
        return bool(getattr(self._model, "pushes", False))

    @property
    def given(self) -> object:
        """What the embedder gave as the present model."""
        return self._given

    @property
    def path(self) -> str | None:
        """By which name another process makes the present model too; None if there is none, empty without a model."""
        if self._given is None or isinstance(self._given, str):
            return self._given or ""
        return path_of(self._given)

    def use(self, model: object, progress: Progress | None = None, *, degraded: object = None) -> Model:
        """Set the model, and the one that stands in for it.

        Args:
            model: a Model (`stream(run, context)`), or any callable that takes an AG-UI RunAgentInput
                and returns an async iterator of AG-UI events (pydantic-ai, LangGraph, your own); or the
                name of one: synthetic, scripted, local-llm, openai:URL, or MODULE:NAME of your own
                model, agent, or class or function that makes it.
            progress: told about download and load of the local model.
            degraded: a cheaper one, as `model`: it answers the runs that begin at overload level 2, whose
                RUN_STARTED then names it in `metadata`. None: the model answers always.

        Raises:
            ConfigError: it is none of these.
        """
        chosen = _made(model, progress)
        self._degraded = None if degraded is None else _made(degraded, progress)
        self._model, self._given = chosen, model
        self.on_change()
        return chosen

    def choose(self) -> Chosen:
        """Return which model answers a run that begins now."""
        if self._degraded is not None and self._level() >= _DEGRADED_FROM:
            return Chosen(self._degraded, degraded=True)
        return Chosen(self)

    def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        """Let the present model answer. Raises ModelFailed if there is none."""
        if self._model is None:
            raise ModelFailed("this engine has no model; give it one with engine.nlp.use(...)", reason="NO_MODEL")
        return self._model.stream(run, context)

    async def open(self) -> None:
        """Make the model ready now (download, load) instead of at its first run; raises what it raises."""
        for model in (self._model, self._degraded):
            start = getattr(model, "open", None)
            if start is not None:
                await start()

    async def close(self) -> None:
        """Close the models if they can be closed."""
        for model in (self._model, self._degraded):
            close = getattr(model, "close", None)
            if close is not None:
                await close()


def _made(model: object, progress: Progress | None) -> Model:
    return choose_model(model, progress) if isinstance(model, str) else as_model(model)
