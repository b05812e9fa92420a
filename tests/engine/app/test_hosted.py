"""Pools on hosts follow what an engine is told, and come back when all their hosts are gone."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any

import pytest

from laneway import Config, Engine
from laneway.engine.app.embedded import EmbeddedSession
from tests.engine.app import hands

pytestmark = pytest.mark.usefixtures("ray_address")
WITHIN_S = 200.0
"""Hosts come up slowly on a busy machine; nothing is asserted about how long it took."""


def on_ray(cluster: str) -> Engine:
    runtime = {"kind": "ray", "cluster": cluster, "beat_s": 0.2, "lost_s": 5.0, "ready_s": 120.0}
    return Engine(Config.model_validate({"runtime": runtime}))


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(WITHIN_S):
            await main

    asyncio.run(bounded())


async def kinds(session: EmbeddedSession, text: str) -> list[str]:
    return [event.kind async for event in session.ask(text)]


async def process(session: EmbeddedSession) -> int:
    """Which process runs the tool `where`; asked again while its host is not there."""
    results = [event async for event in session.ask("call where {}") if event.kind == "TOOL_CALL_RESULT"]
    return int(results[0].data["content"])


def test_hosts_are_told_what_the_engine_is_told_and_their_next_lives_too() -> None:
    """A model and a tool given to a running engine are on its hosts; a host that was killed has them again."""

    async def main() -> None:
        async with on_ray("told") as engine, engine.session("s") as session:
            assert (await kinds(session, "Hello"))[-1] == "RUN_ERROR", "no model yet"
            engine.nlp.use("tests.engine.app.hands:Talker")
            engine.tools.add(hands.where, effects=False, idempotent=True)
            while (await kinds(session, "Hello"))[-1] != "RUN_FINISHED":  # noqa: ASYNC110 - hosts are told meanwhile
                await asyncio.sleep(0.01)
            first = await process(session)
            assert first != os.getpid()
            os.kill(first, signal.SIGKILL)
            assert await process(session) not in (first, os.getpid())

    run(main())


def test_a_pool_whose_hosts_are_gone_for_good_gets_new_ones() -> None:
    """Somebody ended them in Ray: the engine makes them anew, and what waited is handled."""

    async def main() -> None:
        import ray

        engine = on_ray("gone")
        engine.pool("here", ["HERE"], hands.here)
        async with engine, engine.session("s") as session:
            actor = ray.get_actor("host/here/0", namespace="laneway/gone")
            await asyncio.to_thread(ray.kill, actor)
            await session.send_event("HERE", entity="a")
            async for event in session:
                if event.kind == "CUSTOM":
                    assert int(event.body) != os.getpid()
                    break

    run(main())
