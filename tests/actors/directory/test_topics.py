"""Topics: who listens to what, inside a tenant."""

from __future__ import annotations

import pytest

from laneway.actors.directory.topics import Topics
from laneway.routing.errors import PeerProtocolError


def test_listeners_are_per_tenant_and_topic() -> None:
    """A session hears only the topics it joined, in its own tenant; leaving ends all of them."""
    topics = Topics()
    topics.join("a", "s1", "tenant")
    topics.join("a", "s1", "topic:news")
    topics.join("a", "s2", "topic:news")
    topics.join("a", "s2", "topic:news")
    topics.join("b", "s1", "topic:news")
    assert topics.listeners("a", "topic:news") == ["s1", "s2"]
    assert topics.listeners("a", "tenant") == ["s1"]
    assert topics.listeners("b", "topic:news") == ["s1"]
    topics.leave("a", "s1")
    topics.leave("a", "s1")
    assert topics.listeners("a", "topic:news") == ["s2"]
    assert topics.listeners("a", "tenant") == []


@pytest.mark.parametrize(
    "topic", ["", "news", "user:", "topic:", "team:x", "tenants", "topic:my news", "topic:" + "x" * 123]
)
def test_other_forms_are_refused(topic: str) -> None:
    """Publishing to a topic of none of the three forms is the publisher's error."""
    with pytest.raises(PeerProtocolError) as caught:
        Topics().listeners("a", topic)
    assert caught.value.reason == "BAD_TOPIC"
