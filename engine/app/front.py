"""One life of a front among the hosts of its cluster: it listens, connects, and hears who lives.

Law of this file: the engine and its sessions outlive a life. One that is declared over gives its homes
up and its connections with them; the next life begins with none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from laneway.actors.hosts.peers import Receiver
from laneway.actors.ports import Clock
from laneway.engine.app.connections import connections
from laneway.engine.app.placements import FRONT_POOLS
from laneway.engine.config import RuntimeConfig
from laneway.engine.peer.plane import Plane
from laneway.engine.runtime.program import HostFacts, Presence
from laneway.routing.errors import LanewayError
from laneway.routing.membership import FRONT, View

__all__ = ["Front"]


class Front:
    """A `runtime.program.Program` around an engine that is there already.

    Args:
        receiver: told of connections and messages.
        began: called with the incarnation before anything of this life is heard.
        saw: called with each view, after the connections follow it. over: called when this life is over.
    """

    def __init__(
        self,
        receiver: Receiver,
        clock: Clock,
        config: RuntimeConfig,
        *,
        began: Callable[[str], None],
        saw: Callable[[View], None],
        over: Callable[[], None],
    ) -> None:
        self._receiver = receiver
        self._clock = clock
        self._config = config
        self._began = began
        self._saw = saw
        self._over = over
        self._plane: Plane | None = None

    async def start(self, facts: HostFacts) -> Presence:
        """Listen for other hosts. Raises ConfigError."""
        identity = (facts.name, facts.incarnation, facts.secret, facts.version)
        self._plane = connections(FRONT, *identity, self._receiver, self._clock, self._config)
        self._began(facts.incarnation)
        return Presence(FRONT, await self._plane.start(facts.ip), FRONT_POOLS)

    def saw(self, view: View) -> None:
        """Connect to who is new, let go who is gone."""
        if self._plane is not None:
            self._plane.follow(view.members)
        self._saw(view)

    def dropped(self, error: LanewayError) -> None:
        """Others have the homes of this life."""
        self._over()

    async def drain(self, deadline_s: float) -> None:
        """Nothing: the engine drains itself."""

    async def close(self) -> None:
        """End the connections. Idempotent."""
        if self._plane is not None:
            await self._plane.close()

    def statistics(self) -> Mapping[str, Any]:
        """Return the connections' gauges."""
        return {"peers": [peer.name for peer in self._plane.statistics] if self._plane is not None else []}
