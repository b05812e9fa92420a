"""One body to all who listen, and a session that is gone keeps nothing from the others."""

from __future__ import annotations

from laneway.actors.directory.publications import Publications
from laneway.actors.directory.topics import Topics
from laneway.routing.classify import KindTable
from laneway.routing.envelope import BODY, ENTITY, SESSION, TRACE
from laneway.routing.errors import Fenced
from tests.actors.recording import TRACE as SOME_TRACE
from tests.simulation.loop import run


class Hands:
    """A clock that stands."""

    def now(self):
        return 0.0


def test_each_listener_gets_it_once_with_the_trace_of_its_cause():
    """Who refuses is not counted, and the rest is served."""
    sent = []

    async def emit(env):
        if env[SESSION] == "gone":
            raise Fenced("another host has it")
        sent.append((env[SESSION], env[ENTITY], env[BODY], env[TRACE]))

    async def main():
        topics = Topics()
        for session in ("a", "b", "gone"):
            topics.join("t", session, "topic:x")
        publications = Publications(topics, KindTable(), Hands(), emit)
        assert await publications.publish("t", "topic:x", b"1", SOME_TRACE) == 2
        assert await publications.publish("t", "topic:y", b"2") == 0
        assert sorted(sent) == [("a", "topic:x", b"1", SOME_TRACE), ("b", "topic:x", b"1", SOME_TRACE)]

    run(main())
