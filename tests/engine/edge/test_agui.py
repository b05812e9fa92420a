"""`POST /agui` over a real engine, as ASGI in memory: statuses, headers, endings, who leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import ag_ui.core as agui

from laneway.engine.app.serving import EngineGateway
from laneway.engine.edge.agui import AguiPolicy, agui_endpoints
from laneway.engine.edge.asgi import Asgi
from laneway.engine.edge.streams import Streams
from laneway.routing.errors import Draining
from tests.engine.edge.agui_rules import check_run, parsed
from tests.engine.edge.driver import Answer, Call, app, ask, scope
from tests.engine.edge.test_agui_link import SAID, Counting, served

HEADERS = {"content-type": "application/json", "accept": "text/event-stream"}


def body(run: str = "r1", **fields: Any) -> bytes:
    said = [{"id": "q", "role": "user", "content": "hi"}]
    return json.dumps({"threadId": "t1", "runId": run, "messages": said} | fields).encode()


def posted(test: Callable[[Asgi, Counting], Awaitable[None]], streams: int = 10, **policy: Any) -> None:
    """Run a test against the routes."""

    async def main() -> None:
        async with served() as (engine, model):
            book = Streams(streams, streams)
            routes = agui_endpoints(EngineGateway(engine), book, AguiPolicy(**policy))
            await test(app(*routes, streams=book), model)

    asyncio.run(main())


async def run_of(application: Asgi, run: str = "r1", path: str = "/agui", **headers: str) -> Answer:
    return await ask(application, "POST", path, HEADERS | headers, body(run))


def text_of(answer: Answer) -> str:
    return "".join(event.get("delta", "") for _, event in parsed(answer.body))


async def until(call: Call, word: bytes) -> None:
    """Read the answer until `word` shows."""
    while word not in (await call.next()).get("body", b""):
        pass


def test_a_run_is_one_answer() -> None:
    """200, an event stream that nobody may buffer or cache, whole, one id per event."""

    async def test(application: Asgi, model: Counting) -> None:
        answer = await run_of(application)
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert (answer.headers["x-accel-buffering"], answer.headers["cache-control"]) == ("no", "no-store")
        events = parsed(answer.body)
        check_run([event for _, event in events])
        assert text_of(answer) == SAID
        assert len({place for place, _ in events}) == len(events)

    posted(test)


def test_a_repeated_request_goes_on_after_the_last_event_id() -> None:
    """Without the header it begins at the beginning; either way nothing runs twice."""

    async def test(application: Asgi, model: Counting) -> None:
        whole = parsed((await run_of(application)).body)
        more = parsed((await run_of(application, **{"last-event-id": whole[3][0]})).body)
        assert more[-1][1] == whole[-1][1]
        assert "".join(e.get("delta", "") for _, e in whole[:4] + more) == SAID
        assert text_of(await run_of(application)) == SAID
        assert model.runs == 1

    posted(test)


def test_who_has_everything_of_a_run_is_told_its_end_again() -> None:
    """A Last-Event-ID at the run's end, or behind it: the answer ends, as the one before did."""

    async def test(application: Asgi, model: Counting) -> None:
        whole = parsed((await run_of(application)).body)
        async with asyncio.timeout(60):
            again = parsed((await run_of(application, **{"last-event-id": whole[-1][0]})).body)
            await run_of(application, run="another")
            epoch, urgent, data = whole[-1][0].split(".")
            behind = f"{epoch}.{urgent}.{int(data) + 2}"
            later = parsed((await run_of(application, **{"last-event-id": behind})).body)
        assert [event for _, event in again] == [event for _, event in later] == [whole[-1][1]]
        assert again[0][0] == whole[-1][0]
        assert model.runs == 2

    posted(test)


def test_what_cannot_be_served_is_a_status_and_runs_nothing() -> None:
    """Each with our error document, before the stream."""

    async def test(application: Asgi, model: Counting) -> None:
        for status, method, path, headers, sent in (
            (400, "POST", "/agui", {}, b"{}"),
            (400, "POST", "/agui", {}, b"not json"),
            (400, "POST", "/agui", {"last-event-id": "junk"}, body()),
            (400, "POST", "/agui?on_disconnect=explode", {}, body()),
            (404, "POST", "/agui/nobody", {}, body()),
            (405, "GET", "/agui", {}, b""),
            (405, "PUT", "/agui", {}, b""),
            (409, "POST", "/agui", {"last-event-id": "another.0.1"}, body()),
            (413, "POST", "/agui", {}, body(state="x" * 2_000_000)),
        ):
            answer = await ask(application, method, path, HEADERS | headers, sent)
            assert answer.status == status, (path, sent[:80], answer)
            assert answer.json["message"]
        assert "POST" in (await ask(application, "GET", "/agui", {})).json["message"]
        assert model.runs == 0
        assert (await run_of(application, path="/agui/sales")).status == 200

    posted(test, agents=("sales",))


