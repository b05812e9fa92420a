"""The engine as an embedder uses it, whole and in process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from laneway import Config, Context, Engine, EnvelopeView, Kind, Lane, Out
from laneway.engine.app.closing import close_patiently
from laneway.engine.client import Client
from laneway.engine.delivery import Event
from laneway.engine.models.synthetic import SyntheticModel
from laneway.engine.stores.memory import MemoryStore
from laneway.routing.errors import ConfigError, LocalProtocolError, PeerProtocolError, RuntimeUnavailable
from tests.engine.app import shop

WITHIN_S = 60.0


def quick() -> SyntheticModel:
    return SyntheticModel(tokens_per_s=0)


class Endless:
    """A model that talks until it is stopped."""

    def __init__(self) -> None:
        self.said = 0
        self.stopped = asyncio.Event()

    async def stream(self, run: dict[str, Any], context: Context) -> AsyncIterator[Out]:
        yield Out("TEXT_MESSAGE_START", b"\x81\xa9messageId\xa1m", "m")
        try:
            while True:
                yield Out("TEXT_MESSAGE_CONTENT", b"word " * 20, "m")
                self.said += 1
                await asyncio.sleep(0)
        finally:
            self.stopped.set()


async def answer(engine: Engine, text: str = "hello", name: str = "s1") -> list[Event]:
    async with asyncio.timeout(WITHIN_S), engine.session(name) as session:
        return [event async for event in session.ask(text)]


async def until(condition: Callable[[], bool]) -> None:
    """Let the other tasks work until something holds; the tests have a deadline around it."""
    while not condition():  # noqa: ASYNC110 - nobody announces it
        await asyncio.sleep(0.001)


def test_a_local_engine_has_no_hosts() -> None:
    """Before, while and after it runs."""

    async def main() -> None:
        engine = Engine()
        seen = [engine.hosts]
        async with engine:
            seen.append(engine.hosts)
        assert [list(hosts) for hosts in (*seen, engine.hosts)] == [[], [], []]

    asyncio.run(main())


def test_a_question_gets_its_answer() -> None:
    """One legal AG-UI run: started, one message, finished; the books balance."""

    async def main() -> None:
        async with Engine() as engine:
            engine.nlp.use(quick())
            events = await answer(engine)
            kinds = list(dict.fromkeys(event.kind for event in events))
            assert kinds == [
                "RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "RUN_FINISHED",
            ]  # fmt: skip
            assert "".join(event.text for event in events) == "".join(quick().words("s1", "hello"))
            dispatcher, sessions = engine.statistics()
            assert dispatcher.accepted == dispatcher.handled == 1
            assert (sessions.sessions, sessions.pending, sessions.links) == (1, 0, 0)

    asyncio.run(main())


def test_without_a_model_a_run_says_what_to_do() -> None:
    """RUN_ERROR names the call that gives a model."""

    async def main() -> None:
        async with Engine() as engine:
            last = (await answer(engine))[-1]
            assert last.kind == "RUN_ERROR"
            assert "engine.nlp.use" in last.data["message"]

    asyncio.run(main())


def test_an_interrupt_stops_the_model() -> None:
    """The run ends as cancelled, and the model's iterator has been closed by then."""

    async def main() -> None:
        model = Endless()
        async with asyncio.timeout(WITHIN_S), Engine() as engine:
            engine.nlp.use(model)
            async with engine.session("s1") as session:
                receipt = await session.send("go on")
                stopping = None
                async for event in session:
                    if event.kind == "TEXT_MESSAGE_CONTENT" and stopping is None:
                        stopping = asyncio.create_task(session.interrupt(receipt.run))
                    if event.ends_run:
                        break
                assert event.kind == "RUN_FINISHED"
                assert event.data["outcome"] == {"type": "cancelled"}
                assert model.stopped.is_set()
                assert stopping is not None
                await stopping

    asyncio.run(main())


def test_a_reader_that_stops_pauses_the_run() -> None:
    """The model gets no further than the window; when reading goes on, so does it, and nothing is missing."""

    async def main() -> None:
        model = Endless()
        async with asyncio.timeout(WITHIN_S), Engine() as engine:
            engine.nlp.use(model)
            async with engine.session("s1") as session:
                receipt = await session.send("flood me")
                home = engine.directory.find("default", "s1")
                assert home is not None
                await until(lambda: home.statistics().paused > 0)
                paused_at = model.said
                assert paused_at * 100 < 2 * 65_536
                size = 0
                async for event in session:
                    size += len(event.text)
                    if size > 4 * 65_536:
                        break
                assert model.said > paused_at
                await session.interrupt(receipt.run)

    asyncio.run(main())


