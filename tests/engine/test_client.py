"""The Python client against a real edge, through a network that breaks."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import nan
from typing import Any

import jwt
import pytest

from laneway.engine.client import Client, Receipt
from laneway.engine.delivery import Event
from laneway.engine.edge.auth import JwtAuthenticator, JwtPolicy
from laneway.engine.edge.grpc import GrpcEdge, GrpcPolicy
from laneway.engine.edge.stream import StreamPolicy
from laneway.engine.testing.proxy import Proxy
from laneway.routing.backoff import Backoff
from laneway.routing.errors import (
    AccessError,
    ConfigError,
    LanewayError,
    LinkClosed,
    LocalProtocolError,
    PeerProtocolError,
    RateLimited,
    RuntimeUnavailable,
    Superseded,
    TokenInvalid,
)
from tests.engine.edge.double import Engine
from tests.engine.edge.rawclient import edge

SECRET = "k" * 32


def quick() -> Backoff:
    return Backoff(lambda: 0.5, base_s=0.02, cap_s=0.1)


def client(target: str, **options: Any) -> Client:
    options.setdefault("session", "s1")
    return Client(target, backoff=quick(), **options)


async def until_finished(reader: Client, runs: int = 1) -> list[Event]:
    """Read events up to and with the given number of RUN_FINISHED."""
    events: list[Event] = []
    async with asyncio.timeout(30):
        async for event in reader:
            events.append(event)
            runs -= event.kind == "RUN_FINISHED"
            if not runs:
                break
    return events


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if event.kind == "TEXT_MESSAGE_CONTENT")


def flood(count: int) -> str:
    return "".join(f"{n:099d} " for n in range(count))


async def until(true: Callable[[], object]) -> None:
    """Look until something is true that tells nobody."""
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 (a state, not an event)
            await asyncio.sleep(0.005)


async def connected_again(ada: Client, *, live: bool) -> None:
    """Wait until the client has given up its first connection (and has another)."""
    await until(lambda: ada.reconnects and (ada.connected or not live))


@asynccontextmanager
async def behind_a_proxy(**options: Any) -> AsyncIterator[tuple[Proxy, Engine, GrpcEdge]]:
    async with edge(**options) as (server, engine, _), Proxy(server.port) as proxy:
        yield proxy, engine, server


def test_a_conversation() -> None:
    """A message gets its receipt, its run's events come in order, and closing is clean."""

    async def main() -> None:
        async with edge() as (_, engine, target):
            async with client(target, client_id="ada") as ada:
                assert ada.welcome["resume"] == "new"
                receipt = await ada.send("hello to you")
                assert (receipt.id, receipt.status, receipt.run) == ("ada:1", "volatile", "ada-1")
                events = await until_finished(ada)
                assert text_of(events) == "hello to you "
                assert [events[0].kind, events[-1].kind] == ["RUN_STARTED", "RUN_FINISHED"]
                assert {event.run for event in events} == {"ada-1"}
            assert engine.session("s1").attachments == {}
            with pytest.raises(LinkClosed):
                await ada.send("too late")
            assert [event async for event in ada] == []

    asyncio.run(main())


def test_what_cannot_be_sent_ends_nothing() -> None:
    """It is refused where it is said; the client, and what others send by it, goes on over the same connection."""

    async def main() -> None:
        async with edge() as (_, _, target), client(target, client_id="ada") as ada:
            for wrong in ({"run": "two words"}, {"entity": "x" * 129}, {"after": "\ud800:1"}, {"deadline_s": nan}):
                with pytest.raises(LocalProtocolError):
                    await ada.send_event("USER_MESSAGE", b"hello", **wrong)  # type: ignore[arg-type]
            with pytest.raises(LocalProtocolError):
                await ada.send_events("USER_MESSAGE", [b"hello"], run="two words")
            receipt = await ada.send("hello to you")
            assert (receipt.id, ada.reconnects) == ("ada:1", 0)

    asyncio.run(main())


