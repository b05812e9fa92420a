"""INTERRUPT and CANCEL at the door of a session: acted on at once, and policed.

Law of this file: they overtake everything, whatever is queued and whether or not the log can be written;
so nobody floods by asking to stop.
"""

from __future__ import annotations

import math
from typing import Final

from laneway.actors.dispatch.door import DispatchPort
from laneway.actors.ports import Clock
from laneway.routing.envelope import ENTITY, KIND, RUN, Envelope
from laneway.routing.errors import RateLimited
from laneway.routing.shaper import Gcra

__all__ = ["Controls"]

_PER_S: Final = 20
_RATE: Final = Gcra(_PER_S, 50)


class Controls:
    """The control events of one session."""

    __slots__ = ("_clock", "_dispatcher", "_due", "_session", "_tenant")

    def __init__(self, dispatcher: DispatchPort, tenant: str, session: str, clock: Clock) -> None:
        self._dispatcher = dispatcher
        self._tenant = tenant
        self._session = session
        self._clock = clock
        self._due = 0.0

    def police(self) -> None:
        """Count one. Raises RateLimited beyond 20 a second and 50 at once. O(1)."""
        self._due, wait_s = _RATE.offer(self._due, self._clock.now())
        if wait_s > 0:
            raise RateLimited(
                f"more than {_PER_S} interrupts and cancels a second in this session; one is enough",
                retry_after_ms=math.ceil(wait_s * 1000),
            )

    def act(self, env: Envelope) -> None:
        """Stop what it names: INTERRUPT a run (or none: all), CANCEL an event or call."""
        cancel = self._dispatcher.cancel
        if env[KIND] == "INTERRUPT":
            cancel(self._tenant, self._session, run=env[RUN], reason="interrupted by the client")
        else:
            cancel(self._tenant, self._session, event_id=env[ENTITY], reason="cancelled by the client")
