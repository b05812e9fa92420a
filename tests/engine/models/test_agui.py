"""Event streams of frameworks as models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import msgpack
import pytest

from laneway.actors.nlp.runs import RunDriver
from laneway.actors.nlp.vocabulary import fields_of
from laneway.actors.ports import Context
from laneway.engine.models.agui import AgUiModel
from laneway.routing.envelope import SEAL, envelope
from laneway.routing.errors import ModelFailed
from laneway.routing.lanes import Lane

Asking = Callable[..., dict[str, Any]]


class LoopClock:
    def now(self) -> float:
        return asyncio.get_running_loop().time()


def test_dicts_are_events(calling: Any, asking: Asking) -> None:
    """A plain async generator of AG-UI dicts is a model; a delta becomes plain text."""

    async def source(run: Mapping[str, Any], context: Context) -> AsyncIterator[object]:
        yield {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"}
        yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "hello"}
        yield {"type": "TEXT_MESSAGE_END", "messageId": "m"}

    async def main() -> None:
        outs = [out async for out in AgUiModel(source).stream(asking("x"), calling())]
        assert [(out.kind, out.entity) for out in outs] == [
            ("TEXT_MESSAGE_START", "m"),
            ("TEXT_MESSAGE_CONTENT", "m"),
            ("TEXT_MESSAGE_END", "m"),
        ]
        assert outs[1].body == b"hello"

    asyncio.run(main())


def test_closing_the_model_closes_the_source(calling: Any, asking: Asking) -> None:
    """An interrupt reaches the framework's own generator."""
    closed: list[bool] = []

    async def source(run: Mapping[str, Any], context: Context) -> AsyncIterator[object]:
        try:
            while True:
                yield {"type": "STEP_STARTED", "stepName": "s"}
        finally:
            closed.append(True)

    async def main() -> None:
        stream = AgUiModel(source).stream(asking("x"), calling())
        await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        assert closed == [True]

    asyncio.run(main())


@pytest.mark.parametrize("event", [{"type": "NOPE"}, {"messageId": "m"}, 3, None])
def test_what_is_no_event_is_typed(calling: Any, asking: Asking, event: object) -> None:
    """A source that gives anything else fails its run, with a name for it."""

    async def source(run: Mapping[str, Any], context: Context) -> AsyncIterator[object]:
        yield event

    async def main() -> None:
        with pytest.raises(ModelFailed) as caught:
            async for _ in AgUiModel(source).stream(asking("x"), calling()):
                pass
        assert caught.value.reason == "SEQUENCE"

    asyncio.run(main())


def test_pydantic_ai_runs_under_the_driver(calling: Any) -> None:
    """A real framework (pydantic-ai's TestModel, with a tool) gives one legal, whole run."""
    ag_ui_core = pytest.importorskip("ag_ui.core", reason="needs pip install 'laneway[pydantic-ai]'")
    pydantic_ai = pytest.importorskip("pydantic_ai", reason="needs pip install 'laneway[pydantic-ai]'")
    from pydantic_ai.models.test import TestModel
    from pydantic_ai.ui.ag_ui import AGUIAdapter

    agent = pydantic_ai.Agent(TestModel(custom_output_text="The weather is sunny."))

    @agent.tool_plain
    def weather(city: str) -> str:
        return f"sunny in {city}"

    def source(run: Mapping[str, Any], context: Context) -> AsyncIterator[object]:
        run_input = ag_ui_core.RunAgentInput.model_validate(run)
        stream: AsyncIterator[object] = AGUIAdapter(agent=agent, run_input=run_input).run_stream()
        return stream

    async def main() -> None:
        context = calling()
        env = envelope(
            "USER_MESSAGE",
            producer="c",
            counter=1,
            tenant="acme",
            session="s1",
            run="r1",
            lane=Lane.HIGH,
            body=b"weather?",
        )
        await RunDriver(AgUiModel(source), clock=LoopClock())(env, context)
        kinds = [out.kind for out in context.outs]
        assert kinds[0] == "RUN_STARTED"
        assert kinds[-1] == "RUN_FINISHED"
        assert kinds.count("RUN_FINISHED") == 1
        assert "TOOL_CALL_RESULT" in kinds
        deltas = [out.body for out in context.outs if out.kind == "TEXT_MESSAGE_CONTENT"]
        assert "".join(_delta(body) for body in deltas) == "The weather is sunny."
        finished = fields_of(context.outs[-1])
        assert (finished["threadId"], finished["runId"]) == ("s1", "r1")

    asyncio.run(main())


def _delta(body: bytes) -> str:
    """Text, plain or sealed: some versions of pydantic-ai put a timestamp beside each delta."""
    return str(msgpack.unpackb(body[1:])["delta"]) if body[0] == SEAL else body.decode()
