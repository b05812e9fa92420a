"""What a handler may not emit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from math import nan
from pathlib import Path

import pytest

from laneway import Context, Engine, EnvelopeView, Out
from laneway.actors.outlets import Add, Gathers
from laneway.engine.app.outlet import CheckedOutlet
from laneway.routing.envelope import ENTITY, Envelope, envelope
from laneway.routing.errors import LocalProtocolError

WITHIN_S = 60.0


class Sink:
    def __init__(self) -> None:
        self.taken: list[Envelope] = []

    async def emit(self, env: Envelope) -> None:
        self.taken.append(env)

    async def emit_all(self, envs: Sequence[Envelope]) -> None:
        self.taken.extend(envs)


def event(entity: str = "", body: bytes = b"") -> Envelope:
    return envelope("CUSTOM", producer="p", counter=1, tenant="t", session="s", lane=2, entity=entity, body=body)


def test_ids_and_bodies_within_bounds_pass() -> None:
    """Also none at all, and the same entity again."""

    async def main() -> None:
        sink = Sink()
        outlet = CheckedOutlet(sink)
        for entity in ("", "m1", "m1", "", "x" * 128):
            await outlet.emit(event(entity))
        await outlet.emit(event(body=bytes(1_048_576)))
        assert len(sink.taken) == 6

    asyncio.run(main())


class ReadySink(Sink):
    def emit_ready(self, envs: Sequence[Envelope]) -> int:
        self.taken.extend(envs[:1])
        return 1

    def emit_now(self, env: Envelope) -> bool:
        self.taken.append(env)
        return True


def test_what_is_taken_at_once_is_checked_first() -> None:
    """As far as the outlet behind takes it; none if one is refused; an outlet that cannot, does not."""
    sink = ReadySink()
    outlet = CheckedOutlet(sink)
    assert outlet.emit_ready([event(), event()]) == 1
    with pytest.raises(LocalProtocolError, match="a handler emitted CUSTOM"):
        outlet.emit_ready([event(), event("two words")])
    assert len(sink.taken) == 1
    assert outlet.emit_now(event())
    with pytest.raises(LocalProtocolError, match="a handler emitted CUSTOM"):
        outlet.emit_now(event("two words"))
    assert len(sink.taken) == 2
    assert not hasattr(CheckedOutlet(Sink()), "emit_ready")
    assert not hasattr(CheckedOutlet(Sink()), "emit_now")


@pytest.mark.parametrize(
    "bad", [event("two words"), event("x" * 129), event("a\n"), event(body=bytes(1_048_577)), event(body="text")]
)  # type: ignore[arg-type]
def test_others_are_the_handlers_error(bad: Envelope) -> None:
    """Nothing reaches the session."""

    async def main() -> None:
        sink = Sink()
        with pytest.raises(LocalProtocolError, match="a handler emitted CUSTOM"):
            await CheckedOutlet(sink).emit(bad)
        assert sink.taken == []

    asyncio.run(main())


def test_of_several_all_or_none_pass() -> None:
    """One that is refused keeps the others back."""

    async def main() -> None:
        sink = Sink()
        await CheckedOutlet(sink).emit_all([event("a"), event("b")])
        with pytest.raises(LocalProtocolError, match="a handler emitted CUSTOM"):
            await CheckedOutlet(sink).emit_all([event("c"), event("two words")])
        assert [env[ENTITY] for env in sink.taken] == ["a", "b"]

    asyncio.run(main())


def test_a_bad_emit_does_not_poison_the_log(tmp_path: Path) -> None:
    """The handler fails; the session can be opened again by the next engine."""

    async def main() -> None:
        for _ in range(2):
            async with asyncio.timeout(WITHIN_S), Engine(store=tmp_path / "engine.db") as engine:

                @engine.pool("bad", kinds=["BAD"])
                async def bad(event: EnvelopeView, context: Context) -> None:
                    await context.emit(Out("CUSTOM", b"\x80", "not an id"))

                async with engine.session("s1") as session:
                    await session.send_event("BAD")
                    while not engine.statistics()[0].failed:  # noqa: ASYNC110 - nobody announces it
                        await asyncio.sleep(0.001)

    asyncio.run(main())


@pytest.mark.parametrize("name", ["", "two words", "a/b", "x" * 65, ".."])
def test_a_session_name_is_an_id(name: str) -> None:
    """It is refused before there is a log of that name."""
    with pytest.raises(LocalProtocolError, match="ids"):
        Engine().session(name)


def test_what_cannot_be_sent_leaves_nothing_behind(tmp_path: Path) -> None:
    """It is refused before it is admitted: no reservation, no record, and the session is read again after a restart."""

    async def main() -> None:
        async with Engine(store=str(tmp_path / "log.db")) as engine:
            session = engine.session("s1")
            for wrong in ({"after": "x" * 129}, {"after": "\ud800:1"}, {"timeout_s": nan}, {"timeout_s": 1e300}):
                with pytest.raises(LocalProtocolError):
                    await session.send_event("PUBLISH", b"x", entity="tenant", **wrong)  # type: ignore[arg-type]
            assert (await session.send_event("PUBLISH", b"x", entity="tenant")).status == "durable"
            core = engine.dispatcher.statistics().core
            assert core.admitted - core.done == core.pending <= 1
        async with Engine(store=str(tmp_path / "log.db")) as engine:
            assert (await engine.session("s1").send_event("PUBLISH", b"x", entity="tenant")).status == "durable"

    asyncio.run(main())


def test_what_an_application_sends_is_checked_too() -> None:
    """Run, entity and size."""

    async def main() -> None:
        async with Engine() as engine:
            session = engine.session("s1")
            with pytest.raises(LocalProtocolError, match="must be ids"):
                await session.send("hi", run="two words")
            with pytest.raises(LocalProtocolError, match="must be ids"):
                await session.send_event("DOC_PATCH", b"[]", entity="my document")
            with pytest.raises(LocalProtocolError, match="one event holds"):
                await session.send_event("PUBLISH", bytes(2_000_000), entity="tenant")

    asyncio.run(main())


def test_a_delta_for_what_is_held_goes_straight_to_who_holds_it() -> None:
    """Its entity was checked with the one that is held; an outlet that gathers nothing is never asked."""

    class Gathering(Sink):
        def gathering(self, tenant: str, session: str, run: str, kind: str, entity: str) -> Add | None:
            asked = (tenant, session, run, kind, entity) == ("t", "s", "r", "TEXT_MESSAGE_CONTENT", "m")
            return (lambda body: body == b"x") if asked else None

    add = CheckedOutlet(Gathering()).gathering("t", "s", "r", "TEXT_MESSAGE_CONTENT", "m")
    assert add is not None
    assert add(b"x")
    assert not isinstance(CheckedOutlet(Sink()), Gathers)


def test_a_list_is_checked_as_its_events_are() -> None:
    """One that is refused refuses the list; others pass as it came, also of several entities."""
    taken: list[Envelope] = []

    class Ready(Sink):
        def emit_ready(self, envs: Sequence[Envelope]) -> int:
            taken.extend(envs)
            return len(envs)

    outlet = CheckedOutlet(Ready())
    for bad in (event("no id"), event(body=b"x" * 1_048_577), event(body="text")):  # type: ignore[arg-type]
        with pytest.raises(LocalProtocolError):
            outlet.emit_ready([event("a"), bad])
    assert taken == []
    assert outlet.emit_ready([event("a"), event("b"), event("b"), event()]) == 4
    assert outlet.emit_ready([event("b")]) == 1
    assert len(taken) == 5
