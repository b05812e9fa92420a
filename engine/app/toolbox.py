"""`engine.tools`: what an embedder adds tools with.

Law of this file: adding is one line whatever the tool is (a Python function, a whole MCP server, an
object that implements ToolInvoker), before or after the engine has started.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from laneway.actors.ports import Principal, ToolInvoker, ToolSpec
from laneway.actors.tools.catalogue import Catalogue

if TYPE_CHECKING:
    from laneway.engine.runtime.workers import WorkerPool

__all__ = ["Toolbox"]

_F = TypeVar("_F", bound=Callable[..., Any])


class Toolbox:
    """The tools of one engine.

    Args:
        workers: most worker processes for plain functions; they start when first needed.
    """

    def __init__(self, workers: int = 2) -> None:
        self.catalogue = Catalogue()
        self._max_workers = workers
        self._workers: WorkerPool | None = None
        self._servers: list[Any] = []

    @overload
    def add(self, tool: _F, /, **options: Any) -> _F: ...
    @overload
    def add(self, /, **options: Any) -> Callable[[_F], _F]: ...
    def add(self, tool: Any = None, /, **options: Any) -> Any:
        """Add a function or ToolInvoker; also as `@engine.tools.add` or `@engine.tools.add(timeout_s=5)`.

        An async function runs on the event loop, a plain one in a worker process (it must be
        importable there), or on the loop with `inline=True` if it returns at once. Options are the
        fields of `ToolOptions`. Returns what was added, unchanged. Raises ConfigError.
        """
        if tool is None:
            return lambda function: self.add(function, **options)
        if hasattr(tool, "invoke") and hasattr(tool, "spec"):
            self.catalogue.add(tool)
            return tool
        from laneway.engine.runtime.workers import WorkerPool
        from laneway.engine.tooling.functions import function_tool

        if self._workers is None:
            self._workers = WorkerPool(self._max_workers)
        self.catalogue.add(function_tool(tool, self._workers, **options))
        return tool

    async def mcp(self, server: Any) -> list[ToolSpec]:
        """Start an `MCPServer` and add its tools; the engine closes it. Returns what it offers.

        Raises ToolUnavailable or RuntimeUnavailable if it does not start.
        """
        tools = await server.start()
        self.catalogue.replace(f"mcp:{id(server)}", tools)
        self._servers.append(server)
        return [tool.spec for tool in tools]

    def specs(self, principal: Principal) -> list[ToolSpec]:
        """Return the rows this principal may call."""
        return self.catalogue.specs(principal)

    def get(self, name: str) -> ToolInvoker | None:
        """Return a tool by name, or None."""
        return next((tool for tool in self.catalogue if tool.spec.name == name), None)

    async def close(self) -> None:
        """Stop MCP servers and worker processes; idempotent."""
        servers, self._servers = self._servers, []
        for server in servers:
            await server.close()
        if self._workers is not None:
            await self._workers.close()
