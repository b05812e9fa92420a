"""The sessions of an engine, and what its handlers find around them."""

from __future__ import annotations

import asyncio

from laneway import Config, Engine
from laneway.actors.ports import Context, Principal
from laneway.engine.app.assembly import make_directory, surroundings_of
from laneway.routing.envelope import Envelope
from laneway.routing.shedding import Shedding


def test_the_settings_of_an_engine_reach_its_sessions() -> None:
    """Its own bounds and its own level of overload, and nobody else's."""
    engine = Engine(Config.model_validate({"limits": {"sessions": 7}}))
    assert engine.directory.statistics().capacity == 7
    other = make_directory(engine, Shedding())
    assert other is not engine.directory
    assert surroundings_of(engine).clock is engine.clock


def test_a_handler_finds_who_is_behind_an_event() -> None:
    """Principal, tools and a way out, through the engine's own sessions."""

    async def main() -> None:
        found: list[Principal] = []
        async with Engine() as engine:

            async def look(env: Envelope, context: Context) -> None:
                found.append(context.principal)
                assert context.tools() == []

            engine.pool("look", ["LOOK"], look)
            async with engine.session("s", user="ann") as session:
                await session.send_event("LOOK")
                async with asyncio.timeout(10):
                    while not found:  # noqa: ASYNC110 - the handler has nobody to tell
                        await asyncio.sleep(0.01)
        assert found[0].subject == "ann"

    asyncio.run(main())
