"""What a handler may be and return."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from laneway import Out
from laneway.engine.app.handlers import adapt
from laneway.routing.envelope import EnvelopeView, envelope
from laneway.routing.errors import ConfigError

ENV = envelope("X", producer="p", counter=1, tenant="t", session="s", lane=2, body=b"b")
CUSTOM = {"type": "CUSTOM", "name": "n", "value": 1}


def returning(value: object) -> Any:
    async def handle(event: EnvelopeView, context: Any) -> object:
        assert event.body == b"b"
        return value

    return adapt(handle)


def test_results_become_outs() -> None:
    """Nothing, bytes, an Out, an AG-UI dict, a list of them."""

    async def main() -> None:
        assert await returning(None)(ENV, None) is None
        assert await returning(b"value")(ENV, None) == b"value"
        assert await returning(Out("LOG"))(ENV, None) == Out("LOG")
        assert (await returning(CUSTOM)(ENV, None)).kind == "CUSTOM"
        assert [out.kind for out in await returning([Out("LOG"), CUSTOM])(ENV, None)] == ["LOG", "CUSTOM"]

    asyncio.run(main())


def test_generators_stream_and_are_closed() -> None:
    """An async generator function yields; leaving early closes it; a returned iterator works too."""
    closed = []

    async def generate(event: EnvelopeView, context: Any) -> AsyncIterator[object]:
        try:
            yield CUSTOM
            yield Out("LOG")
        finally:
            closed.append(True)

    async def main() -> None:
        outs = adapt(generate)(ENV, None)  # type: ignore[arg-type]
        assert (await anext(outs)).kind == "CUSTOM"
        await outs.aclose()
        assert closed == [True]
        passed_on = await returning(generate(EnvelopeView(ENV), None))(ENV, None)
        assert [out.kind async for out in passed_on] == ["CUSTOM", "LOG"]

    asyncio.run(main())


def test_a_batch_keeps_exceptions_in_their_place() -> None:
    """The event they belong to fails, not its neighbours."""

    async def handle(events: list[EnvelopeView], contexts: list[Any]) -> list[object]:
        return [CUSTOM, ValueError("second")]

    async def main() -> None:
        first, second = await adapt(handle, batch=True)([ENV, ENV], [None, None])  # type: ignore[arg-type]
        assert first.kind == "CUSTOM"
        assert isinstance(second, ValueError)

    asyncio.run(main())


def test_a_batch_may_return_nothing() -> None:
    """Then all its events are handled; what is no list of results is for the cell to refuse."""
    results: list[object] = [None, [None, b"value"], "no list", Out("CUSTOM")]

    async def handle(events: list[EnvelopeView], contexts: list[Any]) -> object:
        return results[0]

    async def main() -> None:
        while results:
            assert await adapt(handle, batch=True)([ENV, ENV], [None, None]) is results[0]  # type: ignore[arg-type]
            results.pop(0)

    asyncio.run(main())


def test_a_callable_object_may_be_a_handler() -> None:
    """If its `__call__` is async."""

    class Handler:
        async def __call__(self, event: EnvelopeView, context: Any) -> bytes:
            return event.body

    async def main() -> None:
        assert await adapt(Handler())(ENV, None) == b"b"  # type: ignore[arg-type, misc]

    asyncio.run(main())


def test_a_plain_function_is_refused() -> None:
    """With where blocking work belongs."""

    def handle(event: EnvelopeView, context: Any) -> None:
        """Block."""

    with pytest.raises(ConfigError, match="async def"):
        adapt(handle)  # type: ignore[arg-type]
