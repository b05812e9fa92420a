"""Visitors of the soak: who is served wrongly says so. No times."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from benchmarks.counts import Lost
from benchmarks.soak_people import People, leaves
from benchmarks.soak_served import KINDS
from benchmarks.token_source import TokenModel
from laneway import Client, Context, Engine, EnvelopeView, Out


class Forgetful:
    """A model that leaves its last token out."""

    async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        parts = [out async for out in TokenModel().stream(run, context)]
        for out in (*parts[:-2], parts[-1]):
            yield out


async def _wrong(event: EnvelopeView, context: Context) -> Out:
    return Out("S_DONE", b"something else")


@asynccontextmanager
async def _visitor(model: Any) -> AsyncIterator[tuple[People, Client]]:
    async with Engine(kinds=KINDS) as engine:
        engine.nlp.use(model)
        engine.pool("work", [kind.name for kind in KINDS if kind.name.startswith("S_WORK")], _wrong)
        edge = await engine.serve_grpc(port=0)
        people = People(f"127.0.0.1:{edge.port}")
        async with people._client("s", f"127.0.0.1:{edge.port}") as client:
            yield people, client


def test_an_answer_that_lacks_a_token_is_seen() -> None:
    """39 of 40 are not an answer; all of them are."""

    async def main(model: Any) -> int:
        async with _visitor(model) as (people, client):
            await people.talk(client)
            return people.counts["tokens"]

    assert asyncio.run(main(TokenModel())) == 40
    with pytest.raises(Lost, match="had 39 tokens, not 40"):
        asyncio.run(main(Forgetful()))


def test_an_answer_to_something_else_is_seen() -> None:
    """As many as were asked, and not those."""

    async def main() -> None:
        async with _visitor(TokenModel()) as (people, client):
            await people.work(client)

    with pytest.raises(Lost, match="not those it asked for"):
        asyncio.run(main())


def test_a_group_of_errors_is_taken_apart() -> None:
    """Down to what went wrong."""
    inner = ValueError("x")
    assert leaves(ExceptionGroup("a", [ExceptionGroup("b", [inner])])) == [inner]
    assert leaves(inner) == [inner]


def test_a_crowd_is_all_there_at_once() -> None:
    """Nobody leaves before the last has come, each has its answer; answers that lack a token are seen."""

    async def main(model: Any) -> tuple[int, int, int]:
        most = 0
        async with Engine(kinds=KINDS) as engine:
            engine.nlp.use(model)
            edge = await engine.serve_grpc(port=0)
            people = People(f"127.0.0.1:{edge.port}")
            crowd = asyncio.create_task(people.be_there(5))
            while not crowd.done():
                most = max(most, engine.statistics()[1].links)
                await asyncio.sleep(0)
            await crowd
        return most, people.counts["sessions"], people.counts["tokens"]

    assert asyncio.run(main(TokenModel())) == (5, 5, 200)
    with pytest.raises(Lost, match="had 39 tokens, not 40"):
        asyncio.run(main(Forgetful()))
