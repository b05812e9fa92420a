"""The real local model: downloads its weights if they are missing, generates, is interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from laneway.actors.ports import Out
from laneway.engine.models.local_llm import ChildOptions, LocalLlm
from laneway.engine.models.weights import fetch
from laneway.routing.errors import ModelFailed

pytest.importorskip("xllamacpp", reason="needs pip install 'laneway[local-llm]'")

Asking = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def loop_runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def llm(loop_runner: asyncio.Runner) -> Iterator[LocalLlm]:
    model = LocalLlm(ChildOptions(threads=1, nice=0))  # beside other tests, threads that wait for each other crawl
    loop_runner.run(model.open())
    yield model
    loop_runner.run(model.close())
    assert model.pid is None


async def _until_text(stream: AsyncIterator[Out]) -> AsyncIterator[Out]:
    """What comes up to the first text."""
    async for out in stream:
        yield out
        if out.kind == "TEXT_MESSAGE_CONTENT":
            break


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fetching_again_costs_no_download(loop_runner: asyncio.Runner, llm: LocalLlm) -> None:
    """Checked weights in the cache are used as they are."""
    stages: list[str] = []
    path = loop_runner.run(fetch(lambda stage, done, total: stages.append(stage)))
    assert path.is_file()
    assert stages == ["waiting", "checking", "ready"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_interrupt_in_mid_generation_frees_the_slot(
    loop_runner: asyncio.Runner, llm: LocalLlm, calling: Any, asking: Asking
) -> None:
    """Tokens stream; closing the iterator in the middle leaves every slot idle within a bounded time."""

    async def main() -> None:
        outs: list[Out] = []
        stream = llm.stream(asking("Tell me a long story about a lighthouse keeper."), calling())
        async for out in stream:
            outs.append(out)
            if sum(event.kind == "TEXT_MESSAGE_CONTENT" for event in outs) == 8:
                break
        assert await llm.busy_slots() == 1
        await stream.aclose()  # type: ignore[attr-defined]
        await llm.idle(timeout_s=60.0)
        assert await llm.busy_slots() == 0

    loop_runner.run(main())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_tool_call_by_grammar(loop_runner: asyncio.Runner, llm: LocalLlm, calling: Any, asking: Asking) -> None:
    """The model's sampler is bound to a schema: one valid call is made, and an answer follows."""

    async def main() -> None:
        context = calling({"weather": lambda city: {"city": city, "sky": "clear"}}, city="string")
        run = asking("What is the weather in Paris?", forwardedProps={"toolChoice": "required"})
        outs = [out async for out in llm.stream(run, context)]
        assert [call[0] for call in context.calls] == ["weather"]
        assert isinstance(context.calls[0][1]["city"], str)
        assert any(out.kind == "TEXT_MESSAGE_CONTENT" for out in outs)

    loop_runner.run(main())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_child_that_died_is_started_again(
    loop_runner: asyncio.Runner, llm: LocalLlm, calling: Any, asking: Asking
) -> None:
    """Killing the child fails the run it is in; the next run starts a new one."""

    async def main() -> None:
        stream = llm.stream(asking("Tell me a long story about a lighthouse keeper."), calling())
        async for out in stream:
            if out.kind == "TEXT_MESSAGE_CONTENT":
                break
        first = llm.pid
        assert llm._process is not None
        llm._process.kill()
        with pytest.raises(ModelFailed):
            async for _ in stream:
                pass
        again = llm.stream(asking("Say hi."), calling())
        assert "TEXT_MESSAGE_CONTENT" in [out.kind async for out in _until_text(again)]
        await again.aclose()  # type: ignore[attr-defined]
        assert llm.pid not in (None, first)

    loop_runner.run(main())


@pytest.mark.slow
def test_a_file_that_is_no_model_is_typed(tmp_path: Path) -> None:
    """A child that cannot load says why, and is gone."""

    async def main() -> None:
        (tmp_path / "x.gguf").write_bytes(b"no model")
        model = LocalLlm(ChildOptions(ready_s=60), weights=tmp_path / "x.gguf")
        with pytest.raises(ModelFailed) as caught:
            await model.open()
        assert caught.value.reason == "LOCAL_SERVER"
        assert model.pid is None

    asyncio.run(main())
