"""The sessions of an engine, and what its handlers find around them."""

from __future__ import annotations

import asyncio

from laneway import Config, Engine, EnvelopeView, Out
from laneway.actors.ports import Context, Principal
from laneway.engine.app.assembly import known_over, make_directory, surroundings_of
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
                async with asyncio.timeout(60):
                    while not found:  # noqa: ASYNC110 - the handler has nobody to tell
                        await asyncio.sleep(0.01)
        assert found[0].subject == "ann"

    asyncio.run(main())


def test_what_a_session_has_done_is_known_after_a_long_pause() -> None:
    """Its account is gone while it sleeps; awake again, its journal says what is over, and `after` does not wait."""

    async def main() -> None:
        async with Engine(Config.model_validate({"session": {"idle_s": 0.01}})) as engine:
            engine.pool("work", ["WORK"], _handle)
            async with engine.session("s") as session:
                first = await session.send_event("WORK")
                await anext(session)
            while engine.statistics()[1].sessions:
                await asyncio.sleep(0.02)
                await engine.directory.sweep()
            producer, _, counter = first.id.rpartition(":")
            over = known_over(engine.directory)
            assert not over("default", "s", producer, int(counter)), "asleep"
            async with engine.session("s") as session:
                assert over("default", "s", producer, int(counter))
                assert not over("default", "s", producer, int(counter) + 1)
                await session.send_event("WORK", after=first.id)
                await anext(session)
            core = engine.statistics()[0].core
            assert (core.after_timeouts, core.parked) == (0, 0)

    asyncio.run(main())


async def _handle(event: EnvelopeView, context: Context) -> Out:
    return Out("CUSTOM", event.body)
