"""Publishing: one body to every session of a tenant that listens to a topic, without a run.

Law of this file: what waits for slow sessions is bounded per tenant and in time, and one session that
is full or gone keeps nothing from the others.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from laneway.actors.directory.topics import Topics
from laneway.actors.ports import Clock
from laneway.routing.classify import KindTable
from laneway.routing.envelope import Envelope, envelope
from laneway.routing.errors import LanewayError, Overloaded

__all__ = ["Publications"]

_DEADLINE_S: Final = 5.0
_WAITING_BYTES: Final = 4_194_304
_OVERHEAD_BYTES: Final = 1_000
"""A waiting publication beside its body: a task, a timer, an envelope."""


class Publications:
    """Sends PUBLISH events.

    Args:
        topics: who listens. emit: hands one event to its session; waits for credit.
    """

    def __init__(
        self, topics: Topics, kinds: KindTable, clock: Clock, emit: Callable[[Envelope], Awaitable[None]]
    ) -> None:
        self._topics = topics
        self._kinds = kinds
        self._clock = clock
        self._emit = emit
        self._made = 0
        self._waiting_bytes: Counter[str] = Counter()

    async def publish(self, tenant: str, topic: str, body: bytes, trace: str = "") -> int:
        """Send to every session that listens; returns how many took it. O(listeners).

        A session that stays paused for 5 s does not get it. Raises PeerProtocolError(BAD_TOPIC), and
        Overloaded while 4 MiB of the tenant's bodies wait for such sessions.

        Args:
            trace: traceparent of the event that caused it, or empty.
        """
        listeners = self._topics.listeners(tenant, topic)
        weight = (len(body) + _OVERHEAD_BYTES) * len(listeners)
        if self._waiting_bytes[tenant] and self._waiting_bytes[tenant] + weight > _WAITING_BYTES:
            raise Overloaded("too much of this tenant waits to be published already", retry_after_ms=1000)
        self._waiting_bytes[tenant] += weight
        try:
            taken = await asyncio.gather(*(self._send(tenant, name, topic, body, trace) for name in listeners))
        finally:
            self._waiting_bytes[tenant] -= weight
            if not self._waiting_bytes[tenant]:
                del self._waiting_bytes[tenant]
        return sum(taken)

    async def _send(self, tenant: str, session: str, topic: str, body: bytes, trace: str) -> bool:
        self._made += 1
        env = envelope(
            "PUBLISH",
            producer="engine/publish",
            counter=self._made,
            tenant=tenant,
            session=session,
            lane=self._kinds.lane("PUBLISH"),
            entity=topic,
            trace=trace,
            body=body,
            accepted=self._clock.now(),
        )
        try:
            async with asyncio.timeout(_DEADLINE_S):
                await self._emit(env)
        except (TimeoutError, LanewayError):
            return False
        return True