def test_a_pool_of_ones_own() -> None:
    """A decorated handler gets its kind and answers with an event; unknown kinds are refused by name."""

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), Engine() as engine:

            @engine.pool("echo", kinds=["ECHO", Kind("LOUD_ECHO", Lane.HIGH, direction="in")])
            async def echo(event: EnvelopeView, context: Context) -> dict[str, object]:
                return {"type": "CUSTOM", "name": event.kind, "value": event.body.decode()}

            async with engine.session("s1") as session:
                assert (await session.send_event("ECHO", b"one")).status == "volatile"
                await session.send_event("LOUD_ECHO", b"two")
                heard = {(event.data["name"], event.data["value"]) for event in [await anext(session) for _ in "ab"]}
                assert heard == {("ECHO", "one"), ("LOUD_ECHO", "two")}
                with pytest.raises(PeerProtocolError, match="NO_SUCH") as caught:
                    await session.send_event("NO_SUCH")
                assert caught.value.reason == "UNKNOWN_KIND"
            with pytest.raises(ConfigError, match="echo"):
                engine.pool("echo", kinds=["ECHO"], handler=echo)

    asyncio.run(main())


def test_a_batch_pool_answers_per_event() -> None:
    """One failing event of a batch does not fail its neighbours."""

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), Engine() as engine:

            @engine.pool("numbers", kinds=["NUMBER"], batch=True)
            async def squares(events: Sequence[EnvelopeView], contexts: Sequence[Context]) -> list[object]:
                return [_square(event) for event in events]

            async with engine.session("s1") as session:
                sends = [session.send_event("NUMBER", body) for body in (b"2", b"x", b"3")]
                await asyncio.gather(*sends)
                assert {event.data["value"] for event in [await anext(session) for _ in "ab"]} == {4, 9}
            dispatcher, _ = engine.statistics()
            assert (dispatcher.handled, dispatcher.failed) == (2, 1)

    asyncio.run(main())


def _square(event: EnvelopeView) -> object:
    try:
        return {"type": "CUSTOM", "name": "square", "value": int(event.body) ** 2}
    except ValueError as error:
        return error


def test_publish_reaches_who_listens() -> None:
    """By user, tenant and topic; another tenant hears nothing."""

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), Engine() as engine:
            ada = engine.session("a", user="ada", topics=["topic:news"])
            eve = engine.session("e", user="ada", tenant="other", topics=["topic:news"])
            async with ada, eve:
                assert await engine.publish("topic:news", b"1") == 1
                assert await engine.publish("user:ada", b"2") == 1
                assert await engine.publish("tenant", b"3", tenant="other") == 1
                assert [(await anext(ada)).body for _ in "ab"] == [b"1", b"2"]
                assert (await anext(eve)).body == b"3"

    asyncio.run(main())


def test_post_from_another_thread() -> None:
    """A thread sends a message and gets its receipt; before the start it is told to start."""

    async def main() -> None:
        engine = Engine()
        with pytest.raises(RuntimeUnavailable, match="async with"):
            engine.post("s1", "too early")
        async with asyncio.timeout(WITHIN_S), engine:
            engine.nlp.use(quick())
            receipts: list[Any] = []
            async with engine.session("s1") as session:
                thread = threading.Thread(target=lambda: receipts.append(engine.post("s1", "hi").result(WITHIN_S)))
                thread.start()
                async for event in session:
                    if event.ends_run:
                        break
                await asyncio.to_thread(thread.join)
            assert event.run == receipts[0].run

    asyncio.run(main())


def test_a_sqlite_engine_remembers(tmp_path: Path) -> None:
    """A second engine on the same file knows the conversation and gives it to the model."""

    async def main() -> None:
        for expected in (0, 2):
            async with Engine(store=tmp_path / "engine.db") as engine:
                engine.nlp.use(quick())
                async with asyncio.timeout(WITHIN_S), engine.session("s1") as session:
                    assert (await session.send("Remember me")).status == "durable"
                    events = []
                    async for event in session:
                        events.append(event)
                        if event.ends_run:
                            break
                    snapshots = [event for event in events if event.snapshot]
                    assert sum(len(event.data["messages"]) for event in snapshots) == expected

    asyncio.run(main())


def test_a_run_that_outlasts_the_close_is_drained() -> None:
    """Its session gets RUN_ERROR DRAINED before the iteration ends."""

    async def main() -> None:
        engine, model = Engine(), Endless()
        engine.nlp.use(model)
        await engine.start()
        session = engine.session("s1")
        seen: list[Event] = []

        async def read() -> None:
            seen.extend([event async for event in session])

        async with asyncio.timeout(WITHIN_S), session:
            await session.send("go on")
            reading = asyncio.create_task(read())
            await until(lambda: model.said > 0)
            await engine.close(0.05)
            await reading
        (error,) = [event for event in seen if event.kind == "RUN_ERROR"]
        assert error.data["code"] == "DRAINED"
        await engine.close()

    asyncio.run(main())


