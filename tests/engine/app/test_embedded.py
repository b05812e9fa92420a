"""A session from the inside."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from laneway import Engine, Principal
from laneway.engine.app.embedded import EmbeddedSession
from laneway.engine.config import Config
from laneway.engine.models.synthetic import SyntheticModel
from laneway.routing.classify import KindTable
from laneway.routing.errors import DeadlineExceeded, LaneFull, LanewayError, LinkClosed, LocalProtocolError, Superseded
from tests.simulation.loop import VirtualClock, run

WITHIN_S = 60.0


def test_iterating_needs_an_entered_session() -> None:
    """Sending does not."""

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), Engine() as engine:
            engine.nlp.use(SyntheticModel(tokens_per_s=0))
            session = engine.session("s1")
            assert (await session.send("hello")).status == "volatile"
            with pytest.raises(LocalProtocolError, match="async with"):
                await anext(session)

    asyncio.run(main())


def test_receipts_name_event_and_run() -> None:
    """The run's id is known before its first event, chosen by the engine or by the caller."""

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), Engine() as engine:
            engine.nlp.use(SyntheticModel(tokens=(1, 1)))
            async with engine.session("s1") as session:
                receipt = await session.send("hello")
                assert receipt.id == f"{session.client}:1"
                assert receipt.run == f"{session.client}-1"
                assert (await session.send("hello", run="mine")).run == "mine"
                assert {(await anext(session)).run for _ in range(2)} <= {receipt.run, "mine"}

    asyncio.run(main())


def test_a_refusal_is_raised_with_its_delay() -> None:
    """A session that has too much in flight is told when to come back."""

    async def main() -> None:
        release = asyncio.Event()
        async with asyncio.timeout(WITHIN_S), Engine() as engine:

            @engine.pool("slow", kinds=["SLOW"])
            async def slow(event: object, context: object) -> None:
                await release.wait()

            session = engine.session("s1")
            sends = [session.send_event("SLOW") for _ in range(1000)]
            refused = [one for one in await asyncio.gather(*sends, return_exceptions=True) if isinstance(one, LaneFull)]
            assert 0 < len(refused) < 1000
            assert refused[0].retry_after_ms
            release.set()

    asyncio.run(main())


def test_a_person_is_limited_over_all_its_sessions() -> None:
    """With a quota for each principal, the fourth event in flight is refused wherever it comes from; others go on."""

    async def main() -> None:
        release = asyncio.Event()
        config = Config.model_validate({"quotas": {"principal": {"events": 3}}})
        async with asyncio.timeout(WITHIN_S), Engine(config=config) as engine:

            @engine.pool("slow", kinds=["SLOW"])
            async def slow(event: object, context: object) -> None:
                await release.wait()

            for name in ("s1", "s2", "s3"):
                await engine.session(name, user="ann").send_event("SLOW")
            with pytest.raises(LaneFull) as caught:
                await engine.session("s4", user="ann").send_event("SLOW")
            assert caught.value.reason == "SUBJECT_EVENTS"
            assert caught.value.retry_after_ms
            await engine.session("s4", user="bob").send_event("SLOW")
            release.set()

    asyncio.run(main())


def test_the_newer_attachment_wins() -> None:
    """What the older one raises says so."""

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), Engine() as engine:
            older, newer = engine.session("s1"), engine.session("s1")
            newer.client = older.client
            async with older, newer:
                with pytest.raises(Superseded):
                    await anext(older)

    asyncio.run(main())


def test_leaving_ends_the_iteration_and_the_session_stays() -> None:
    """Two in a row see one conversation."""

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), Engine() as engine:
            engine.nlp.use(SyntheticModel(tokens_per_s=0))
            for _ in range(2):
                async with engine.session("s1") as session:
                    async for _event in session.ask("hello"):
                        pass
            assert len(engine.directory.messages("default", "s1")) == 4

    asyncio.run(main())


def test_failures_outside_of_runs_are_handed_to_who_asks(caplog: pytest.LogCaptureFixture) -> None:
    """`on_failure` gets the receipt's id and the error the handler ended with."""

    async def main() -> None:
        failures: asyncio.Queue[tuple[str, LanewayError]] = asyncio.Queue()

        def take(event_id: str, error: LanewayError) -> None:
            failures.put_nowait((event_id, error))

        async with asyncio.timeout(WITHIN_S), Engine() as engine, engine.session("s1", on_failure=take) as session:
            receipt = await session.send_event("DOC_PATCH", b"nonsense", entity="board")
            reading = asyncio.create_task(anext(session))
            event_id, error = await failures.get()
            assert event_id == receipt.id
            assert error.code
            assert not [record for record in caplog.records if "failed" in record.message]
            reading.cancel()

    asyncio.run(main())


def test_an_accepted_event_that_fails_is_said_so(caplog: pytest.LogCaptureFixture) -> None:
    """Outside of a run there is no RUN_ERROR; the log names the event and why."""

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), Engine() as engine, engine.session("s1") as session:
            receipt = await session.send_event("DOC_PATCH", b"nonsense", entity="board")
            reading = asyncio.create_task(anext(session))
            while not caplog.records:  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0.001)
            assert receipt.id in caplog.text
            reading.cancel()

    asyncio.run(main())


class _Deaf:
    """Sessions that take events and never answer."""

    async def ingest(self, session: str, speaker: Any, envelopes: Any) -> None: ...


def test_an_event_that_is_never_answered_is_given_up_after_30_s() -> None:
    """Each sender waits 30 s for its own answer, and is told that the event may have been taken."""

    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        session = EmbeddedSession(_Deaf(), KindTable(), VirtualClock(loop), "s1", Principal("u"))  # type: ignore[arg-type]

        async def send() -> float:
            with pytest.raises(DeadlineExceeded, match="may have been taken"):
                await session.send_event("USER_MESSAGE", b"hello")
            return loop.time() - began

        first = asyncio.create_task(send())
        await asyncio.sleep(20)
        return [await send(), await first]

    assert run(main()) == [pytest.approx(50, abs=0.01), pytest.approx(30, abs=0.01)]


def test_a_tool_is_called_from_inside() -> None:
    """The result's fields are the answer; its events also come through iteration; leaving ends the wait."""

    async def main() -> None:
        started = asyncio.Event()

        async def double(number: int) -> int:
            return 2 * number

        async def forever() -> None:
            started.set()
            await asyncio.Event().wait()

        async with asyncio.timeout(WITHIN_S), Engine() as engine:
            engine.tools.add(double)
            engine.tools.add(forever)
            async with engine.session("s1") as session:

                async def read() -> list[str]:
                    return [event.kind async for event in session]

                reading = asyncio.create_task(read())
                answer = await session.call_tool("double", {"number": 4}, call_id="c1")
                assert (answer["content"], answer["toolCallId"]) == ("8", "c1")
                assert "INVALID_ARGUMENT" in (await session.call_tool("double", {"number": "x"}))["content"]
                late = asyncio.create_task(session.call_tool("forever", {}))
                await started.wait()
            with pytest.raises(LinkClosed):
                await late
            assert (await reading)[:4] == ["TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END", "TOOL_CALL_RESULT"]

    asyncio.run(main())
