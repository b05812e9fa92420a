"""A client's link to its run, over a real engine in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from laneway import Engine
from laneway.actors.nlp import vocabulary
from laneway.actors.ports import Context, Out, Principal
from laneway.engine.app.serving import EngineGateway
from laneway.engine.config import Config
from laneway.engine.edge.agui_input import RunRequest, read_run
from laneway.engine.edge.agui_link import RunLink
from laneway.engine.edge.agui_output import Place, parse_place
from laneway.routing.errors import IdempotencyMismatch, RateLimited, ResumeFailed
from laneway.routing.replay import Cursor
from tests.engine.edge.agui_rules import check_run, parsed

WITHIN_S = 60.0
ADA = Principal("ada", "t")


class Counting:
    """A model that says numbers; it counts its runs and pauses where it is told to.

    Attributes:
        runs: how often it was asked.
        go: set to let it pass the middle.
    """

    def __init__(self) -> None:
        self.runs = 0
        self.go = asyncio.Event()
        self.go.set()

    async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        self.runs += 1
        yield vocabulary.text_start("m1")
        for number in range(40):
            if number == 20:
                await self.go.wait()
            yield vocabulary.text("m1", f"{number} ")
        yield vocabulary.text_end("m1")


SAID = "".join(f"{number} " for number in range(40))


@asynccontextmanager
async def served(store: Path | None = None, **config: Any) -> AsyncIterator[tuple[Engine, Counting]]:
    model = Counting()
    async with asyncio.timeout(WITHIN_S), Engine(Config(**config), store=store) as engine:
        engine.nlp.use(model)
        yield engine, model


def asking(run: str = "r1", text: str = "hi") -> RunRequest:
    said = [{"id": f"{run}-q", "role": "user", "content": text}]
    return read_run(json.dumps({"threadId": "t1", "runId": run, "messages": said}).encode())


async def opened(engine: Engine, asked: RunRequest, place: Place | None = None) -> RunLink:
    link = RunLink(EngineGateway(engine), asked, ADA, place)
    try:
        await link.open()
    except BaseException:
        await link.close()
        raise
    return link


async def rest_of(link: RunLink) -> list[tuple[str, dict[str, Any]]]:
    body = b""
    while not link.over:
        body += await link.read()
    await link.close()
    return parsed(body)


def text_of(events: list[tuple[str, dict[str, Any]]]) -> str:
    return "".join(event.get("delta", "") for _, event in events)


def test_a_run_is_read_from_its_start_to_its_end() -> None:
    """What a session said before does not show, and the answer is whole."""

    async def main() -> None:
        async with served() as (engine, model):
            for run in ("r1", "r2"):
                events = await rest_of(await opened(engine, asking(run)))
                check_run([event for _, event in events])
                assert (events[0][1]["runId"], text_of(events)) == (run, SAID)
            assert model.runs == 2

    asyncio.run(main())


def test_the_same_request_again_reads_the_run_from_its_beginning() -> None:
    """While it goes on and after it has ended; it runs once."""

    async def main() -> None:
        async with served() as (engine, model):
            model.go.clear()
            first = await opened(engine, asking())
            while "delta" not in str(await first.read()):
                pass
            second = await opened(engine, asking())
            model.go.set()
            answers = [await rest_of(second), await rest_of(await opened(engine, asking()))]
            for events in answers:
                check_run([event for _, event in events])
                assert text_of(events) == SAID
            await first.close()
            assert model.runs == 1

    asyncio.run(main())


def test_a_client_goes_on_where_its_connection_broke() -> None:
    """At any event: the parts together are the answer, and it runs once."""

    async def main() -> None:
        async with served() as (engine, model):
            link = await opened(engine, asking())
            whole = await rest_of(link)
            for cut in range(1, len(whole)):
                have = whole[:cut]
                more = await rest_of(await opened(engine, asking(), parse_place(have[-1][0])))
                assert text_of(have + more) == SAID
                check_run([event for _, event in have + more])
            assert model.runs == 1

    asyncio.run(main())


def test_a_run_survives_its_server(tmp_path: Path) -> None:
    """A request repeated in the next process reads the answer out of the log."""

    async def main() -> None:
        async with served(tmp_path / "log.db") as (engine, model):
            whole = await rest_of(await opened(engine, asking()))
        async with served(tmp_path / "log.db") as (engine, model):
            events = await rest_of(await opened(engine, asking()))
            assert events == whole
            more = await rest_of(await opened(engine, asking(), parse_place(whole[2][0])))
            assert [event for _, event in more][-1] == whole[-1][1]
            assert model.runs == 0

    asyncio.run(main())


def test_another_input_under_a_runs_id_is_refused() -> None:
    """It would read an answer to another question."""

    async def main() -> None:
        async with served() as (engine, _):
            await rest_of(await opened(engine, asking()))
            with pytest.raises(IdempotencyMismatch, match="r1"):
                await opened(engine, asking(text="something else"))

    asyncio.run(main())


def test_what_cannot_be_continued_whole_is_refused_and_runs_nothing() -> None:
    """A place of a former numbering is no place here."""

    async def main() -> None:
        async with served() as (engine, model):
            with pytest.raises(ResumeFailed) as refused:
                await opened(engine, asking(), Place(Cursor("another", 0, 3)))
            assert refused.value.reason == "EPOCH_MISMATCH"
            assert model.runs == 0

    asyncio.run(main())


def test_a_refusal_is_raised_before_anything_is_read() -> None:
    """The edge can still answer with a status."""

    async def main() -> None:
        async with served(dispatch={"rate_per_s": 0.001, "burst": 1}) as (engine, _):
            await rest_of(await opened(engine, asking()))
            with pytest.raises(RateLimited) as refused:
                await opened(engine, asking("r2"))
            assert refused.value.retry_after_ms

    asyncio.run(main())


def test_a_cancel_ends_the_run_as_cancelled() -> None:
    """The model is stopped, and the client reads that end."""

    async def main() -> None:
        async with served() as (engine, model):
            model.go.clear()
            link = await opened(engine, asking())
            while "delta" not in str(await link.read()):
                pass
            await link.cancel()
            events = await rest_of(link)
            assert events[-1][1]["metadata"] == {"finishedReason": "cancelled"}

    asyncio.run(main())
