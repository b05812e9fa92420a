"""Who listens to what: topic -> sessions, for events that belong to no run.

Law of this file: a topic lives inside a tenant; `user:SUBJECT` and `tenant` are joined by being
connected, `topic:NAME` by asking. Pure bookkeeping, bounded by the sessions that are awake.
"""

from __future__ import annotations

from collections import defaultdict

from laneway.routing.errors import PeerProtocolError

__all__ = ["Topics", "check_topic"]


def check_topic(topic: str) -> str:
    """Return the topic. Raises PeerProtocolError(BAD_TOPIC) unless it is one of the three forms."""
    if topic == "tenant" or (topic.partition(":")[0] in ("user", "topic") and topic.partition(":")[2]):
        return topic
    raise PeerProtocolError(
        f"topic {topic[:80]!r} is none of 'tenant', 'user:SUBJECT', 'topic:NAME'", reason="BAD_TOPIC"
    )


class Topics:
    """Subscriptions of one engine."""

    def __init__(self) -> None:
        self._listeners: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._joined: dict[tuple[str, str], set[str]] = defaultdict(set)

    def join(self, tenant: str, session: str, topic: str) -> None:
        """Subscribe a session; idempotent. Raises PeerProtocolError for an impossible topic."""
        check_topic(topic)
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
