"""`engine.tools`: what an embedder adds tools with.

Law of this file: adding is one line whatever the tool is (a Python function, a whole MCP server, an
object that implements ToolInvoker), before or after the engine has started.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast, overload

from laneway.actors.ports import Principal, ToolInvoker, ToolSpec
from laneway.actors.tools.catalogue import Catalogue
from laneway.engine.imports import load, path_of
from laneway.routing.errors import ConfigError

if TYPE_CHECKING:
    from laneway.engine.runtime.workers import WorkerPool
    from laneway.engine.tooling.mcp import MCPServer

__all__ = ["AddedTool", "Toolbox"]

_F = TypeVar("_F", bound=Callable[..., Any])


class AddedTool(NamedTuple):
    """One tool as it was added."""

    invoker: ToolInvoker
    """What it became."""
    given: object
    """What the embedder wrote."""
    named: str
    """The path it was given by, or empty."""
    options: Mapping[str, Any]

    @property
    def path(self) -> str | None:
        """The tool's import path, or None if it has none."""
        return self.named or path_of(self.given)


class Toolbox:
    """The tools of one engine.

    Args:
        workers: most worker processes for plain functions; they start when first needed.

    Attributes:
        servers: the MCP servers, in the order in which they were added.
        on_change: called after tools were added.
    """

    def __init__(self, workers: int = 2) -> None:
        self.catalogue = Catalogue()
        self._max_workers = workers
        self._workers: WorkerPool | None = None
        self._added: list[AddedTool] = []
        self.servers: list[MCPServer] = []
        self.on_change: Callable[[], None] = lambda: None

    @overload
    def add(self, tool: str, /, **options: Any) -> Callable[..., Any]: ...
    @overload
    def add(self, tool: _F, /, **options: Any) -> _F: ...
    @overload
    def add(self, /, **options: Any) -> Callable[[_F], _F]: ...
    def add(self, tool: Any = None, /, **options: Any) -> Any:
        """Add a function or ToolInvoker; also as `@engine.tools.add` or `@engine.tools.add(timeout_s=5)`.

        It may be named by its import path, ``module:function``, and must be importable by it where
        tools run on hosts. An async function runs on the event loop, a plain one in a worker process
        (it must be importable there), or on the loop with `inline=True` if it returns at once. Options
        are the fields of `ToolOptions`. Returns what was added. Raises ConfigError.
        """
        if tool is None:
            return lambda function: self.add(function, **options)
        given = load(tool) if isinstance(tool, str) else tool
        invoker = self._invoker(given, options)
        self.catalogue.add(invoker)
        self._added.append(AddedTool(invoker, given, tool if isinstance(tool, str) else "", options))
        self.on_change()
        return given

    def _invoker(self, tool: Any, options: Mapping[str, Any]) -> ToolInvoker:
        if hasattr(tool, "invoke") and hasattr(tool, "spec"):
            return cast("ToolInvoker", tool)
        if not callable(tool):
            raise ConfigError(f"{tool!r} is no tool: it must be callable, or have `spec` and `invoke`")
        from laneway.engine.runtime.workers import WorkerPool
        from laneway.engine.tooling.functions import function_tool

        if self._workers is None:
            self._workers = WorkerPool(self._max_workers)
        return function_tool(tool, self._workers, **options)

    @property
    def added(self) -> list[AddedTool]:
        """What was added one by one and is still in the catalogue, in order."""
        return [row for row in self._added if self.get(row.invoker.spec.name) is row.invoker]

    async def mcp(self, server: MCPServer) -> list[ToolSpec]:
        """Start an `MCPServer` and add its tools; the engine closes it. Returns what it offers.

        Raises ToolUnavailable or RuntimeUnavailable if it does not start.
        """
        tools = await server.start()
        self.catalogue.replace(f"mcp:{id(server)}", tools)
        self.servers.append(server)
        self.on_change()
        return [tool.spec for tool in tools]

    def specs(self, principal: Principal) -> list[ToolSpec]:
        """Return the rows this principal may call."""
        return self.catalogue.specs(principal)

    def get(self, name: str) -> ToolInvoker | None:
        """Return a tool by name, or None."""
        return next((tool for tool in self.catalogue if tool.spec.name == name), None)

    async def close(self) -> None:
        """Stop MCP servers and worker processes; idempotent."""
        servers, self.servers = self.servers, []
        for server in servers:
            await server.close()
        if self._workers is not None:
            await self._workers.close()
