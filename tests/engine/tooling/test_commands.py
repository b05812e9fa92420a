"""How servers' processes are started, as plain data and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from laneway.engine.tooling.commands import ManagedCommand, ServerCommand, command_of, plain_command
from laneway.engine.tooling.mcp import MCPServer
from laneway.routing.errors import ConfigError


@pytest.mark.parametrize(
    "command",
    [
        ServerCommand("prog"),
        ServerCommand("prog", ("-a", "b"), {"KEY": "value"}, Path("/srv")),
        ManagedCommand("mcp-server-time==2026.10.19"),
        ManagedCommand("mcp-server-time==2026.10.19", "other", ("--x",), Path("/cache"), 5.0),
    ],
)
def test_a_command_survives_the_way(command: ServerCommand | ManagedCommand) -> None:
    """Plain data and back are the same settings."""
    plain = plain_command(command)
    assert plain is not None
    assert command_of(plain) == command


def test_a_function_is_no_plain_data() -> None:
    """Neither a preparation of one's own nor one that reports progress."""

    async def prepare() -> ServerCommand:
        return ServerCommand("prog")

    assert plain_command(prepare) is None
    assert plain_command(ManagedCommand("a==1", progress=print)) == plain_command(ManagedCommand("a==1"))


def test_a_requirement_of_another_form_is_refused_at_once() -> None:
    """Before anything is installed."""
    with pytest.raises(ConfigError):
        ManagedCommand("mcp-server-time; rm")


def test_a_server_tells_how_to_make_it_again() -> None:
    """With every option; not if a function of the embedder is part of it."""
    options = {"prefix": "x_", "timeout_s": 3.0, "scopes": frozenset({"b", "a"}), "idempotent": ("now",)}
    for server in (
        MCPServer("time", ServerCommand("prog"), **options),
        MCPServer.managed("mcp-server-time==2026.10.19", args=["-v"], connect_s=4.0, trust_hints=True),
    ):
        recipe = server.recipe
        assert recipe is not None
        assert MCPServer.from_recipe(recipe).recipe == recipe
    assert MCPServer("time", ServerCommand("prog"), on_tools=print).recipe is None