def test_a_client_that_is_closed_has_closed_its_connections() -> None:
    """At once, the broken one before the last too, whoever keeps the client; no garbage collection is needed."""

    async def main() -> None:
        async with behind_a_proxy() as (proxy, _, _):
            async with client(proxy.target) as ada:
                proxy.cut()
                await connected_again(ada, live=True)
                await until(lambda: proxy.open == 1)
            await until(lambda: not proxy.open)

    gc.collect()
    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()


def test_the_longest_ids_can_send() -> None:
    """A message's run, named after client and counter, is an id even with the last counter."""

    async def main() -> None:
        name, last = "c" * 40, 2**63 - 1
        async with (
            edge() as (_, _, target),
            client(target, session="s" * 64, client_id=name, first_counter=last) as ada,
        ):
            assert (await ada.send("hi")).run == f"{name}-{last}"
            assert text_of(await until_finished(ada)) == "hi "

    asyncio.run(main())


def test_events_have_their_agui_form_on_demand() -> None:
    """`.data` is the AG-UI event with its type; `.body` stays what travelled."""

    async def main() -> None:
        async with edge() as (_, _, target), client(target) as ada:
            await ada.send("hi", run="r1")
            started, delta, _finished = await until_finished(ada)
            assert started.data["type"] == "RUN_STARTED"
            assert started.data["runId"] == "r1"
            assert (delta.data["type"], delta.data["delta"]) == ("TEXT_MESSAGE_CONTENT", "hi ")

    asyncio.run(main())


def test_every_client_of_a_session_gets_everything() -> None:
    """Two clients read the same events; each has its own place."""

    async def main() -> None:
        async with edge() as (_, _, target), client(target) as one, client(target) as two:
            await one.send("to all")
            first, second = await asyncio.gather(until_finished(one), until_finished(two))
            assert text_of(first) == text_of(second) == "to all "

    asyncio.run(main())


def test_cuts_in_the_middle_of_a_delta_change_nothing() -> None:
    """The text after many connection resets equals an undisturbed run's, byte for byte."""

    async def main() -> None:
        async with behind_a_proxy() as (proxy, _, _), client(proxy.target) as ada:
            proxy.cut_after(40_000)
            await ada.send("flood 4000")
            digest, size = hashlib.sha256(), 0
            async with asyncio.timeout(60):
                async for event in ada:
                    if event.kind == "TEXT_MESSAGE_CONTENT":
                        digest.update(event.body)
                        size += len(event.body)
                        if size // 60_000 > ada.reconnects and proxy._cut_after is None:
                            proxy.cut_after(7_777)
                    elif event.kind == "RUN_FINISHED":
                        break
            assert digest.hexdigest() == hashlib.sha256(flood(4000).encode()).hexdigest()
            assert ada.reconnects >= 3
            assert ada.welcome["resume"] == "resumed"

    asyncio.run(main())


def test_sends_are_answered_once_whatever_breaks() -> None:
    """Messages sent while connections die are each handled exactly once, and each sender gets a receipt."""

    async def main() -> None:
        async with behind_a_proxy() as (proxy, engine, _), client(proxy.target, client_id="ada") as ada:

            async def drink() -> None:
                async for _ in ada:
                    pass

            drinking = asyncio.create_task(drink())
            sends = []
            for index in range(60):
                sends.append(asyncio.create_task(ada.send(f"message {index}")))
                await asyncio.sleep(0.005)
                if index % 10 == 5:
                    await until(lambda: ada.connected)  # else there is nothing to cut
                    proxy.cut()
            async with asyncio.timeout(30):
                receipts = await asyncio.gather(*sends)
            assert {receipt.status for receipt in receipts} <= {"volatile", "duplicate"}
            handled = sorted(env[1] for env in engine.session("s1").handled)
            assert handled == list(range(1, 61))
            assert ada.reconnects >= 2
            await ada.close()
            await drinking

    asyncio.run(main())


