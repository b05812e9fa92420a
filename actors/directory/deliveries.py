"""The Journal port over session homes: starts of handlers go into the log of their session.

Law of this file: one group commit per session; an event whose session is not awake here has no log to go
into, and whoever has that log decides about it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from laneway.routing.envelope import SESSION, TENANT, Envelope

if TYPE_CHECKING:
    from laneway.actors.sessions.session import SessionHome

__all__ = ["DeliveryJournal"]


class DeliveryJournal:
    """Implements `ports.Journal`.

    Args:
        find: (tenant, session) -> its home, if it is awake.
    """

    def __init__(self, find: Callable[[str, str], SessionHome | None]) -> None:
        self._find = find

    async def starting(self, envs: Sequence[Envelope]) -> None:
        """Record deliveries about to be made. Raises Fenced if a log is another home's by now."""
        by_home: dict[SessionHome, list[Envelope]] = defaultdict(list)
        for env in envs:
            home = self._find(env[TENANT], env[SESSION])
            if home is not None:
                by_home[home].append(env)
        if len(by_home) == 1:
            ((home, batch),) = by_home.items()
            await home.ingress.starting(batch)
        elif by_home:
            await asyncio.gather(*(home.ingress.starting(batch) for home, batch in by_home.items()))
