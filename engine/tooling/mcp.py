"""MCP servers as tools: one long-lived connection each, kept by one task.

Law of this file: the keeper task alone enters and leaves the connection (an anyio cancel scope must be
left by the task that entered it); callers only borrow the client. Cancelling or timing out a call
tells the server about that call and never ends the server. A server that dies is started again with
full-jitter backoff; calls that were under way end as OutcomeUnknown, or as retryable ToolUnavailable
if the tool is repeatable. Servers' own hints about idempotence count only when the embedder says so.

`mcp` (0.4 s) is imported when the first server connects. One stdio connection carries about 1,200
calls/s (measured with mcp-server-time), so one per server is enough.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from laneway.actors.ports import Context, ToolSpec
from laneway.actors.tools.desk import Effect
from laneway.engine.tooling.commands import ManagedCommand, ServerCommand, command_of, plain_command
from laneway.engine.tooling.environments import Progress
from laneway.engine.tooling.results import ArgumentChecker, json_text
from laneway.routing.backoff import full_jitter
from laneway.routing.errors import (
    ConfigError,
    LanewayError,
    OutcomeUnknown,
    ToolArguments,
    ToolError,
    ToolTimeout,
    ToolUnavailable,
)

if TYPE_CHECKING:
    from mcp import Client
    from mcp_types import RequestParamsMeta

__all__ = ["MCPServer", "McpTool", "ServerCommand"]

_BACKOFF_BASE_S: Final = 0.5
_BACKOFF_CAP_S: Final = 20.0
_HEALTHY_S: Final = 60.0
_REJOIN_S: Final = 5.0
"""How long a call waits for a server that is being started again."""
_CLOSE_S: Final = 10.0
_MAX_PAGES: Final = 100
_MAX_TOOLS: Final = 1000


class MCPServer:
    """One MCP server over stdio.

    Args:
        name: for messages, and as source in the catalogue.
        command: how to start it, or a coroutine function that prepares it and tells how.
        prefix: put before each tool's name.
        timeout_s: longest call. connect_s: longest start. concurrency: calls under way at once.
        scopes: scopes every tool of it asks for.
        idempotent: names (as the server gives them) of tools that may be run again.
        trust_hints: believe the server's readOnlyHint and idempotentHint.
        on_tools: told the tools after every (re)connection.

    Use it as ``async with MCPServer(...) as server``, or `start` and `close`.
    """

    def __init__(
        self,
        name: str,
        command: ServerCommand | ManagedCommand | Callable[[], Awaitable[ServerCommand]],
        *,
        prefix: str = "",
        timeout_s: float = 30.0,
        connect_s: float = 30.0,
        concurrency: int = 32,
        scopes: frozenset[str] = frozenset(),
        idempotent: Sequence[str] = (),
        trust_hints: bool = False,
        on_tools: Callable[[list[McpTool]], None] | None = None,
    ) -> None:
        self.name = name
        self._recipe = {
            "prefix": prefix,
            "timeout_s": timeout_s,
            "connect_s": connect_s,
            "concurrency": concurrency,
            "scopes": sorted(scopes),
            "idempotent": list(idempotent),
            "trust_hints": trust_hints,
        }
        self._command = command
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._connect_s = connect_s
        self._scopes = scopes
        self._idempotent = frozenset(idempotent)
        self._trust_hints = trust_hints
        self._on_tools = on_tools
        self._turns = asyncio.Semaphore(concurrency)
        self._client: Client | None = None
        self._connected = asyncio.Event()
        self._closing = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._tools: list[McpTool] = []
        self._failure = ""
        self._wait_s = 0.0
        self.connections = 0

    @classmethod
    def managed(
        cls,
        requirement: str,
        *,
        name: str = "",
        executable: str = "",
        args: Sequence[str] = (),
        directory: Path | None = None,
        progress: Progress | None = None,
        install_s: float = 300.0,
        **options: Any,
    ) -> MCPServer:
        """A server from the package index, installed on first start into an environment of its own.

        Args:
            requirement: ``mcp-server-time==2026.10.19``.
            executable: its console script; default the package's name. args: its arguments.
            directory: where environments are kept; progress: told each line of an installation.
            options: as for the class.

        Raises:
            ConfigError: the requirement has another form. `start` raises ToolUnavailable(INSTALL_FAILED).
        """
        command = ManagedCommand(requirement, executable, tuple(args), directory, install_s, progress)
        return cls(name or command.package, command, **options)

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> MCPServer:
        """Make the server that another process told of, see `recipe`."""
        given = dict(recipe)
        name, command, scopes = given.pop("name"), command_of(given.pop("command")), frozenset(given.pop("scopes"))
        return cls(name, command, scopes=scopes, **given)

    @property
    def recipe(self) -> dict[str, Any] | None:
        """All it was made from, as plain data; None if a function of yours is part of it."""
        command = plain_command(self._command)
        if command is None or self._on_tools is not None:
            return None
        return {"name": self.name, "command": command, **self._recipe}

    async def __aenter__(self) -> MCPServer:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @property
    def connected(self) -> bool:
        """True while calls can be made."""
        return self._client is not None

    @property
    def queue_wait_s(self) -> float:
        """How long the most recent call waited for one of the server's turns, in seconds."""
        return self._wait_s

    async def start(self) -> list[McpTool]:
        """Prepare, connect and list; returns the tools. Raises ToolUnavailable, ConfigError."""
        if self._keeper is not None:
            raise ConfigError(f"MCP server {self.name!r} was started already; make another for another connection")
        prepared = self._command if isinstance(self._command, ServerCommand) else await self._command()
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._keeper = asyncio.create_task(self._keep(prepared, first), name=f"mcp-{self.name}")
        try:
            await first
        except BaseException:
            await self.close()
            raise
        return self.tools()

    async def close(self) -> None:
        """End the connection and the server process. Idempotent."""
        self._closing.set()
        if self._keeper is not None:
            if self._client is None:
                self._keeper.cancel()  # still connecting or waiting to
            _, late = await asyncio.wait({self._keeper}, timeout=_CLOSE_S)
            if late:
                self._keeper.cancel()
                await asyncio.wait({self._keeper}, timeout=_CLOSE_S)

    def tools(self) -> list[McpTool]:
        """The tools of the latest connection."""
        return list(self._tools)

    async def _keep(self, command: ServerCommand, first: asyncio.Future[None]) -> None:
        attempt = 0
        while not self._closing.is_set():
            began = time.monotonic()
            try:
                await self._stay_connected(command, first)
            except Exception as error:
                self._failure = _reason(error)
            if not first.done():
                first.set_exception(ToolUnavailable(self._gone_message(), reason="SERVER_START"))
                return
            attempt = 0 if time.monotonic() - began >= _HEALTHY_S else attempt + 1
            pause_s = full_jitter(attempt, _BACKOFF_BASE_S, _BACKOFF_CAP_S, random.random)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._closing.wait()

    async def _stay_connected(self, command: ServerCommand, first: asyncio.Future[None]) -> None:
        from mcp import Client

        from laneway.engine.tooling.stdio import ServerLog, watched_stdio

        gone = asyncio.Event()
        with ServerLog() as log:
            try:
                async with AsyncExitStack() as stack:
                    async with asyncio.timeout(self._connect_s):
                        transport = watched_stdio(command.command, command.args, command.env, command.cwd, log, gone)
                        client = await stack.enter_async_context(Client(transport))
                        self._tools = await self._list(client)
                    self._opened(client, first)
                    await _either(gone, self._closing)
            except Exception as error:
                raise ToolUnavailable(f"{_reason(error)}; its log ends: {log.tail() or '(empty)'}") from error
            finally:
                self._client = None
                self._connected.clear()
            self._failure = f"it ended; its log ends: {log.tail() or '(empty)'}"

    def _opened(self, client: Client, first: asyncio.Future[None]) -> None:
        self._client = client
        self.connections += 1
        self._connected.set()
        if not first.done():
            first.set_result(None)
        if self._on_tools is not None:
            self._on_tools(self.tools())

    async def _list(self, client: Client) -> list[McpTool]:
        found: list[McpTool] = []
        cursor: str | None = None
        for _ in range(_MAX_PAGES):
            page = await client.list_tools(cursor=cursor)
            found += [McpTool(self, row.name, self._spec(row)) for row in page.tools]
            cursor = page.next_cursor
            if not cursor or len(found) >= _MAX_TOOLS:
                break
        return found[:_MAX_TOOLS]

    def _spec(self, row: Any) -> ToolSpec:
        hints = row.annotations if self._trust_hints else None
        reads = bool(hints and hints.read_only_hint)
        return ToolSpec(
            name=self._prefix + row.name,
            description=row.description or "",
            schema=row.input_schema,
            timeout_s=self._timeout_s,
            idempotent=row.name in self._idempotent or reads or bool(hints and hints.idempotent_hint),
            effects=not reads,
            scopes=self._scopes,
            metadata={"source": "mcp", "server": self.name},
        )

    async def call(
        self, name: str, arguments: Mapping[str, Any], *, timeout_s: float, repeatable: bool = False, trace: str = ""
    ) -> str:
        """Call one tool by the server's own name and return JSON text.

        Raises:
            ToolTimeout, ToolArguments, ToolError (the tool said it failed), ToolUnavailable, OutcomeUnknown.
        """
        asked_at = time.monotonic()
        async with self._turns:
            self._wait_s = time.monotonic() - asked_at
            client = await self._borrow(min(_REJOIN_S, timeout_s))
            left_s = max(0.001, timeout_s - (time.monotonic() - asked_at))
            try:
                result = await client.call_tool(
                    name,
                    dict(arguments),
                    read_timeout_seconds=left_s,
                    meta=cast("RequestParamsMeta", {"traceparent": trace}) if trace else None,
                )
            except Exception as error:
                raise self._translated(name, error, repeatable, left_s) from error
        text = json_text(result)
        if result.is_error:
            raise ToolError(f"{name!r} of {self.name!r} answered with an error: {text[:4000]}", reason="IS_ERROR")
        return text

    async def _borrow(self, wait_s: float) -> Client:
        if self._client is None and not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._connected.wait()
        if self._client is None:
            raise ToolUnavailable(self._gone_message(), reason="SERVER_GONE", retry_after_ms=1000)
        return self._client

    def _gone_message(self) -> str:
        return f"MCP server {self.name!r} is not running: {self._failure or 'it was closed'}"

    def _translated(self, name: str, error: Exception, repeatable: bool, timeout_s: float) -> LanewayError:
        from mcp.shared.exceptions import MCPError
        from mcp_types import CONNECTION_CLOSED, INVALID_PARAMS, REQUEST_TIMEOUT

        code = error.code if isinstance(error, MCPError) else CONNECTION_CLOSED
        if code == REQUEST_TIMEOUT:
            return ToolTimeout(
                f"{name!r} of {self.name!r} had not answered after {timeout_s:.1f} s; it was told to stop"
            )
        if code == INVALID_PARAMS:
            return ToolArguments(f"{self.name!r} refused the arguments of {name!r}: {error}", reason="arguments")
        if code != CONNECTION_CLOSED:
            return ToolError(f"{name!r} of {self.name!r} failed: {error}", reason=f"MCP_{code}")
        if repeatable:
            return ToolUnavailable(f"{self.name!r} ended during {name!r}", reason="SERVER_GONE", retry_after_ms=1000)
        return OutcomeUnknown(
            f"{self.name!r} ended while {name!r} was under way; check its effect, then call again under a new id"
        )


