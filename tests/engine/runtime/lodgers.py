"""Programs for hosts in tests; imported by Ray workers under `tests.engine.runtime.lodgers`."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from laneway.engine.runtime.program import HostFacts, Presence
from laneway.routing.errors import ConfigError, LanewayError
from laneway.routing.membership import POOL, View

__all__ = ["Busy", "Dying", "Lodger", "Misconfigured", "not_a_program"]

not_a_program = 7


class Lodger:
    """Listens on a port of its own; drains at once, or as slowly as its spec says."""

    def __init__(self) -> None:
        self.view: View | None = None
        self.drained = False
        self.errors: list[str] = []

    async def start(self, facts: HostFacts) -> Presence:
        self.facts = facts
        self.socket = socket.create_server((facts.ip, 0))
        host, port = self.socket.getsockname()
        return Presence(POOL, f"{host}:{port}", (facts.pool,))

    def saw(self, view: View) -> None:
        self.view = view

    def dropped(self, error: LanewayError) -> None:
        self.errors.append(error.code)

    async def drain(self, deadline_s: float) -> None:
        self.drained = True
        await asyncio.sleep(min(deadline_s, float(self.facts.spec or b"0")))

    async def close(self) -> None:
        self.socket.close()

    def statistics(self) -> Mapping[str, Any]:
        return {
            "load": 0.25,
            "spec": self.facts.spec,
            "secret": self.facts.secret,
            "sees": [] if self.view is None else [member.name for member in self.view.members],
            "frozen": gc.get_freeze_count() > 0,
            "loop": type(asyncio.get_running_loop()).__module__,
        }


class Misconfigured(Lodger):
    """Cannot start as it is set up."""

    async def start(self, facts: HostFacts) -> Presence:
        self.socket = socket.create_server((facts.ip, 0))
        raise ConfigError("there is no model of that name; choose another")


class Busy(Lodger):
    """Holds its loop while the file is there that its spec names."""

    async def start(self, facts: HostFacts) -> Presence:
        presence = await super().start(facts)
        self._look()
        return presence

    def _look(self) -> None:
        while os.path.exists(self.facts.spec):
            time.sleep(0.01)
        self._next = asyncio.get_running_loop().call_later(0.01, self._look)

    async def drain(self, deadline_s: float) -> None:
        self.drained = True

    async def close(self) -> None:
        self._next.cancel()
        await super().close()


class Dying(Lodger):
    """Takes its process with it."""

    async def start(self, facts: HostFacts) -> Presence:
        os._exit(3)
