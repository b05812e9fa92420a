"""The unary calls, asked by a client over a real edge."""

from __future__ import annotations

import asyncio

import pytest

from laneway import Engine, Principal
from laneway.actors.ports import DeadLetter
from laneway.engine.app.packing import LogPacking
from laneway.engine.client import Client
from laneway.engine.codec import pack_envelope
from laneway.routing.envelope import envelope
from laneway.routing.errors import AccessError, PeerProtocolError, UnknownTool

WITHIN_S = 60.0


async def weather(city: str) -> str:
    """Today's weather."""
    return f"sunny in {city}"


def test_tools_status_and_tail() -> None:
    """Each answers with plain data."""

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), Engine() as engine:
            engine.tools.add(weather)
            edge = await engine.serve_grpc()
            async with Client(f"127.0.0.1:{edge.port}", session="s1") as client:
                (row,) = await client.tools()
                assert row["name"] == "weather"
                assert "city" in row["schema"]["properties"]
                result = await client.call_tool("weather", {"city": "Oslo"})
                assert "sunny in Oslo" in result["content"]
                status = await client.call("status")
                assert status["dispatcher"]["handled"] == 1
                assert status["sessions"]["links"] == 1
                metrics = await client.call("metrics")
                assert 'laneway_tool_calls_total{result="OK"} 1\n' in metrics
                tailed = await client.call("tail", kinds=["TOOL_CALL"])
                assert [event["session"] for event in tailed["events"]] == ["s1"]
                assert (await client.call("tail", after=tailed["last"]))["events"] == []

    asyncio.run(main())


def test_publish_needs_one_item() -> None:
    """And answers how many sessions took it."""

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), Engine() as engine:
            edge = await engine.serve_grpc()
            async with Client(f"127.0.0.1:{edge.port}", session="s1", topics=["topic:x"]) as client:
                answered = await client.call("publish", topic="topic:x", items=[b"news"])
                assert answered == 1
                assert (await anext(client)).body == b"news"
                with pytest.raises(PeerProtocolError, match="exactly one item"):
                    await client.call("publish", topic="topic:x")

    asyncio.run(main())


def test_dead_letters_are_listed_dropped_and_redriven() -> None:
    """What is redriven runs again; what is refused stays a dead letter."""

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), Engine() as engine:
            handled = asyncio.Event()

            @engine.pool("work", kinds=["WORK"])
            async def work(event: object, context: object) -> None:
                handled.set()

            for counter in (1, 2):
                env = envelope("WORK", producer="p", counter=counter, tenant="default", session="s1", lane=2)
                packed = pack_envelope(env, 0.0, engine.kinds)
                await engine.store.bury(DeadLetter(0, "default", "s1", "POISON", "died", 3, packed, 0.0))
            admin = Principal("root", scopes=frozenset({"admin"}))
            rows = await engine.calls("dlq", {}, (), admin)
            ids = sorted(row["id"] for row in rows)
            assert all(row["code"] == "POISON" and row["bytes"] > 0 for row in rows)
            dropped = await engine.calls("dlq", {"action": "drop", "ids": ids[:1]}, (), admin)
            assert [row["id"] for row in dropped] == ids[:1]
            await engine.calls("dlq", {"action": "redrive", "ids": ids[1:]}, (), admin)
            await handled.wait()
            assert await engine.calls("dlq", {}, (), admin) == []

    asyncio.run(main())


def test_long_answers_reach_an_operator() -> None:
    """A hundred dead letters with long messages, and a catalogue of as many tools, fit into an answer."""

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), Engine() as engine:
            for number in range(100):
                await engine.store.bury(DeadLetter(0, "default", "s1", "POISON", "m" * 1000, 3, b"", 0.0))
                engine.tools.add(_echo, name=f"tool_{number}", description="d" * 1000)
            edge = await engine.serve_grpc()
            async with Client(f"127.0.0.1:{edge.port}", session="s1") as client:
                assert len(await client.call("dlq")) == 100
                assert len(await client.tools()) == 100

    asyncio.run(main())


async def _echo(text: str) -> str:
    """Give back what came."""
    return text


def test_what_cannot_be_redriven_stays_a_dead_letter() -> None:
    """A kind that nobody knows any more: the error is told, and nothing is lost."""

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), Engine() as engine:
            for kind, counter in (("WORK", 1), ("GONE", 2), ("WORK", 3)):
                env = envelope(kind, producer="p", counter=counter, tenant="default", session="s1", lane=2)
                packed = LogPacking(engine.kinds).pack(env, 0.0)
                await engine.store.bury(DeadLetter(0, "default", "s1", "POISON", "died", 3, packed, 0.0))

            @engine.pool("work", kinds=["WORK"])
            async def work(event: object, context: object) -> None:
                """Succeed."""

            admin = Principal("root", scopes=frozenset({"admin"}))
            ids = sorted(letter.id for letter in await engine.store.dead())
            with pytest.raises(PeerProtocolError, match="GONE"):
                await engine.calls("dlq", {"action": "redrive", "ids": ids}, (), admin)
            assert len(await engine.store.dead()) == 2

    asyncio.run(main())


def test_admin_calls_need_the_scope() -> None:
    """And unknown names and bad fields are the caller's error."""

    async def main() -> None:
        async with Engine() as engine:
            guest = Principal("guest")
            for name in ("status", "metrics", "tail", "dlq"):
                with pytest.raises(AccessError, match="admin"):
                    await engine.calls(name, {}, (), guest)
            with pytest.raises(PeerProtocolError, match="known: dlq, metrics"):
                await engine.calls("nope", {}, (), guest)

    asyncio.run(main())


@pytest.mark.parametrize(
    "header",
    [
        {"after": "1"},
        {"after": True},
        {"engine": 1},
        {"kinds": "A"},
        {"runs": [1]},
        {"sessions": [""]},
        {"tenants": ["x"] * 17},
        {"kinds": ["x" * 129]},
        {"lanes": ["urgent"]},
        {"direction": "up"},
        {"direction": ["in"]},
        {"min_bytes": -1},
        {"min_bytes": True},
    ],
    ids=str,
)
def test_a_tail_that_asks_wrongly_is_told_so(header: dict[str, object]) -> None:
    """A wrong type or an unknown name is the caller's error, and names the field."""

    async def main() -> None:
        async with Engine() as engine:
            admin = Principal("root", scopes=frozenset({"admin"}))
            with pytest.raises(PeerProtocolError, match=f"`{next(iter(header))}`"):
                await engine.calls("tail", header, (), admin)

    asyncio.run(main())


def test_an_unknown_tool_is_an_answer() -> None:
    """A tool call from a client that names no tool ends as a result with its code."""

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), Engine() as engine:
            edge = await engine.serve_grpc()
            async with Client(f"127.0.0.1:{edge.port}", session="s1") as client:
                result = await client.call_tool("nope", {})
                assert UnknownTool.code in str(result)

    asyncio.run(main())
