"""Two parts of an engine that need much of the rest: its sessions, and what its handlers find around them.

Law of this file: nothing is decided here; each argument is a part of the engine or one of its settings.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from laneway.actors.directory.directory import SessionDirectory
from laneway.actors.pools.context import Surroundings
from laneway.engine.app.packing import LogPacking
from laneway.routing.shedding import Shedding

if TYPE_CHECKING:
    from laneway.engine.app.engine import Engine

__all__ = ["known_over", "make_directory", "surroundings_of"]


def make_directory(engine: Engine, shedding: Shedding) -> SessionDirectory:
    """Return the sessions of an engine that has its store, its neighbours and its telemetry."""
    return SessionDirectory(
        engine.store,
        homes=engine.neighbours.homes if engine.neighbours is not None else None,
        clock=engine.clock,
        kinds=engine.kinds,
        packer=LogPacking(engine.kinds),
        policy=engine.config.session_policy(),
        link_ids=lambda: os.urandom(16).hex(),
        wall=time.time,
        max_sessions=engine.config.limits.sessions,
        observe=engine.tap,
        probe=engine.telemetry.probe,
        tracer=engine.telemetry.tracer,
        shedding=shedding,
    )


def known_over(directory: SessionDirectory) -> Callable[[str, str, str, int], bool]:
    """Return what says whether an event is over that no account knows: its session, if it is awake."""

    def over(tenant: str, session: str, producer: str, counter: int) -> bool:
        home = directory.find(tenant, session)
        return home is not None and home.over(producer, counter)

    return over


def surroundings_of(engine: Engine) -> Surroundings:
    """Return what the contexts of handlers need of an engine that has its outlet, its sessions and its tools."""
    return Surroundings(
        outlet=engine.outlet,
        clock=engine.clock,
        kinds=engine.kinds,
        ids=lambda: f"call-{os.urandom(16).hex()}",
        principal=engine.directory.principal_of,
        tools=engine.tools.specs,
        tracer=engine.telemetry.tracer,
    )
