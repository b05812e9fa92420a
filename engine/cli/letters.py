"""`laneway dlq`: the dead letters of an engine: events that were given up."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias

import typer

from laneway.engine.cli.dialling import Ca, Target, TokenFile, dial
from laneway.engine.cli.terminal import show_table

__all__ = ["letters"]

letters = typer.Typer(no_args_is_help=True, help="Dead letters: events that were given up (scope admin).")

_Ids: TypeAlias = Annotated[list[int], typer.Argument(help="Numbers, as `list` shows them.")]
_Json: TypeAlias = Annotated[bool, typer.Option("--json", help="One JSON array.")]


@letters.command("list")
def list_letters(
    grpc: Target = "127.0.0.1:7700", token_file: TokenFile = None, tls_ca: Ca = None, as_json: _Json = False
) -> None:
    """Show the newest hundred."""
    _show(_call(grpc, token_file, tls_ca, "list", []), as_json)


@letters.command()
def drop(
    ids: _Ids, grpc: Target = "127.0.0.1:7700", token_file: TokenFile = None, tls_ca: Ca = None, as_json: _Json = False
) -> None:
    """Forget some."""
    _show(_call(grpc, token_file, tls_ca, "drop", ids), as_json)


@letters.command()
def redrive(
    ids: _Ids, grpc: Target = "127.0.0.1:7700", token_file: TokenFile = None, tls_ca: Ca = None, as_json: _Json = False
) -> None:
    """Dispatch some again; what is refused stays."""
    _show(_call(grpc, token_file, tls_ca, "redrive", ids), as_json)


def _call(target: str, token_file: Any, ca: Any, action: str, ids: list[int]) -> Sequence[Mapping[str, Any]]:
    import asyncio

    answered = asyncio.run(dial(target, token_file, ca).call("dlq", action=action, ids=ids))
    return list(answered)


def _show(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(rows))
        return
    show_table(
        ("id", "at", "tenant", "session", "code", "tries", "bytes", "why"), map(_cells, rows), empty="no dead letters"
    )


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["at_unix_s"]))
    fields = (row["id"], at, row["tenant"], row["session"], row["code"], row["attempts"], row["bytes"], row["message"])
    return tuple(str(field) for field in fields)
