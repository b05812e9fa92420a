"""The built-in pools."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from laneway import Context, Engine, Out
from laneway.actors.nlp import vocabulary as v
from laneway.engine.app.pools import BuiltinPools
from laneway.engine.config import Config
from laneway.engine.models.scripted import ScriptedModel
from laneway.routing.errors import ConfigError

WITHIN_S = 60.0


def test_every_engine_has_them() -> None:
    """nlp, tools, state and publish, before anything was added."""

    async def main() -> None:
        async with Engine() as engine:
            assert [pool.name for pool in engine.statistics()[0].pools] == ["nlp", "tools", "state", "publish"]

    asyncio.run(main())


def test_settings_cannot_send_documents_to_hosts() -> None:
    """They stay with the sessions, and who wants otherwise is told before the start."""
    with pytest.raises(ConfigError, match="'state' stays with the sessions"):
        Engine(Config.model_validate({"runtime": {"kind": "ray", "placement": {"state": "hosts"}}}))


def test_a_models_call_goes_through_the_tools_pool() -> None:
    """nlp -> dispatcher -> tools -> nlp; both pools count their event."""

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), Engine() as engine:

            @engine.tools.add
            async def add(a: int, b: int) -> int:
                """Add."""
                return a + b

            engine.nlp.use(ScriptedModel())
            async with engine.session("s1") as session:
                text = "".join([event.text async for event in session.ask('call add {"a": 2, "b": 40}')])
            assert text.endswith("the tool returned: 42")
            assert engine.statistics()[0].handled == 2

    asyncio.run(main())


class _Lasting:
    """A model whose runs of tenant "a" never end, and all others at once."""

    provider, name = "tests", "lasting"

    def __init__(self) -> None:
        self.begun = asyncio.Semaphore(0)

    async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        self.begun.release()
        if context.tenant == "a":
            await asyncio.Event().wait()
        yield v.text_start("m")
        yield v.text_end("m")


def test_runs_that_never_end_leave_seats_for_other_tenants() -> None:
    """Of 8 runs at once 6 are one tenant's while others use the pool; those of another one begin and end."""

    async def main() -> None:
        config = Config.model_validate({"nlp": {"concurrency": 8}})
        async with asyncio.timeout(WITHIN_S), Engine(config) as engine:
            model = _Lasting()
            engine.nlp.use(model)
            async with engine.session("s", tenant="b") as session:
                assert [event.kind async for event in session.ask("hello")][-1] == "RUN_FINISHED"
                for number in range(20):
                    await engine.session(f"s{number}", tenant="a").send("hello")
                for _ in range(1 + 6):
                    await model.begun.acquire()
                for _ in range(3):
                    assert [event.kind async for event in session.ask("hello")][-1] == "RUN_FINISHED"
                nlp = engine.statistics()[0].pools[0]
                assert (nlp.running, nlp.waiting) == (6, 0)
            await engine.close(0.0)

    asyncio.run(main())


def test_a_session_that_sleeps_leaves_its_documents() -> None:
    """The sweep ends subscriptions of sessions that are gone, and only of those."""

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), Engine() as engine:
            pools = engine.builtins
            assert isinstance(pools, BuiltinPools)
            pools.sweep()  # nothing yet
            async with engine.session("stays") as stays:
                for session in (stays, engine.session("goes")):
                    await session.send_event("DOC_PATCH", b"[]", entity="board")
                assert (await anext(stays)).kind == "STATE_SNAPSHOT"
                documents = pools._documents
                assert documents is not None
                while documents.statistics().views < 2:  # noqa: ASYNC110 - nobody announces it
                    await asyncio.sleep(0.001)
                pools.sweep()
                home = engine.directory.find("default", "goes")
                assert home is not None
                await engine.directory._sleep(home)
                pools.sweep()
                assert documents.statistics().views == 1

    asyncio.run(main())
