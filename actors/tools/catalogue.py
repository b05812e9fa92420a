"""The catalogue: which tools there are, and who may call which.

Law of this file: a name means one tool. A principal may call a tool if it holds every scope the tool
asks for and, when the principal carries any `tool:` scope at all, one of them names this tool (or is
`tool:*`): such scopes are an allow-list. `admin` may call everything. Unknown and forbidden are told
apart by code, as the tool's name is not a secret but its use is a right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from laneway.actors.ports import Principal, ToolInvoker, ToolSpec
from laneway.routing.errors import ConfigError, ToolDenied, UnknownTool

__all__ = ["Catalogue", "may_call"]

_PREFIX: Final = "tool:"


def may_call(principal: Principal, spec: ToolSpec) -> bool:
    """True if this principal may call this tool."""
    scopes = principal.scopes
    if "admin" in scopes:
        return True
    if not spec.scopes <= scopes:
        return False
    listed = [scope for scope in scopes if scope.startswith(_PREFIX)]
    return not listed or "tool:*" in listed or f"{_PREFIX}{spec.name}" in listed


class Catalogue:
    """Name -> tool; tools of one source (an MCP server) can be replaced as a whole."""

    def __init__(self) -> None:
        self._tools: dict[str, ToolInvoker] = {}
        self._source: dict[str, str] = {}

    def add(self, tool: ToolInvoker, source: str = "") -> None:
        """Add one tool. Raises ConfigError if its name is empty, too long or taken."""
        name = tool.spec.name
        if not 0 < len(name) <= 128:
            raise ConfigError(f"a tool's name has 1 to 128 characters, not {len(name)}; rename {name[:40]!r}")
        if name in self._tools:
            raise ConfigError(f"there is already a tool {name!r}; rename one of them or remove the first")
        self._tools[name] = tool
        self._source[name] = source

    def remove(self, name: str) -> None:
        """Remove one tool. Raises UnknownTool if there is none."""
        if self._tools.pop(name, None) is None:
            raise UnknownTool(f"there is no tool {name!r} to remove")
        del self._source[name]

    def replace(self, source: str, tools: Iterable[ToolInvoker]) -> None:
        """Make these the tools of a source; all or nothing. Raises ConfigError on a name clash."""
        rest = {name: tool for name, tool in self._tools.items() if self._source[name] != source}
        fresh = Catalogue()
        for name, tool in rest.items():
            fresh.add(tool, self._source[name])
        for tool in tools:
            fresh.add(tool, source)
        self._tools, self._source = fresh._tools, fresh._source

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def __iter__(self) -> Iterator[ToolInvoker]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def find(self, name: str, principal: Principal) -> ToolInvoker:
        """Return the tool. Raises UnknownTool, or ToolDenied if it is outside the principal's scopes."""
        tool = self._tools.get(name)
        if tool is None:
            raise UnknownTool(f"there is no tool {name[:128]!r} in the catalogue; list the tools to see their names")
        if not may_call(principal, tool.spec):
            raise ToolDenied(f"the principal {principal.subject!r} has no right to call {name!r}", reason="SCOPE")
        return tool

    def specs(self, principal: Principal) -> list[ToolSpec]:
        """Rows this principal may call, by name. O(n log n)."""
        rows = [tool.spec for tool in self._tools.values() if may_call(principal, tool.spec)]
        return sorted(rows, key=lambda spec: spec.name)
