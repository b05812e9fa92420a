"""A real MCP server over stdio with tools that fail, hang, die and notice being cancelled."""

import asyncio
import os
import sys

from mcp.server.mcpserver import MCPServer
from mcp_types import ToolAnnotations

server = MCPServer("odd")
cancelled: list[str] = []


@server.tool()
def pid() -> str:
    """Tell the process id."""
    return str(os.getpid())


@server.tool()
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@server.tool()
def fail() -> str:
    """Fail."""
    raise ValueError("it is broken")


@server.tool(annotations=ToolAnnotations(readOnlyHint=True))
async def hang(label: str) -> str:
    """Never answer."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        cancelled.append(label)
        raise
    return ""


@server.tool()
def noticed() -> list[str]:
    """Which hanging calls were cancelled."""
    return cancelled


@server.tool()
async def die() -> str:
    """End the process in the middle of the call."""
    print("last words", file=sys.stderr, flush=True)
    os._exit(3)


if __name__ == "__main__":
    server.run()
