"""Who listens to what: topic -> sessions, for events that belong to no run.

Law of this file: a topic lives inside a tenant; `user:SUBJECT` and `tenant` are joined by being
connected, `topic:NAME` by asking. Pure bookkeeping, bounded by the sessions that are awake.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Final

from laneway.routing.errors import PeerProtocolError

__all__ = ["Topics", "check_topic"]


_TOPIC: Final = re.compile(r"tenant|(?=.{1,128}\Z)(?:user|topic):[A-Za-z0-9_.:-]+")
"""A topic travels as an event's entity, so it must be an id."""


def check_topic(topic: str) -> str:
    """Return the topic. Raises PeerProtocolError(BAD_TOPIC) unless it is one of the three forms."""
    if _TOPIC.fullmatch(topic) is None:
        raise PeerProtocolError(
            f"topic {topic[:80]!r} is none of 'tenant', 'user:SUBJECT', 'topic:NAME' with a name of "
            "A-Z a-z 0-9 _ . : - (a subject with other characters cannot be published to)",
            reason="BAD_TOPIC",
        )
    return topic


class Topics:
    """Subscriptions of one engine."""

    def __init__(self) -> None:
        self._listeners: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._joined: dict[tuple[str, str], set[str]] = defaultdict(set)

    def join(self, tenant: str, session: str, topic: str) -> None:
        """Subscribe a session; idempotent. The caller has checked that it may listen to it."""
        self._listeners[tenant, topic].add(session)
        self._joined[tenant, session].add(topic)

    def leave(self, tenant: str, session: str) -> None:
        """Unsubscribe a session from everything. O(its topics)."""
        for topic in self._joined.pop((tenant, session), set()):
            listeners = self._listeners[tenant, topic]
            listeners.discard(session)
            if not listeners:
                del self._listeners[tenant, topic]

    def listeners(self, tenant: str, topic: str) -> list[str]:
        """Return the sessions subscribed to a topic, sorted."""
        return sorted(self._listeners.get((tenant, check_topic(topic)), ()))