def test_events_sent_together_have_an_answer_each() -> None:
    """In order; those that are refused for now are offered again, and a wrong one fails no other."""

    async def main() -> None:
        async with edge() as (_, engine, target), client(target, client_id="ada") as ada:
            session = engine.session("s1")
            session.refuse_next = 3
            receipts = await ada.send_events("PRESENCE", [b"%d" % number for number in range(150)], entity="doc")
            assert [receipt.id for receipt in receipts if isinstance(receipt, Receipt)] == [
                f"ada:{counter}" for counter in range(1, 151)
            ]
            assert sorted(env[1] for env in session.handled) == list(range(1, 151))
            assert [type(answer) for answer in await ada.send_events("STATE_SNAPSHOT", [b"\x80"] * 2)] == [
                AccessError
            ] * 2
            with pytest.raises(LocalProtocolError):
                await ada.send_events("PRESENCE", [b"", bytes(2_000_000)])
            assert await ada.send_events("PRESENCE", []) == []
            assert ada.next_counter == 153

    asyncio.run(main())


def test_an_application_that_stops_reading_stops_the_producer() -> None:
    """Nothing is granted beyond the window while nobody reads; everything comes once somebody does."""

    async def main() -> None:
        async with edge() as (_, engine, target), client(target) as ada:
            await ada.send("flood 5000")
            ring = engine.session("s1").rings[1]
            seen = -1
            while seen != ring.head:
                seen = ring.head
                await asyncio.sleep(0.3)
            assert ring.head_position <= 3 * 65_536
            assert text_of(await until_finished(ada)) == flood(5000)

    asyncio.run(main())


def test_refusals_with_a_delay_are_retried_and_others_are_raised() -> None:
    """RATE_LIMITED is offered again after its delay, a bounded number of times; PERMISSION_DENIED is not."""

    async def main() -> None:
        async with edge() as (_, engine, target), client(target) as ada:
            session = engine.session("s1")
            session.refuse_next = 3
            assert (await ada.send("again")).status == "volatile"
            session.refuse_next = 99
            with pytest.raises(RateLimited) as caught:
                await ada.send("never")
            assert caught.value.retry_after_ms == 5
            assert session.refuse_next == 94
            session.refuse_next = 0
            with pytest.raises(AccessError):
                await ada.send_event("STATE_SNAPSHOT", b"\x80")
            with pytest.raises(LocalProtocolError):
                await ada.send_event("PUBLISH", bytes(2_000_000))
            assert await ada.send("fine")

    asyncio.run(main())


def test_a_newer_link_of_the_same_client_takes_over() -> None:
    """The older client does not fight: its reader and its senders get SUPERSEDED."""

    async def main() -> None:
        async with (
            edge() as (_, _, target),
            client(target, client_id="ada") as older,
            client(target, client_id="ada"),
        ):
            with pytest.raises(Superseded):
                await anext(older)
            with pytest.raises(Superseded):
                await older.send("hello?")

    asyncio.run(main())


def test_entering_says_what_is_wrong() -> None:
    """Bad credentials, nobody there, and unusable ids are told at once."""

    async def main() -> None:
        policy = JwtPolicy(audience="engine", issuer="us", algorithms=("HS256",))
        async with edge(authenticate=JwtAuthenticator({"": SECRET}, policy)) as (_, _, target):
            with pytest.raises(TokenInvalid):
                await client(target, token="a.b.c").__aenter__()
            with pytest.raises(TokenInvalid):
                await client(target, token="a.b.c").call("status")
        with pytest.raises(RuntimeUnavailable):
            await client(target, connect_s=0.3).__aenter__()
        for name in ("", "a/b", "..", "x" * 65):
            with pytest.raises(ConfigError, match="session"):
                Client("127.0.0.1:1", session=name)
        with pytest.raises(ConfigError, match=r"client_id .* 1 to 40"):
            Client("127.0.0.1:1", client_id="x" * 41)

    asyncio.run(main())


