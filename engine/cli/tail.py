"""`laneway tail`: what passes through an engine, live, one line an event."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer

from laneway.engine.cli.dialling import Ca, Target, TokenFile, dial
from laneway.engine.cli.terminal import printable

__all__ = ["tail"]

_POLL_S: Final = 0.5


def tail(
    grpc: Target = "127.0.0.1:7700",
    token_file: TokenFile = None,
    tls_ca: Ca = None,
    kind: Annotated[str, typer.Option(help="Only events of this kind.")] = "",
    session: Annotated[str, typer.Option(help="Only events of this session.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Show what is kept (up to 500 events) and leave.")] = False,
) -> None:
    """Follow the events of an engine (scope admin); bodies are not shown."""
    import asyncio
    from contextlib import suppress

    with suppress(KeyboardInterrupt):
        asyncio.run(_follow(dial(grpc, token_file, tls_ca), kind, session, as_json, once))


async def _follow(client: Any, kind: str, session: str, as_json: bool, once: bool) -> None:
    import asyncio

    after = 0
    while True:
        answered, _ = await client.call("tail", after=after, kind=kind, session=session)
        result = answered["result"]
        if result["last"] < after:  # the engine was restarted
            after = 0
            continue
        after = result["last"]
        for row in result["events"]:
            typer.echo(json.dumps(row) if as_json else _line(row))
        if once:
            return
        await asyncio.sleep(_POLL_S)


def _line(row: Mapping[str, Any]) -> str:
    at = time.strftime("%H:%M:%S", time.localtime(row["at"]))
    arrow = "->" if row["direction"] == "in" else "<-"
    where = f"{row['tenant']}/{row['session']}" + (f" run={row['run']}" if row["run"] else "")
    return printable(f"{at} {arrow} {row['kind']:<22} {row['lane']:<8} {row['bytes']:>7} B  {where}")
