"""`laneway metrics`: what an engine measures now, or what any engine can tell.

Law of this file: the numbers are the engine's, the list is the catalogue's; nothing is added here.
"""

from __future__ import annotations

from typing import Annotated

import typer

from laneway.engine.cli.dialling import Ca, Target, TokenFile, dial

__all__ = ["metrics"]


def metrics(
    grpc: Target = "127.0.0.1:7700",
    token_file: TokenFile = None,
    tls_ca: Ca = None,
    catalogue: Annotated[bool, typer.Option("--list", help="Which metrics there are, as a Markdown table.")] = False,
) -> None:
    """Show an engine's metrics as Prometheus text (scope admin)."""
    if catalogue:
        from laneway.engine.telemetry.catalogue import markdown

        typer.echo(markdown(), nl=False)
        return
    import asyncio

    answered = asyncio.run(dial(grpc, token_file, tls_ca).call("metrics"))
    typer.echo(answered, nl=False)
