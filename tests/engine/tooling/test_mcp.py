"""MCP servers over stdio: real processes, among them mcp-server-time in its own environment."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from laneway.actors.ports import Context
from laneway.engine.tooling.mcp import MCPServer, McpTool, ServerCommand
from laneway.routing.errors import (
    ConfigError,
    OutcomeUnknown,
    ToolArguments,
    ToolError,
    ToolTimeout,
    ToolUnavailable,
)

ODD = ServerCommand(sys.executable, (str(Path(__file__).with_name("odd_server.py")),))


class Ctx:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


CONTEXT = cast("Context", Ctx())


def with_odd(check: Callable[[MCPServer, dict[str, McpTool]], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        async with MCPServer("odd", ODD, **options) as server:
            await check(server, {tool.spec.name: tool for tool in server.tools()})
        assert not server.connected

    asyncio.run(main())


async def ask(tool: McpTool, **arguments: Any) -> Any:
    return json.loads(await tool.invoke(arguments, CONTEXT))


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not happened():  # noqa: ASYNC110 - a process elsewhere sends no event
            await asyncio.sleep(0.01)


@pytest.mark.slow
def test_mcp_server_time_in_its_own_environment() -> None:
    """Fetched once into the cache, started, listed, called; its own dependencies stay apart from ours."""
    lines: list[str] = []

    async def main() -> None:
        server = MCPServer.managed("mcp-server-time==2026.10.19", name="time", prefix="time_", progress=lines.append)
        async with server:
            tools = {tool.spec.name: tool for tool in server.tools()}
            assert set(tools) == {"time_get_current_time", "time_convert_time"}
            asked = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
            told = await ask(tools["time_convert_time"], **asked)
            assert "21:00" in json.dumps(told)
            with pytest.raises(ToolArguments) as caught:
                tools["time_convert_time"].prepare({"source_timezone": "UTC"})
            assert "required" in caught.value.message
            with pytest.raises(ToolError):
                await tools["time_get_current_time"].invoke({"timezone": "Moon/Crater"}, CONTEXT)
            many = await asyncio.gather(*(ask(tools["time_get_current_time"], timezone="UTC") for _ in range(64)))
            assert len(many) == 64

    asyncio.run(main())


def test_tools_are_listed_and_called() -> None:
    """Structured results come back as JSON; the row carries schema, timeout and source."""

    async def check(server: MCPServer, tools: dict[str, McpTool]) -> None:
        assert "3" in json.dumps(await ask(tools["add"], a=1, b=2))
        spec = tools["add"].spec
        assert (spec.description, spec.timeout_s, spec.idempotent) == ("Add.", 30.0, False)
        assert set(spec.schema["properties"]) == {"a", "b"}
        assert spec.metadata == {"source": "mcp", "server": "odd"}
        with pytest.raises(ToolArguments) as caught:
            tools["add"].prepare({"a": 1, "b": "two"})
        assert caught.value.reason == "b"

    with_odd(check)


def test_a_failed_tool_and_an_unknown_one_are_typed() -> None:
    """is_error becomes ToolError with its text; a name the server does not know is an error, not a hang."""

    async def check(server: MCPServer, tools: dict[str, McpTool]) -> None:
        with pytest.raises(ToolError, match="Error executing tool fail"):
            await ask(tools["fail"])
        with pytest.raises(ToolError):
            await server.call("nothing", {}, timeout_s=10)
        assert await ask(tools["pid"])

    with_odd(check)


def test_cancel_and_timeout_end_the_call_and_never_the_server() -> None:
    """The server's handler is cancelled each time, and the same process answers the next call."""

    async def check(server: MCPServer, tools: dict[str, McpTool]) -> None:
        before = await ask(tools["pid"])
        with pytest.raises(ToolTimeout):
            await server.call("hang", {"label": "late"}, timeout_s=0.3)
        task = asyncio.create_task(ask(tools["hang"], label="cancelled"))
        await asyncio.sleep(0)
        await ask(tools["pid"])  # one round trip later the hanging call has arrived
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(200):
            seen = json.dumps(await ask(tools["noticed"]))
            if "late" in seen and "cancelled" in seen:
                break
        else:
            pytest.fail(f"the server noticed only {seen}")
        assert await ask(tools["pid"]) == before
        assert server.connections == 1

    with_odd(check)


def test_a_killed_server_comes_back_by_itself() -> None:
    """Noticed while idle, started again, tools announced again, calls work."""
    announced: list[int] = []

    async def check(server: MCPServer, tools: dict[str, McpTool]) -> None:
        first = int(_text(await ask(tools["pid"])))
        os.kill(first, signal.SIGKILL)
        await until(lambda: server.connections == 2)
        second = int(_text(await ask(tools["pid"])))
        assert second != first
        assert announced == [6, 6]

    with_odd(check, on_tools=lambda tools: announced.append(len(tools)))


def _text(value: Any) -> str:
    return str(value["result"] if isinstance(value, dict) else value)


def test_a_server_that_dies_during_a_call() -> None:
    """Not repeatable -> OUTCOME_UNKNOWN; declared idempotent -> TOOL_UNAVAILABLE, to be tried again."""

    async def check(server: MCPServer, tools: dict[str, McpTool]) -> None:
        with pytest.raises(OutcomeUnknown):
            await ask(tools["die"])
        await until(lambda: server.connections == 2)
        with pytest.raises(ToolUnavailable) as caught:
            await server.call("die", {}, timeout_s=10, repeatable=True)
        assert caught.value.retry_after_ms

    with_odd(check)


def test_hints_count_only_when_trusted() -> None:
    """readOnlyHint makes a tool repeatable only with trust_hints; names can be declared by the embedder."""

    async def plain(server: MCPServer, tools: dict[str, McpTool]) -> None:
        assert (tools["hang"].spec.effects, tools["hang"].spec.idempotent) == (True, False)
        assert tools["add"].spec.idempotent

    async def trusted(server: MCPServer, tools: dict[str, McpTool]) -> None:
        assert (tools["hang"].spec.effects, tools["hang"].spec.idempotent) == (False, True)

    with_odd(plain, idempotent=["add"])
    with_odd(trusted, trust_hints=True)


def test_a_server_that_cannot_start_says_why() -> None:
    """A missing program, and one that ends at once with its last words, are TOOL_UNAVAILABLE from start."""

    async def main() -> None:
        with pytest.raises(ToolUnavailable) as caught:
            await MCPServer("none", ServerCommand("/no/such/program")).start()
        assert caught.value.reason == "SERVER_START"
        words = ServerCommand(sys.executable, ("-c", "import sys; sys.exit('no licence found')"))
        with pytest.raises(ToolUnavailable, match="no licence found"):
            await MCPServer("mute", words).start()
        silent = ServerCommand(sys.executable, ("-c", "import time; time.sleep(60)"))
        with pytest.raises(ToolUnavailable):
            await MCPServer("silent", silent, connect_s=0.5).start()

    asyncio.run(main())


def test_after_close_calls_are_refused_and_a_second_start_too() -> None:
    """A closed server is TOOL_UNAVAILABLE at once; starting twice is a ConfigError."""

    async def main() -> None:
        server = MCPServer("odd", ODD)
        await server.start()
        with pytest.raises(ConfigError):
            await server.start()
        (tool,) = [tool for tool in server.tools() if tool.spec.name == "pid"]
        await server.close()
        await server.close()
        with pytest.raises(ToolUnavailable):
            await ask(tool)

    asyncio.run(main())
