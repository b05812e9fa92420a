"""Who judges the silence of others has to be awake itself."""

from __future__ import annotations

import asyncio

from laneway.engine.peer.policy import PeerPolicy
from laneway.engine.peer.watchdog import Watchdog
from tests.engine.peer.fakes import Rig

BEATS = PeerPolicy(beat_s=1, lost_s=3, linger_s=0.01)


def test_silent_peers_are_lost_on_time() -> None:
    """With ticks in time a silent peer is lost after `lost_s`."""

    async def scenario() -> None:
        async with Rig(BEATS) as rig:
            dog = Watchdog(lambda: [rig.connection], clock=rig.clock, policy=BEATS)
            for quarter in range(12):
                rig.clock.at = 1_000 + quarter / 4
                dog.tick()
            assert rig.connection.alive
            rig.clock.at = 1_003.0
            dog.tick()
            assert not rig.connection.alive

    asyncio.run(scenario())


def test_after_a_late_tick_everybody_gets_one_more_beat() -> None:
    """A loop that was blocked for longer than `lost_s` loses nobody who then speaks within a beat."""

    async def scenario() -> None:
        async with Rig(BEATS, "speaks") as speaks, Rig(BEATS, "silent") as silent:
            dog = Watchdog(lambda: [speaks.connection, silent.connection], clock=speaks.clock, policy=BEATS)
            for now in (1_010.0, 1_010.5, 1_010.9):
                speaks.clock.at = silent.clock.at = now
                dog.tick()
                assert speaks.connection.alive
                assert silent.connection.alive
            speaks.urgent.say((1, 1))
            speaks.data.say((1, 1))
            await speaks.settle()
            speaks.clock.at = silent.clock.at = 1_011.0
            dog.tick()
            assert speaks.connection.alive
            assert not silent.connection.alive

    asyncio.run(scenario())
