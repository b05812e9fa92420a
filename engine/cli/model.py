"""`laneway model fetch`: the local model's weights, before they are needed."""

from __future__ import annotations

import typer

__all__ = ["model"]

model = typer.Typer(no_args_is_help=True, help="The local model.")


@model.callback()
def _group() -> None:
    """The local model."""


@model.command()
def fetch() -> None:
    """Download the weights of the local model (93 MB, once), check and unpack them."""
    import asyncio

    from laneway.engine.cli.progress import shown
    from laneway.engine.models.weights import fetch as fetch_weights

    with shown() as progress:
        path = asyncio.run(fetch_weights(progress))
    typer.echo(str(path))
