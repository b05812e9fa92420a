"""The built-in pools."""

from __future__ import annotations

import asyncio

import pytest

from laneway import Engine
from laneway.engine.app.pools import BuiltinPools
from laneway.engine.config import Config
from laneway.engine.models.scripted import ScriptedModel
from laneway.routing.errors import ConfigError

WITHIN_S = 20.0


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