def test_a_model_that_hangs_on_closing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The store is closed all the same, and the log names who hung."""
    monkeypatch.setattr("laneway.engine.app.engine.close_patiently", partial(close_patiently, within_s=0.05))

    class Hanging(Endless):
        async def close(self) -> None:
            await asyncio.Event().wait()

    async def main() -> None:
        engine = Engine(store=tmp_path / "engine.db")
        async with asyncio.timeout(WITHIN_S), engine:
            engine.nlp.use(Hanging())
        assert "the model did not close" in caplog.text
        async with asyncio.timeout(WITHIN_S), Engine(store=tmp_path / "engine.db"):
            pass  # the file is free again

    asyncio.run(main())


def test_a_close_while_it_starts_leaves_nothing_open() -> None:
    """It waits for the start, and then closes what that has opened; nothing goes on behind it."""

    class SlowStore(MemoryStore):
        calls: list[str] = []  # noqa: RUF012
        go_on = asyncio.Event()

        async def open(self) -> None:
            self.calls.append("open")
            await self.go_on.wait()
            await super().open()
            self.calls.append("opened")

        async def close(self) -> None:
            self.calls.append("close")
            await super().close()

    async def main() -> None:
        store = SlowStore()
        engine = Engine(store=store)
        starting = asyncio.create_task(engine.start())
        await until(lambda: store.calls == ["open"])
        closing = asyncio.create_task(engine.close())
        await asyncio.sleep(0.01)
        store.go_on.set()
        await asyncio.gather(starting, closing)
        assert store.calls == ["open", "opened", "close"]
        assert engine.state == "stopped"
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})

    asyncio.run(main())


def test_an_engine_is_started_once() -> None:
    """Starting it again is a mistake that is named, also after its close."""

    async def main() -> None:
        engine = Engine()
        async with engine:
            with pytest.raises(LocalProtocolError, match="once"):
                await engine.start()
        with pytest.raises(LocalProtocolError, match="once"):
            await engine.start()

    asyncio.run(main())


def test_a_store_that_cannot_be_opened_fails_the_start(tmp_path: Path) -> None:
    """The error names the path, and nothing is left running."""
    (tmp_path / "file").write_text("not a directory")

    async def main() -> None:
        from laneway.routing.errors import StoreError

        with pytest.raises(StoreError, match="file"):
            await Engine(store=tmp_path / "file" / "engine.db").start()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_an_engine_that_was_never_started_closes_what_was_opened() -> None:
    """And cannot be started afterwards."""

    class Model(SyntheticModel):
        closed = 0

        async def close(self) -> None:
            self.closed += 1

    async def main() -> None:
        engine, model = Engine(), Model()
        engine.nlp.use(model)
        await engine.close()
        await engine.close()
        assert model.closed == 1
        with pytest.raises(LocalProtocolError, match="once"):
            await engine.start()

    asyncio.run(main())


def test_an_edge_serves_the_same_sessions() -> None:
    """A client over gRPC and an embedded session see the same run."""

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), Engine(Config()) as engine:
            engine.nlp.use(quick())
            edge = await engine.serve_grpc()
            async with engine.session("s1") as inside, Client(f"127.0.0.1:{edge.port}", session="s1") as outside:
                receipt = await outside.send("hello")
                texts = []
                for reader in (inside, outside):
                    text = ""
                    async for event in reader:
                        text += event.text
                        if event.ends_run:
                            assert event.run == receipt.run
                            break
                    texts.append(text)
                assert texts[0] == texts[1] == "".join(quick().words("s1", "hello"))

    asyncio.run(main())


def test_handlers_tools_and_models_may_be_named() -> None:
    """By import path, with the local runtime as with any other; the whole run works."""

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), Engine() as engine:
            assert engine.pool("echo", ["ECHO"], f"{shop.__name__}:echo", placement="hosts", hosts=3) is shop.echo
            engine.tools.add(f"{shop.__name__}:price")
            engine.nlp.use(f"{shop.__name__}:make_model")
            async with engine.session("s1") as session:
                await session.send_event("ECHO", b"hello")
                assert (await anext(session)).body == b"hello"
            assert (await answer(engine))[-1].kind == "RUN_FINISHED"
            assert (await answer(engine, name="s2"))[-1].kind == "RUN_FINISHED"
            assert engine.registrations().pools == ()

    asyncio.run(main())
