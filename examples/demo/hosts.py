"""What a cluster adds to the demo: who carries which pool, and hosts that are killed while they work."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from laneway import Engine

if TYPE_CHECKING:
    from laneway.routing.membership import Member

_LOOK_S = 0.005
_HEAL_S = 60.0


@dataclass(frozen=True, slots=True)
class Loss:
    """A host that was killed.

    Attributes:
        host: that was. pid: of its process.
        heir_pid: of the process that took its place. healed_ms: until its pool had a cell again; None: never.
    """

    host: str
    pid: int
    heir_pid: int = 0
    healed_ms: float | None = None


async def lose(engine: Engine, pool: str) -> Loss:
    """Kill the host of a pool (kill -9) and wait until the pool can work again, 60 s at most."""
    (victim,) = (host for host in engine.hosts if pool in host.pools)
    cells = engine.dispatcher.pool(pool)
    assert cells is not None
    killed = time.monotonic()
    _kill(engine, victim)
    try:
        async with asyncio.timeout(_HEAL_S):
            while cells.cells:  # noqa: ASYNC110 - the pool tells nobody
                await asyncio.sleep(_LOOK_S)
            while not cells.cells:  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        return Loss(victim.name, victim.pid)
    healed_ms = (time.monotonic() - killed) * 1000
    (heir,) = (host for host in engine.hosts if pool in host.pools)
    return Loss(victim.name, victim.pid, heir.pid, healed_ms)


def _kill(engine: Engine, victim: Member) -> None:
    (front,) = (host for host in engine.hosts if host.pid == os.getpid() and host.role == "front")
    if victim.node == front.node:
        os.kill(victim.pid, signal.SIGKILL)
        return
    import ray  # on another machine, so Ray does it

    actor = ray.get_actor(victim.name, f"laneway/{engine.config.runtime.cluster}")
    ray.kill(actor, no_restart=False)


def handled_again(engine: Engine) -> int:
    """Return how many events were given to another host because theirs was lost."""
    counted = (line for line in engine.metrics().splitlines() if line.startswith("laneway_redelivered_events_total{"))
    return int(sum(float(line.rpartition(" ")[2]) for line in counted))