def test_a_client_renews_its_credentials() -> None:
    """When its token ends, a client with a token function reconnects with a fresh one, without a hole."""

    async def main() -> None:
        policy = JwtPolicy(audience="engine", issuer="us", algorithms=("HS256",))
        hook = JwtAuthenticator({"": SECRET}, policy)
        made = 0

        async def fresh() -> str:
            nonlocal made
            made += 1
            now = time.time()
            claims = {
                "sub": "ada",
                "aud": "engine",
                "iss": "us",
                "iat": now - 60,
                "exp": now + (0.5 if made < 3 else 60),
            }
            return jwt.encode(claims, SECRET)

        grace = GrpcPolicy(stream=StreamPolicy(expiry_grace_s=5))
        async with edge(authenticate=hook, policy=grace) as (_, _, target), client(target, token=fresh) as ada:
            text = ""
            async with asyncio.timeout(60):
                while made < 3:
                    await ada.send("more and more")
                    text += text_of(await until_finished(ada))
            assert ada.reconnects >= 2
            assert text == "more and more " * (len(text) // 14)

    asyncio.run(main())


def test_a_restarted_edge_is_found_again() -> None:
    """A drained edge sends its clients away; they come back to the next one and resume."""

    async def main() -> None:
        engine = Engine()
        async with (
            edge(engine, jitter=lambda: 0.0) as (server, _, _),
            Proxy(server.port) as proxy,
            client(proxy.target) as ada,
        ):
            await ada.send("before")
            assert text_of(await until_finished(ada)) == "before "
            async with edge(engine) as (successor, _, _):
                proxy.retarget(successor.port)
                await server.drain(5)
                assert (await ada.send("after")).status == "volatile"
                assert text_of(await until_finished(ada)) == "after "
                assert ada.reconnects >= 1
                assert ada.welcome["resume"] == "resumed"

    asyncio.run(main())


def test_a_frozen_network_is_noticed() -> None:
    """Silence ends the connection after dead_after_s, and the next one resumes."""

    async def main() -> None:
        async with (
            behind_a_proxy() as (proxy, _, _),
            client(proxy.target, heartbeat_s=1.0, dead_after_s=1.2) as ada,
        ):
            proxy.stall()
            sending = asyncio.create_task(ada.send("through the ice"))
            await connected_again(ada, live=False)
            proxy.resume()
            await sending
            assert text_of(await until_finished(ada)) == "through the ice "

    asyncio.run(main())


def test_a_failed_resume_starts_anew() -> None:
    """Another epoch: the client goes on from where the engine says, with the news in its welcome."""

    async def main() -> None:
        async with behind_a_proxy() as (proxy, engine, _), client(proxy.target) as ada:
            await ada.send("old")
            await until_finished(ada)
            engine.session("s1").epoch = "another"
            proxy.cut()
            await connected_again(ada, live=True)
            assert (ada.welcome["resume"], ada.welcome["reason"]) == ("failed", "EPOCH_MISMATCH")
            await ada.send("new")
            assert text_of(await until_finished(ada)) == "new "
            assert ada.cursor.epoch == "another"

    asyncio.run(main())


def test_a_later_process_goes_on_where_the_former_stopped() -> None:
    """Cursor and counter carry over: nothing is missed and nothing is repeated."""

    async def main() -> None:
        async with edge() as (_, engine, target):
            async with client(target, client_id="ada") as ada:
                await ada.send("one")
                await until_finished(ada)
                cursor, counter = ada.cursor, ada.next_counter
            await engine.session("s1").emit("TEXT_MESSAGE_CONTENT", b"meanwhile", "m", "r")
            async with client(target, client_id="ada", cursor=cursor, first_counter=counter) as ada:
                assert ada.welcome["resume"] == "resumed"
                assert (await anext(ada)).text == "meanwhile"
                assert (await ada.send("two")).id == f"ada:{counter}"

    asyncio.run(main())


def test_an_urgent_error_overtakes_and_voids_the_rest_of_its_run() -> None:
    """RUN_ERROR comes at once; its run's data behind it is not given to the application."""

    async def main() -> None:
        async with edge() as (_, _, target), client(target) as ada:
            await ada.send("boom")
            kinds = []
            async for event in ada:
                kinds.append(event.kind)
                if event.kind == "RUN_ERROR":
                    break
            assert kinds[-1] == "RUN_ERROR"

    asyncio.run(main())


def test_failures_outside_of_runs_are_handed_over() -> None:
    """`on_failure` gets the receipt's id and the error, and the connection lives on, whatever the error's code."""

    async def main() -> None:
        failures: asyncio.Queue[tuple[str, LanewayError]] = asyncio.Queue()

        def take(event_id: str, error: LanewayError) -> None:
            failures.put_nowait((event_id, error))

        async with edge() as (_, engine, target), client(target, client_id="ada", on_failure=take) as ada:
            receipt = await ada.publish("topic:news", b"x")
            failed = {"code": "DRAINING", "message": "no time left", "retryable": True, "counter": 1}
            engine.session("s1").attachments["ada"].tell(notice=failed)
            async with asyncio.timeout(60):
                event_id, error = await failures.get()
            assert (event_id, error.code, error.message) == (receipt.id, "DRAINING", "no time left")
            assert await ada.send("still here")
            assert ada.reconnects == 0

    asyncio.run(main())


def test_tools_and_calls() -> None:
    """A tool call waits for its result event; a unary call answers; an unknown one is typed."""

    async def main() -> None:
        async with edge() as (_, _, target), client(target) as ada:
            result = await ada.call_tool("echo", {"x": 1}, call_id="t1")
            assert result["content"] == '"done"'
            assert (await ada.call("status", items=[b"x"]))["items"] == 1
            with pytest.raises(PeerProtocolError):
                await ada.call("unknown")

    asyncio.run(main())


def test_control_events() -> None:
    """Interrupt, cancel and publish reach the engine with their addresses."""

    async def main() -> None:
        async with edge() as (_, engine, target), client(target) as ada:
            await ada.interrupt("r7")
            await ada.cancel("ada:3")
            await ada.publish("topic:news", b"x")
            handled = [(env[2], env[5], env[6]) for env in engine.session("s1").handled]
            assert handled == [("INTERRUPT", "r7", ""), ("CANCEL", "", "ada:3"), ("PUBLISH", "", "topic:news")]

    asyncio.run(main())


def test_nothing_is_left_running() -> None:
    """After closing, connected or not, no task of the client is alive."""

    async def main() -> None:
        async with edge() as (_, _, target):
            async with client(target) as ada:
                await ada.send("hi")
            await ada.close()
            before = asyncio.all_tasks()
        with pytest.raises(RuntimeUnavailable):
            await client("127.0.0.1:1", connect_s=0.2).__aenter__()
        assert not [task for task in asyncio.all_tasks() - before if "Client" in repr(task)]

    asyncio.run(main())


def test_wishes_shape_the_link_and_whole_sentences_come_whole() -> None:
    """Chunk sizes, and `hold: sentence` for speech: the plan says what came of them, and text comes by sentences."""

    async def main() -> None:
        wishes = {"hold": "sentence", "chunk_chars": 32, "flush_ms": 5}
        async with edge() as (_, _, target), client(target, wishes=wishes) as ada:
            plan = ada.welcome["plan"]
            assert (plan["hold_sentence"], plan["chunk_chars"], plan["flush_s"]) == (True, 32, 0.005)
            assert dict(ada.quality) == {"grade": "good", "chunk_chars": 32, "flush_s": 0.005}
            await ada.send("It is 3.14 in all. Is that so? Yes")
            heard = [event.text for event in await until_finished(ada) if event.kind == "TEXT_MESSAGE_CONTENT"]
            assert "".join(heard) == "It is 3.14 in all. Is that so? Yes "
            assert heard[0].startswith("It is 3.14 in all. ")

    asyncio.run(main())