class McpTool:
    """One tool of a server as a ToolInvoker."""

    def __init__(self, server: MCPServer, remote_name: str, spec: ToolSpec) -> None:
        self._server = server
        self._remote_name = remote_name
        self._spec = spec
        self._checker = ArgumentChecker(spec.schema)

    @property
    def spec(self) -> ToolSpec:
        """Its catalogue row."""
        return self._spec

    @property
    def queue_wait_s(self) -> float:
        """How long the server's most recent call waited for a turn, in seconds."""
        return self._server.queue_wait_s

    def prepare(self, arguments: Mapping[str, Any]) -> Effect:
        """See `Prepares.prepare`: the schema is the server's, which may still refuse them."""
        self._checker.check(arguments)
        return partial(self.invoke, arguments)

    async def invoke(self, arguments: Mapping[str, Any], context: Context) -> str:
        """Call it once; see `MCPServer.call`."""
        repeatable = self._spec.idempotent or not self._spec.effects
        return await self._server.call(
            self._remote_name, arguments, timeout_s=self._spec.timeout_s, repeatable=repeatable, trace=context.trace
        )


async def _either(*events: asyncio.Event) -> None:
    waits = {asyncio.ensure_future(event.wait()) for event in events}
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    if isinstance(error, LanewayError):
        return error.message
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
