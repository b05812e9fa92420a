"""The handler of TOOL_CALL, from body to answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import msgpack
import pytest

from laneway.actors.ports import Context, Observe, Out, Principal, Record, ToolSpec
from laneway.actors.spans import SILENT, Span, SpanValue
from laneway.actors.tools.calls import MAX_RESULT_BYTES, ToolCalls
from laneway.actors.tools.catalogue import Catalogue
from laneway.actors.tools.desk import Effect
from laneway.actors.tools.ledger import Ledger
from laneway.actors.tools.limiter import LimiterPolicy
from laneway.routing.aimd import AimdPolicy
from laneway.routing.envelope import Envelope, envelope
from laneway.routing.errors import ToolArguments, ToolTimeout, ToolUnavailable


class LoopClock:
    def now(self) -> float:
        return asyncio.get_running_loop().time()


class Counts:
    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, str]]] = []

    def count(self, name: str, value: int = 1, **labels: str) -> None:
        self.seen.append((name, labels))

    def observe(self, name: str, value: float, **labels: str) -> None:
        self.seen.append((name, labels))

    def histogram(self, name: str, **labels: str) -> Observe:
        return lambda value, times=1: self.observe(name, value, **labels)


class Notebook:
    def __init__(self) -> None:
        self.values: dict[str, tuple[int, bytes]] = {}

    async def get(self, key: str) -> Record:
        return Record(*self.values.get(key, (0, b"")))

    async def put(self, key: str, value: bytes, *, version: int | None = None, ttl_s: float | None = None) -> int:
        current = self.values.get(key, (0, b""))[0]
        if version is not None and version != current:
            return 0
        self.values[key] = (current + 1, value)
        return current + 1


class Tool:
    """A tool whose behaviour a test writes down as a coroutine function."""

    def __init__(self, act: Callable[[Mapping[str, Any]], Awaitable[str]], **spec: Any) -> None:
        self.spec = ToolSpec("act", "", {}, **spec)
        self.runs = 0
        self._act = act

    def prepare(self, arguments: Mapping[str, Any]) -> Effect:
        if "bad" in arguments:
            raise ToolArguments("`bad` is not taken", reason="bad")
        return partial(self.invoke, arguments)

    async def invoke(self, arguments: Mapping[str, Any], context: Context) -> str:
        self.runs += 1
        return await self._act(arguments)


class Ctx:
    """The parts of a context this handler uses."""

    def __init__(self, scopes: frozenset[str] = frozenset(), deadline: float = float("inf")) -> None:
        self.principal = Principal("ann", scopes=scopes)
        self.deadline = deadline
        self.outs: list[Out] = []

    def span(self, name: str, kind: str = "internal", **attributes: SpanValue) -> AbstractContextManager[Span]:
        return nullcontext(SILENT)

    async def emit(self, out: Out) -> None:
        self.outs.append(out)

    async def emit_all(self, outs: Sequence[Out]) -> None:
        self.outs.extend(outs)


class Bench:
    """One handler over one tool, as the tools pool would have it."""

    def __init__(self, tool: Tool, store: Notebook | None = None, limits: LimiterPolicy | None = None) -> None:
        catalogue = Catalogue()
        catalogue.add(tool)
        self.probe = Counts()
        self.store = store or Notebook()
        self.calls = ToolCalls(
            catalogue,
            Ledger(self.store),  # type: ignore[arg-type] # it needs get and put only
            clock=LoopClock(),
            probe=self.probe,
            random=lambda: 0.0,
            limits=limits,
        )

    async def send(
        self, call_id: str = "c1", *, ctx: Ctx | None = None, producer: str = "engine/r", **fields: Any
    ) -> Any:
        raw = msgpack.packb({"name": "act", "arguments": {}, "call_id": call_id, **fields})
        answer = await self.calls(event(raw, producer), ctx or Ctx())  # type: ignore[arg-type]
        return msgpack.unpackb(answer)


def event(raw: bytes, producer: str = "engine/r") -> Envelope:
    return envelope("TOOL_CALL", producer=producer, counter=1, tenant="t", session="s", lane=1, run="r", body=raw)


async def fine(arguments: Mapping[str, Any]) -> str:
    return '"fine"'


async def forever(arguments: Mapping[str, Any]) -> str:
    await asyncio.Event().wait()
    return ""


def error_of(answer: Mapping[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(answer["content"])["error"]
    return told


def test_a_call_is_answered_and_counted() -> None:
    """The value travels as JSON text; the counters name the tool and the code."""

    async def main() -> None:
        bench = Bench(Tool(fine))
        assert await bench.send() == {"content": '"fine"', "code": "", "retryable": False}
        assert ("tool.calls", {"tool": "act", "result": "OK"}) in bench.probe.seen
        assert bench.calls.statistics()["act"].in_flight == 0

    asyncio.run(main())


def test_x2_a_repeated_call_runs_once() -> None:
    """Same id and arguments -> first result without a second run; other arguments -> IDEMPOTENCY_MISMATCH."""

    async def main() -> None:
        tool = Tool(fine)
        bench = Bench(tool)
        first, second = await asyncio.gather(bench.send(), bench.send())
        third = await bench.send()
        assert first == second == third
        assert tool.runs == 1
        assert (await bench.send(arguments={"x": 1}))["code"] == "IDEMPOTENCY_MISMATCH"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("fields", "scopes", "code", "reason"),
    [
        ({"name": "nothing"}, frozenset(), "TOOL_UNKNOWN", None),
        ({}, frozenset({"tool:other"}), "TOOL_DENIED", "SCOPE"),
        ({"arguments": {"bad": 1}}, frozenset(), "INVALID_ARGUMENT", "bad"),
        ({"arguments": {"big": "x" * 1_048_576}}, frozenset(), "INVALID_ARGUMENT", "TOO_LARGE"),
    ],
)
def test_x3_refusals_run_nothing_and_leave_nothing(
    fields: dict[str, Any], scopes: frozenset[str], code: str, reason: str | None
) -> None:
    """Unknown, out of scope, not fitting, 1 MiB: a typed answer, no run, no record, and the next call works."""

    async def main() -> None:
        tool = Tool(fine)
        bench = Bench(tool)
        answer = await bench.send(ctx=Ctx(scopes), **fields)
        assert answer["code"] == code
        assert error_of(answer).get("reason") == reason
        assert (tool.runs, bench.store.values) == (0, {})
        assert (await bench.send())["code"] == ""

    asyncio.run(main())


def test_a_direct_call_is_told_to_the_session() -> None:
    """From a client: START, ARGS, END, RESULT of one entity in order; from a run: nothing."""

    async def main() -> None:
        bench = Bench(Tool(fine))
        ctx = Ctx()
        await bench.send(ctx=ctx, producer="client-1", arguments={"q": "ä"})
        assert [out.kind for out in ctx.outs] == [
            "TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END", "TOOL_CALL_RESULT"
        ]  # fmt: skip
        assert {out.entity for out in ctx.outs} == {"c1"}
        assert msgpack.unpackb(ctx.outs[0].body) == {"toolCallId": "c1", "toolCallName": "act"}
        assert json.loads(ctx.outs[1].body) == {"q": "ä"}
        assert msgpack.unpackb(ctx.outs[3].body)["content"] == '"fine"'
        quiet = Ctx()
        await bench.send("c2", ctx=quiet)
        assert quiet.outs == []
        broken = Ctx()
        await bench.calls(event(b"\xc1", "client-1"), broken)  # type: ignore[arg-type]
        assert [out.kind for out in broken.outs] == ["TOOL_CALL_RESULT"]

    asyncio.run(main())


def test_a_tool_that_raises_is_an_answer() -> None:
    """Any exception becomes TOOL_FAILED with its type, and is replayed as such, not run again."""

    async def main() -> None:
        async def act(arguments: Mapping[str, Any]) -> str:
            raise TimeoutError("inner")

        tool = Tool(act)
        bench = Bench(tool)
        answer = await bench.send()
        assert (answer["code"], error_of(answer)["reason"]) == ("TOOL_FAILED", "TimeoutError")
        assert await bench.send() == answer
        assert tool.runs == 1

    asyncio.run(main())


def test_the_nearer_of_tool_timeout_and_run_deadline_ends_a_call() -> None:
    """TOOL_TIMEOUT after the tool's own time, or the run's; a deadline already past starts nothing."""

    async def main() -> None:
        assert (await Bench(Tool(forever, timeout_s=0.02)).send())["code"] == "TOOL_TIMEOUT"
        soon = asyncio.get_running_loop().time() + 0.02
        assert (await Bench(Tool(forever)).send(ctx=Ctx(deadline=soon)))["code"] == "TOOL_TIMEOUT"
        tool = Tool(fine)
        answer = await Bench(tool).send(ctx=Ctx(deadline=0.0))
        assert (answer["code"], error_of(answer)["reason"], tool.runs) == ("TOOL_TIMEOUT", "DEADLINE", 0)

    asyncio.run(main())


def test_only_repeatable_tools_are_retried() -> None:
    """Unavailable twice, then fine: three attempts if idempotent, one answer of failure if not."""

    async def main() -> None:
        def flaky() -> Callable[[Mapping[str, Any]], Awaitable[str]]:
            left = [2]

            async def act(arguments: Mapping[str, Any]) -> str:
                if left[0]:
                    left[0] -= 1
                    raise ToolUnavailable("gone")
                return '"back"'

            return act

        tool = Tool(flaky(), idempotent=True)
        assert (await Bench(tool).send())["content"] == '"back"'
        assert tool.runs == 3
        reader = Tool(flaky(), effects=False)
        assert (await Bench(reader).send())["code"] == ""
        once = Tool(flaky())
        assert (await Bench(once).send())["code"] == "TOOL_UNAVAILABLE"
        assert once.runs == 1

    asyncio.run(main())


def test_a_tool_that_keeps_breaking_is_left_alone() -> None:
    """After ten timeouts the breaker answers TOOL_UNAVAILABLE with a time, without a run."""

    async def main() -> None:
        async def act(arguments: Mapping[str, Any]) -> str:
            raise ToolTimeout("slow")

        tool = Tool(act)
        bench = Bench(tool)
        for n in range(10):
            await bench.send(f"c{n}")
        answer = await bench.send("after")
        assert (answer["code"], error_of(answer)["reason"], tool.runs) == ("TOOL_UNAVAILABLE", "BREAKER_OPEN", 10)
        assert error_of(answer)["retryAfterMs"] > 0

    asyncio.run(main())


def test_callers_mistakes_do_not_open_the_breaker() -> None:
    """Ten refused arguments and ten errors the tool answered with leave it closed."""

    async def main() -> None:
        async def act(arguments: Mapping[str, Any]) -> str:
            raise ToolArguments("no such city") if arguments else ValueError("no")

        bench = Bench(Tool(act))
        for n in range(20):
            await bench.send(f"c{n}", arguments={"x": 1} if n % 2 else {})
        assert bench.calls.statistics()["act"].breaker == "closed"

    asyncio.run(main())


def test_cancelling_a_running_call_is_recorded_and_raised() -> None:
    """The handler leaves with CancelledError; a repetition is CANCELLED, never a second run."""

    async def main() -> None:
        tool = Tool(forever)
        bench = Bench(tool)
        task = asyncio.create_task(bench.send())
        for _ in range(20):
            await asyncio.sleep(0)
        assert tool.runs == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await bench.calls.close()
        assert (await bench.send())["code"] == "CANCELLED"
        assert tool.runs == 1

    asyncio.run(main())


def test_no_turn_in_time_is_overload_and_starts_nothing() -> None:
    """With every turn taken until the deadline: OVERLOADED, retryable, and the same id may come again."""

    async def main() -> None:
        tool = Tool(forever, timeout_s=30.0)
        bench = Bench(tool, limits=LimiterPolicy(AimdPolicy(initial=2, floor=2)))
        held = [asyncio.create_task(bench.send(f"held{n}")) for n in range(2)]
        for _ in range(20):
            await asyncio.sleep(0)
        answer = await bench.send("late", ctx=Ctx(deadline=asyncio.get_running_loop().time() + 0.02))
        assert (answer["code"], answer["retryable"], tool.runs) == ("OVERLOADED", True, 2)
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        await bench.calls.close()

    asyncio.run(main())


def test_a_crash_between_effect_and_record_is_an_unknown_outcome() -> None:
    """A second process on the same store answers OUTCOME_UNKNOWN and does not run it."""

    async def main() -> None:
        store = Notebook()
        crashed = asyncio.create_task(Bench(Tool(forever), store).send())
        for _ in range(20):
            await asyncio.sleep(0)
        tool = Tool(fine)
        answer = await Bench(tool, store).send()
        assert (answer["code"], tool.runs) == ("OUTCOME_UNKNOWN", 0)
        crashed.cancel()
        await asyncio.gather(crashed, return_exceptions=True)

    asyncio.run(main())


def test_a_result_beyond_the_limit_is_an_error() -> None:
    """More than 1 MiB is OUTPUT_TRUNCATED, not passed on."""

    async def main() -> None:
        async def act(arguments: Mapping[str, Any]) -> str:
            return "x" * (MAX_RESULT_BYTES + 1)

        answer = await Bench(Tool(act)).send()
        assert (answer["code"], error_of(answer)["reason"]) == ("TOOL_FAILED", "OUTPUT_TRUNCATED")

    asyncio.run(main())
