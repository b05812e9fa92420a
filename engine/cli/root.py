"""All commands under one name, and how a failure is told.

Law of this file: a command module is light to import (typer and nothing else); what it needs, it
loads when it runs. A LanewayError is one line on stderr and exit code 1, never a traceback.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from laneway.engine.cli.chat import chat
from laneway.engine.cli.cluster import cluster
from laneway.engine.cli.doctor import doctor
from laneway.engine.cli.letters import letters
from laneway.engine.cli.metrics import metrics
from laneway.engine.cli.model import model
from laneway.engine.cli.ready import ready
from laneway.engine.cli.serve import serve
from laneway.engine.cli.tail import tail
from laneway.engine.cli.tools import tools
from laneway.routing.errors import LanewayError

__all__ = ["app"]


class _Commands(TyperGroup):
    """Tells a LanewayError as one line."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except LanewayError as error:
            label = f"{error.code}/{error.reason}" if error.reason else error.code
            typer.secho(f"laneway: {error.message} [{label}]", err=True, fg="red")
            raise typer.Exit(1) from error


app = typer.Typer(
    name="laneway",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Event dispatch for AI-agent platforms: lanes, credit, resume, shared state and one log.",
)
app.command()(serve)
app.command()(ready)
app.command()(chat)
app.command()(tail)
app.command()(tools)
app.command()(metrics)
app.add_typer(letters, name="dlq")
app.add_typer(cluster, name="cluster")
app.add_typer(model, name="model")
app.command()(doctor)


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
    """Event dispatch for AI-agent platforms: lanes, credit, resume, shared state and one log."""
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"laneway {installed('laneway')}")
        raise typer.Exit
