"""`laneway tools`: the catalogue as an engine offers it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from laneway.engine.cli.dialling import Ca, Target, TokenFile, dial
from laneway.engine.cli.terminal import show_table

__all__ = ["tools"]


def tools(
    grpc: Target = "127.0.0.1:7700",
    token_file: TokenFile = None,
    tls_ca: Ca = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
) -> None:
    """List the tools you may call."""
    import asyncio

    rows = asyncio.run(dial(grpc, token_file, tls_ca).tools())
    if as_json:
        typer.echo(json.dumps(rows))
        return
    show_table(
        ("tool", "arguments", "does"),
        [(row["name"], _arguments(row["schema"]), row["description"].partition("\n")[0]) for row in rows],
        empty="no tools",
    )


def _arguments(schema: Mapping[str, Any]) -> str:
    required = schema.get("required") or ()
    return ", ".join(name if name in required else f"[{name}]" for name in schema.get("properties") or ())
