"""Any stream of AG-UI events as a model: pydantic-ai, LangGraph, or an async generator of dicts.

Law of this file: events come as objects with `model_dump` (any AG-UI package, any version) or as
dicts, and leave as `Out`; nothing here imports a framework. RUN_* marks are passed on: the driver
folds the framework's outcome into the run's own. Closing the iterator closes the framework's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from laneway.actors.ports import Context, Out
from laneway.engine.events import to_out
from laneway.routing.errors import LanewayError, ModelFailed

__all__ = ["AgUiModel", "EventSource"]

EventSource: TypeAlias = Callable[[Mapping[str, Any], Context], AsyncIterator[object]]
"""(RunAgentInput as a camelCase dict, context) -> AG-UI events."""


class AgUiModel:
    """Model on a framework's event stream.

    Args:
        source: called once per run, e.g. an async generator function. The context lets it call
            tools through the dispatcher; a framework's own tools need it not. If it says `pushes`, so
            does the model: what it stands for generates whether it is read or not.
    """

    def __init__(self, source: EventSource) -> None:
        self.provider, self.name = "custom", str(getattr(source, "__name__", type(source).__name__))
        self.pushes = bool(getattr(source, "pushes", False))
        self._source = source

    async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        """Yield the source's events. Raises ModelFailed(SEQUENCE) for what is no AG-UI event."""
        events = self._source(run, context)
        close: Callable[[], Awaitable[None]] | None = getattr(events, "aclose", None)
        try:
            async for event in events:
                yield _out(event)
        finally:
            if close is not None:
                await close()


def _out(event: object) -> Out:
    try:
        return to_out(event)
    except (LanewayError, ValueError, TypeError) as error:
        raise ModelFailed(f"the source gave something that is no AG-UI event: {error}", reason="SEQUENCE") from error
