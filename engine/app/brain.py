"""`engine.nlp`: which model answers.

Law of this file: a model can be set before or after the start and replaced while runs go on; a run
keeps the model it began with. Without a model a run fails with a sentence that says what to do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

from laneway.actors.ports import Context, Model, Out
from laneway.routing.errors import ConfigError, ModelFailed

__all__ = ["Brain"]


class Brain:
    """The model slot of one engine; itself a Model."""

    def __init__(self) -> None:
        self._model: Model | None = None

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

    def use(self, model: object) -> Model:
        """Set the model.

        Args:
            model: a Model (`stream(run, context)`), or any callable that takes an AG-UI RunAgentInput
                and returns an async iterator of AG-UI events (pydantic-ai, LangGraph, your own).

        Raises:
            ConfigError: it is neither.
        """
        if hasattr(model, "stream"):
            self._model = cast(Model, model)
        elif callable(model):
            from laneway.engine.models.agui import AgUiModel

            self._model = AgUiModel(model)
        else:
            raise ConfigError(f"{model!r} is no model: it needs `stream(run, context)` or must be callable")
        return self._model

    def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        """Let the present model answer. Raises ModelFailed if there is none."""
        if self._model is None:
            raise ModelFailed("this engine has no model; give it one with engine.nlp.use(...)", reason="NO_MODEL")
        return self._model.stream(run, context)

    async def open(self) -> None:
        """Make the model ready now (download, load) instead of at its first run; raises what it raises."""
        start = getattr(self._model, "open", None)
        if start is not None:
            await start()

    async def close(self) -> None:
        """Close the model if it can be closed."""
        close = getattr(self._model, "close", None)
        if close is not None:
            await close()