def test_too_many_streams_are_refused_with_a_delay() -> None:
    """The run is not asked for; once there is room it is."""

    async def test(application: Asgi, model: Counting) -> None:
        model.go.clear()
        first = Call(application, scope("POST", "/agui", HEADERS))
        first.feed(body())
        await until(first, b"delta")
        refused = await run_of(application, "r2")
        assert refused.status in (429, 503)
        assert int(refused.headers["retry-after"]) >= 1
        model.go.set()
        await first.task
        assert model.runs == 1
        assert (await run_of(application, "r2")).status == 200

    posted(test, streams=1)


def test_a_run_goes_on_without_its_client() -> None:
    """A disconnect is no cancel: the answer is there when the client comes back."""

    async def test(application: Asgi, model: Counting) -> None:
        model.go.clear()
        call = Call(application, scope("POST", "/agui", HEADERS))
        call.feed(body())
        await until(call, b"delta")
        call.leave()
        await call.task
        model.go.set()
        assert text_of(await run_of(application)) == SAID
        assert model.runs == 1

    posted(test)


def test_a_client_may_ask_that_its_run_ends_with_it() -> None:
    """By the URL, or for all clients by the policy."""

    async def test(application: Asgi, model: Counting, path: str = "/agui?on_disconnect=cancel") -> None:
        model.go.clear()
        call = Call(application, scope("POST", path, HEADERS))
        call.feed(body())
        await until(call, b"delta")
        call.leave()
        await call.task
        (*_, (_, last)) = parsed((await run_of(application)).body)
        assert last["metadata"] == {"finishedReason": "cancelled"}

    posted(test)
    posted(lambda application, model: test(application, model, "/agui"), on_disconnect="cancel")


def test_silence_is_filled_with_comments() -> None:
    """So that nothing between takes the connection for dead; clients skip them."""

    async def test(application: Asgi, model: Counting) -> None:
        model.go.clear()
        call = Call(application, scope("POST", "/agui", HEADERS))
        call.feed(body())
        await until(call, b": ping\n\n")
        await until(call, b": ping\n\n")
        model.go.set()
        await call.task

    posted(test, ping_s=0.01)


def test_a_drain_resets_the_connection_instead_of_ending_the_stream() -> None:
    """A stream that merely ends would pass for success with a stock client."""

    async def test(application: Asgi, model: Counting) -> None:
        model.go.clear()
        aborted = asyncio.Event()
        call = Call(application, scope("POST", "/agui", HEADERS, extensions={"laneway.abort": aborted.set}))
        call.feed(body())
        await until(call, b"delta")
        await application.drain(0.0)
        await call.task
        assert aborted.is_set()
        assert (await run_of(application, "r2")).json["code"] == Draining.code
        model.go.set()

    posted(test)


def test_a_client_that_does_not_read_is_cut_off() -> None:
    """After the stall bound; its run goes on."""

    async def test(application: Asgi, model: Counting) -> None:
        aborted = asyncio.Event()
        call = Call(application, scope("POST", "/agui", HEADERS, extensions={"laneway.abort": aborted.set}))
        model.go.clear()
        call.feed(body())
        await until(call, b"delta")
        call.flowing.clear()
        model.go.set()
        await call.task
        assert aborted.is_set()
        assert text_of(await run_of(application)) == SAID

    posted(test, stall_s=0.05)


def test_capabilities_are_the_protocols_shape() -> None:
    """Resumable, and what the edge itself decides; no field that AG-UI lacks."""

    async def test(application: Asgi, model: Counting) -> None:
        told = (await ask(application, "GET", "/agui/capabilities", {})).json
        read = agui.AgentCapabilities.model_validate(told)
        assert read.transport is not None
        assert read.transport.resumable is True
        assert read.model_dump(by_alias=True, exclude_none=True) == told
        assert told["custom"]["agents"] == ["sales"]

    posted(test, agents=("sales",))
